"""`checkpoint=` finds a model by any of its names, and refuses one that is not whole and itself."""

import json
import shutil

import pytest
import yaml

from primum.checkpoints import released
from primum.checkpoints.resolve import resolve
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError


@pytest.fixture
def run(adapter_run, tmp_path):
    """A copy that a test may harm."""
    return shutil.copytree(adapter_run, tmp_path / "run")


def change_manifest(run, change):
    file = run / "manifest.yaml"
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content))


def test_a_run_its_manifest_and_its_model_directory_are_one_checkpoint(run, adapter_run):
    by_run, by_manifest, by_model = (
        resolve(run),
        resolve(run / "manifest.yaml"),
        resolve(str(run / "model")),
    )
    assert by_run.kind == "adapter"
    assert by_run.name == "alignment/tiny"
    assert by_run.base == str(adapter_run.parent / "base")
    assert by_run.directory is not None and by_run.directory.samefile(run / "model")
    assert by_run.fingerprint == by_manifest.fingerprint == by_model.fingerprint
    assert by_model.manifest is not None
    assert by_run.fingerprint == resolve(adapter_run).fingerprint, "a copy elsewhere is the same"


def test_a_plain_directory_is_taken_without_a_manifest(run, tmp_path):
    full = resolve(make_tiny(tmp_path / "tiny"))
    assert (full.kind, full.base, full.manifest) == ("full", None, None)
    assert full.fingerprint == resolve(make_tiny(tmp_path / "again")).fingerprint
    assert full.fingerprint != resolve(make_tiny(tmp_path / "other", seed=1)).fingerprint
    adapter = resolve(shutil.copytree(run / "model", tmp_path / "adapter"))
    assert adapter.kind == "adapter"
    assert adapter.base == resolve(run).base


def test_a_hub_id_is_named_and_not_downloaded():
    found = resolve("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert (found.kind, found.directory) == ("full", None)
    assert found.base == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_a_package_and_a_gguf_file_are_known_by_their_bytes(tmp_path, monkeypatch):
    package = tmp_path / "packed_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('never imported')")
    (package / "model.gguf").write_bytes(b"GGUF one")
    monkeypatch.syspath_prepend(tmp_path)
    one = resolve("package:packed_model")
    assert (one.kind, one.base) == ("full", "package:packed_model")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF one")
    assert resolve(file).base == str(file)
    (package / "model.gguf").write_bytes(b"GGUF two")
    assert resolve("package:packed_model").fingerprint != one.fingerprint


def test_an_entry_is_found_by_its_whole_or_short_name():
    for name, file in released.entries().items():
        found = resolve(name)
        assert found.manifest is not None
        base = yaml.safe_load(file.read_text())["base"]
        assert found.base == (base["name"] if base else None)  # none: the weights are all of it
    assert resolve("smollm2_135m").fingerprint == resolve("language/smollm2_135m").fingerprint


def test_a_misspelt_entry_suggests_the_nearest():
    with pytest.raises(UserError, match="language/smollm2_135m"):
        resolve("smolm2_135m")


@pytest.mark.parametrize("text", ["", "nothing", "./a/b", "/a/b", "a/b/c", "a/b.yaml", "a b/c"])
def test_what_names_nothing_is_told(text):
    with pytest.raises(UserError):
        resolve(text)


def test_altered_weights_are_refused(run):
    file = run / "model" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256") as caught:
        resolve(run)
    assert caught.value.file == file


def test_an_altered_template_is_refused(run):
    file = run / "model" / "chat_template.jinja"
    file.write_text(file.read_text() + " ")
    with pytest.raises(UserError, match="SHA-256") as caught:
        resolve(run)
    assert caught.value.file == file


def test_an_altered_hash_in_the_manifest_is_refused(run):
    change_manifest(
        run, lambda c: c["weights"]["files"].update({"adapter_model.safetensors": "0" * 64})
    )
    with pytest.raises(UserError, match="SHA-256"):
        resolve(run)


def test_an_altered_base_is_refused(run, tmp_path):
    other = make_tiny(tmp_path / "base", seed=1)
    change_manifest(run, lambda c: c["base"].update(name=str(other)))
    with pytest.raises(UserError, match="base model") as caught:
        resolve(run)
    assert caught.value.file == other / "model.safetensors"


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
@pytest.mark.parametrize("with_manifest", [True, False])
def test_truncated_weights_are_refused(run, keep, with_manifest):
    file = run / "model" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    if not with_manifest:
        (run / "manifest.yaml").unlink()
    with pytest.raises(UserError, match="truncated") as caught:
        resolve(run if with_manifest else run / "model")
    assert caught.value.file == file


def test_missing_weights_are_told(run):
    (run / "model" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="missing"):
        resolve(run)
    (run / "manifest.yaml").unlink()
    with pytest.raises(UserError, match="missing"):
        resolve(run / "model")


def test_a_run_that_did_not_end_is_told_from_a_model(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(UserError, match="did not come to its end"):
        resolve(tmp_path)


def test_a_shard_named_in_the_index_must_be_there(tmp_path):
    folder = make_tiny(tmp_path / "tiny")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="missing") as caught:
        resolve(folder)
    assert caught.value.file == folder / "model-2.safetensors"
    index["weight_map"]["b"] = "../../elsewhere.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="outside"):
        resolve(folder)


def test_pickles_are_refused(tmp_path):
    folder = make_tiny(tmp_path / "tiny")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle"):
        resolve(folder)
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    with pytest.raises(UserError, match="run's directory"):
        resolve(tmp_path / "last.ckpt")


def test_a_pickle_laid_beside_verified_weights_is_refused(run):
    (run / "model" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="not in the manifest"):
        resolve(run)


def test_remote_code_is_refused_unless_asked_for(tmp_path):
    folder = make_tiny(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="trust_remote_code=true"):
        resolve(folder)
    assert resolve(folder, trust_remote_code=True).trust_remote_code


def test_a_manifest_that_would_run_a_command_is_refused(run):
    change_manifest(
        run, lambda c: c["module"].update(hook={"_target_": "os.system", "command": ""})
    )
    with pytest.raises(UserError, match=r"`os\.system`") as caught:
        resolve(run)
    assert caught.value.file == run / "manifest.yaml"


def test_a_toy_package_is_built_once_it_is_trusted(tmp_path, monkeypatch):
    import torch

    from primum.checkpoints.export import save_state
    from primum.checkpoints.manifest import Manifest, hashes, write_manifest

    (tmp_path / "toylab.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n    pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network = torch.nn.Linear(3, 2)
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    save_state(network.state_dict(), run / "model" / "model.safetensors")
    weights = {"directory": "model", "format": "module", "files": hashes(run / "model")}
    module = {"_target_": "toylab.Net", "in_features": 3, "out_features": 2}
    write_manifest(Manifest("toy/net", "1", module, weights), run)
    with pytest.raises(UserError, match="trusted_modules"):
        resolve(run)
    found = resolve(run, trusted_modules=["toylab"])
    built = found.build_module()
    assert type(built).__name__ == "Net"
    assert torch.equal(built.weight, network.weight)
    change_manifest(run, lambda c: c["module"].update(out_features=5))
    with pytest.raises(UserError, match="cannot be rebuilt"):
        resolve(run, trusted_modules=["toylab"]).build_module()
    assert resolve(run, trusted_modules=["toylab"]).fingerprint != found.fingerprint
