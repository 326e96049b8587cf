"""A run leaves a directory that loads without us; merging keeps what the model says."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from lightning import LightningModule, Trainer
from tests.checkpoints.tiny_run import ANSWERS, make_run
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from primum.checkpoints.export import leave_run
from primum.checkpoints.golden import PROMPTS, greedy, read_golden, stop_ids
from primum.checkpoints.loading import load
from primum.checkpoints.manifest import read_manifest
from primum.checkpoints.merge import export
from primum.checkpoints.resolve import resolve
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError

WITHOUT_US = """
import sys
sys.modules["primum"] = None  # importing it would fail
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, prompt = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
tokenizer = AutoTokenizer.from_pretrained(adapter)
ids = tokenizer.apply_chat_template(
    [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt",
    return_dict=True,
)
out = model.generate(**ids, do_sample=False, max_new_tokens=20)
print(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
"""


@pytest.mark.seconds
def test_a_run_loads_without_primum(adapter_run):
    base = adapter_run.parent / "base"
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, base, adapter_run / "model", "What is 17 + 25?"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.strip().splitlines()[-1] == "42"
    files = {file.name for file in (adapter_run / "model").iterdir()}
    assert {"chat_template.jinja", "generation_config.json", "tokenizer.json"} <= files
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in (adapter_run / "model").iterdir())
    config = GenerationConfig.from_pretrained(adapter_run / "model")
    assert AutoTokenizer.from_pretrained(base).eos_token_id in config.eos_token_id


def test_only_the_adapter_is_kept(adapter_run):
    from safetensors import safe_open

    with safe_open(adapter_run / "model" / "adapter_model.safetensors", "pt") as file:
        assert all("lora_" in key for key in file.keys())  # noqa: SIM118
        assert len(file.keys()) == 2 * 7 * 2  # A and B of seven linear layers in two blocks


def test_the_manifest_tells_where_the_model_came_from(adapter_run):
    manifest = read_manifest(adapter_run / "manifest.yaml")
    assert (manifest.name, manifest.run_id) == ("alignment/tiny", "run")
    assert manifest.weights["format"] == "adapter"
    assert manifest.base is not None
    assert "model.safetensors" in manifest.base["files"]
    assert manifest.data[0]["rows"] == 6
    assert manifest.metrics == {"train/loss": 0.5}
    assert len(manifest.template_sha256 or "") == 64
    assert manifest.environment["device"] == "cpu"
    assert manifest.environment["dtype"] == "float32"
    assert manifest.code["version"]
    config = json.loads((adapter_run / "model" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == manifest.base["name"]


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_a_wholly_trained_model_keeps_tied_and_untied_weights(tmp_path, architecture):
    run = make_run(tmp_path, architecture, adapter=False, epochs=2)
    found = resolve(run)
    assert (found.kind, found.base) == ("full", None)
    loaded, info = AutoModelForCausalLM.from_pretrained(found.directory, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert not torch.equal(loaded.lm_head.weight, base.lm_head.weight)


class Toy(LightningModule):
    """A module that is no language model; its two heads share one weight."""

    def __init__(self, width=4):
        super().__init__()
        self.one = torch.nn.Linear(width, width)
        self.two = torch.nn.Linear(width, width)
        self.two.weight = self.one.weight
        self.register_buffer("seen", torch.tensor(7))

    def training_step(self, batch, batch_idx):
        return self.two(self.one(batch)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(module):
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(torch.ones(4, 4), batch_size=2))
    return trainer


def test_the_state_of_any_module_is_kept_and_rebuilt(tmp_path, monkeypatch):
    (tmp_path / "toymodule.py").write_text(
        "import torch\nfrom lightning import LightningModule\n"
        "class Toy(LightningModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.one, self.two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)\n"
        "        self.two.weight = self.one.weight\n"
        "        self.register_buffer('seen', torch.tensor(7))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = Toy()
    trainer = trained(module)
    path = leave_run(
        trainer,
        module,
        {"_target_": "toymodule.Toy"},
        name="t/t",
        run_id="1",
        folder=tmp_path / "r",
    )
    assert path == tmp_path / "r" / "manifest.yaml"
    rebuilt = resolve(path, trusted_modules=["toymodule"]).build_module()
    for key, value in module.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[key], value), key


@contextmanager
def small_disk(folder, kilobytes):
    """A real file system of a few kilobytes."""
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let a file system be mounted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("kilobytes", [4, 64, 168, 192])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, kilobytes):
    """Too small for anything, for the weights (148 kB), for the tokenizer, for the manifest."""
    module = make_module(tmp_path)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    with small_disk(tmp_path / "disk", kilobytes) as disk:
        with pytest.raises(UserError, match="disk is full"):
            leave_run(trainer, module, {}, name="a/b", run_id="1", folder=disk / "run")
        assert [file for file in disk.rglob("*") if file.is_file()] == []


def make_module(folder):
    import functools

    from primum.alignment.sft import SFTModule
    from primum.language.source import Source

    source = Source(str(make_tiny(folder / "base")), dtype="float32")
    module = SFTModule(source, functools.partial(torch.optim.SGD, lr=0.1))
    module.configure_model()
    return module


@pytest.fixture(scope="module")
def merged(adapter_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("merged") / "model"
    export(resolve(adapter_run), out, merge=True)
    return out


def test_the_merged_model_is_the_adapter_on_its_base(adapter_run, merged):
    adapted, tokenizer = load(resolve(adapter_run))
    whole = AutoModelForCausalLM.from_pretrained(merged).eval()
    assert type(whole).__name__ == "Qwen3ForCausalLM"
    for prompt in PROMPTS:
        ids = tokenizer.apply_chat_template(
            list(prompt), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).input_ids
        with torch.inference_mode():
            torch.testing.assert_close(whole(ids).logits, adapted(ids).logits, atol=1e-5, rtol=1e-5)
        stops = stop_ids(adapted, tokenizer)
        assert greedy(whole, ids[0], stops, 20)[0] == greedy(adapted, ids[0], stops, 20)[0]


def test_the_merged_directory_is_whole_and_has_its_manifest_and_golden_answers(merged):
    found = resolve(merged)
    assert (found.kind, found.base) == ("full", None)
    assert found.manifest is not None and found.manifest.base is not None
    golden = read_golden(merged / "golden.json")
    assert [answer.text for answer in golden.answers] == list(ANSWERS)
    assert {answer.finish for answer in golden.answers} == {"stop"}
    assert golden.template_sha256 == found.manifest.template_sha256
    assert golden.weights == {
        "model.safetensors": found.manifest.weights["files"]["model.safetensors"]
    }
    config = GenerationConfig.from_pretrained(merged)
    assert AutoTokenizer.from_pretrained(merged).eos_token_id in config.eos_token_id


def test_merged_weights_can_be_rounded(adapter_run, tmp_path):
    out, _ = export(resolve(adapter_run), tmp_path / "out", merge=True, dtype="bfloat16")
    assert AutoModelForCausalLM.from_pretrained(out).dtype == torch.bfloat16


@pytest.mark.seconds
def test_a_merge_that_changes_answers_is_refused(adapter_run, tmp_path, monkeypatch):
    """As when a library merges into the wrong layer."""
    from peft import PeftModel

    monkeypatch.setattr(
        PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False
    )
    with pytest.raises(UserError, match="does not answer like its adapter"):
        export(resolve(adapter_run), tmp_path / "out", merge=True)
    assert list(tmp_path.iterdir()) == []


def test_an_export_without_merging_is_the_adapter_and_its_golden_answers(adapter_run, tmp_path):
    out, golden = export(resolve(adapter_run), tmp_path / "out")
    assert golden is not None and golden.answers[1].text == "42"
    found = resolve(out)
    assert found.kind == "adapter"
    assert found.manifest is not None and found.manifest.run_id == "run"


def test_a_base_from_a_package_is_located_by_the_part_that_named_it(
    adapter_run, tmp_path, monkeypatch
):
    """The manifest's own `Source` is asked; nothing else here can convert GGUF."""
    import yaml

    from primum.language.source import Source

    base = str(adapter_run.parent / "base")
    run = shutil.copytree(adapter_run, tmp_path / "run")
    content = yaml.safe_load((run / "manifest.yaml").read_text())
    content["base"].update(name="package:packed_model", files={})
    content["module"]["model"]["name"] = "package:packed_model"
    (run / "manifest.yaml").write_text(yaml.safe_dump(content))
    asked = []
    monkeypatch.setattr(Source, "locate", lambda self: asked.append(self.name) or base)
    out, _ = export(resolve(run), tmp_path / "out", merge=True)
    assert asked == ["package:packed_model"]
    assert resolve(out).kind == "full"


def test_export_refuses_what_it_cannot_do(adapter_run, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        export(resolve(adapter_run), tmp_path)
    with pytest.raises(UserError, match="no adapter to merge"):
        export(resolve(make_tiny(tmp_path / "tiny")), tmp_path / "out", merge=True)
    with pytest.raises(UserError, match="--base"):
        run = shutil.copytree(adapter_run / "model", tmp_path / "adapter")
        config = json.loads((run / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "package:not_there"
        (run / "adapter_config.json").write_text(json.dumps(config))
        export(resolve(run), tmp_path / "out", merge=True)
    assert not (tmp_path / "out").exists()
