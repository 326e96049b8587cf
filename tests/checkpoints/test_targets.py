"""A manifest may name parts of models, by whatever spelling, and nothing else."""

import sys

import pytest

from primum.checkpoints.targets import check_targets
from primum.errors import UserError

GOOD = [
    "torch.nn.Linear",
    "torch.optim.AdamW",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "torch.nn.functional.cross_entropy",
    "torchmetrics.MeanMetric",
    "transformers.LlamaConfig",
    "transformers.LlamaForCausalLM",
    "transformers.get_cosine_schedule_with_warmup",
    "peft.LoraConfig",
    "primum.language.source.Source",
    "primum.language.lora.Lora",
]

BAD = [
    "os.system",
    "posix.system",
    "nt.system",
    "subprocess.run",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "eval",
    "importlib.import_module",
    "runpy.run_path",
    "ctypes.CDLL",
    "pickle.loads",
    "shutil.rmtree",
    "functools.partial",
    "operator.methodcaller",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "hydra._internal.utils._locate",
    "omegaconf.OmegaConf.register_new_resolver",
    "torch.load",
    "torch.hub.load",
    "torch.hub.load_state_dict_from_url",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "torch.utils.cpp_extension.load",
    "torch.utils.cpp_extension.load_inline",
    "torch.serialization.load",
    # through what an allowed module has imported
    "primum.files.os.system",
    "primum.files.shutil.rmtree",
    "primum.language.source.os.system",
    "primum.language.source.sha256",
    "torch.nn.modules.module.functools.partial",
    "torch.nn.modules.module.torch.load",
    "torch.optim.optimizer.functools.partial",
    "transformers.utils.hub.os.system",
    "torchmetrics.metric.functools.partial",
    # allowed packages can do harm too
    "primum.files.atomic_write",
    "primum.files.atomic_folder",
    "primum.extras.require",
    "primum.checkpoints.tiny.make_tiny",
    "primum.cli.main",
    "primum.language.source.explained",
    "primum.language.gguf.dequantised",
    "transformers.AutoModel.from_pretrained",
    "transformers.AutoTokenizer",
    "transformers.pipeline",
    "transformers.dynamic_module_utils.get_class_from_dynamic_module",
    "transformers.Trainer",
    "transformers.testing_utils.execute_subprocess_async",
    "peft.PeftModel.from_pretrained",
    "torchvision.datasets.DatasetFolder",
    "torch.nn.Module.apply",
    "torch.nn.Module.__init__",
    "torch.nn.Linear.__class__",
    "torch.nn.parallel.parallel_apply",
    # spellings
    "torch.nn",
    "torch.nn.modules",
    "torch.nn.Linear ",
    "torch.nn..Linear",
    ".os.system",
    "torch.nn.Nothing",
    "torch.nnn.Linear",
    "primum_kernelsx.thing",
    "primum.languagex.Source",
    "torch.nn.\u2044os",
    "",
]


@pytest.mark.parametrize("target", GOOD)
def test_parts_of_models_may_be_built(target):
    check_targets({"_target_": target, "_partial_": True})


@pytest.mark.parametrize("target", BAD)
def test_anything_else_is_refused(target):
    with pytest.raises(UserError, match="would build"):
        check_targets({"_target_": target}, file="manifest.yaml")


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.system", "command": "x"}]},
        {"_target_": "torch.nn.Linear", "a": {"b": [[{"_target_": "os.system"}]]}},
        {"plain": {"deeper": [{"_target_": "os.system", "_partial_": True}]}},
        {"_target_": ["os", "system"]},
        {"_target_": {"_target_": "hydra.utils.get_method", "path": "os.system"}},
        {"_target_": None},
        {"_target_": "functools.partial", "_args_": ["os.system"]},
        {"_target_": "torch.nn.Linear", "_recursive_": False, "hook": {"_target_": "os.system"}},
    ],
)
def test_nesting_hides_nothing(node):
    with pytest.raises(UserError, match="would build"):
        check_targets(node)


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "torch.nn.${oc.env:NAME}"},
        {"_target_": "torch.nn.Linear", "in_features": "${oc.env:HOME}"},
        {"names": ["${oc.env:HOME}"]},
    ],
)
def test_interpolations_are_refused(node):
    with pytest.raises(UserError, match="interpolation"):
        check_targets(node)


def test_remote_code_must_be_asked_for_by_the_user_and_not_by_the_manifest():
    node = {"_target_": "primum.language.source.Source", "name": "a/b", "trust_remote_code": True}
    with pytest.raises(UserError, match="trust_remote_code=true"):
        check_targets(node)
    check_targets(node, trust_remote_code=True)


def test_a_node_without_end_is_refused():
    endless: dict = {}
    endless["again"] = endless
    with pytest.raises(UserError, match="without end"):
        check_targets(endless)
    wide: list = [0] * 10
    for _ in range(9):
        wide = [wide] * 10  # a billion values in a few bytes of YAML aliases
    with pytest.raises(UserError, match="without end"):
        check_targets({"wide": wide})


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    package = tmp_path / "mylab"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import os\nfrom os import system\nfrom functools import partial\n"
        "class Net:\n    pass\n"
        "def build():\n    return Net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "mylab"
    sys.modules.pop("mylab", None)


def test_trusted_modules_widen_the_list_to_what_is_defined_there(mylab):
    for target in ("mylab.Net", "mylab.build"):
        with pytest.raises(UserError, match=r"trusted_modules"):
            check_targets({"_target_": target})
        check_targets({"_target_": target}, [mylab])
    for target in ("mylab.os.system", "mylab.system", "mylab.partial", "mylabx.Net"):
        with pytest.raises(UserError, match="would build"):
            check_targets({"_target_": target}, [mylab])


@pytest.mark.parametrize(
    "module", ["os", "builtins", "subprocess", "functools", "os.path", "hydra"]
)
def test_some_modules_cannot_be_trusted(module):
    with pytest.raises(UserError, match="cannot be trusted"):
        check_targets({}, [module])


def test_trusting_torch_does_not_open_its_loaders():
    with pytest.raises(UserError, match="any code"):
        check_targets({"_target_": "torch.load"}, ["torch"])
