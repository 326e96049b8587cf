"""What a run will need is told before it starts, from shapes alone, and when memory runs out."""

import re
from typing import Any

import lightning
import pytest
import torch
from tests.alignment.talk import pairs, trainer

from primum import conf_dir
from primum.alignment.conversations import ConversationData
from primum.alignment.memory import Run, estimate, fits, on_meta, parameters, remedies, shape
from primum.alignment.sft import SFTModule
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.language.lora import Lora
from primum.language.source import Source

BILLIONS = {"Qwen/Qwen3-8B": 8.190735360, "Qwen/Qwen3-32B": 32.762123264}


@pytest.mark.parametrize("name", BILLIONS)
def test_full_size_models_are_built_on_meta_and_counted(name: str) -> None:
    config = shape(name)
    model = on_meta(config)
    weights = list(model.parameters())
    assert all(weight.is_meta for weight in weights)
    count = sum(weight.numel() for weight in weights)
    assert count == parameters(config)[0] == round(BILLIONS[name] * 1e9)


def test_an_adapter_on_the_full_size_has_the_counted_weights() -> None:
    config = shape("Qwen/Qwen3-8B")
    config.num_hidden_layers = 2
    with torch.device("meta"):
        adapted = Lora(rank=16).adapt(on_meta(config))
    trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    assert trained == 16 * parameters(config)[1]


@pytest.mark.parametrize("experiment", ["sft_8b_1gpu", "dpo_8b_1gpu"])
def test_an_experiment_states_its_estimated_peak(experiment: str) -> None:
    text = (conf_dir() / "experiment" / "alignment" / f"{experiment}.yaml").read_text()
    told = [float(one) for one in re.findall(r"([\d.]+) GiB", text)]
    config = shape("Qwen/Qwen3-8B")
    two = 2 if experiment.startswith("dpo") else 1  # answers to a prompt
    sizes = {"sft_8b_1gpu": (4, 1, 2), "dpo_8b_1gpu": (2, 1, 1)}[experiment]
    runs = [
        Run(two * size * 2048, two * size * 2048, checkpointing=checkpointing)
        for size, checkpointing in zip(sizes, (True, True, False), strict=True)
    ]
    assert told == [round(estimate(config, run).total, 1) for run in runs]
    for run, card in zip(runs, (48e9, 24e9, 80e9), strict=True):
        assert fits(config, run, card / 2**30)
    assert not fits(config, runs[0], 24e9 / 2**30)


def test_sixteen_gpus_hold_the_first_stage_of_32b_and_eight_small_ones_do_not() -> None:
    config = shape("Qwen/Qwen3-32B")
    stage = Run(4096, 4096, None, True, weight_bytes=2, state_bytes=8, stage=3, world=16)
    assert fits(config, stage, 80e9 / 2**30)
    assert not fits(config, Run(4096, 4096, None, True, stage=3, world=8), 48e9 / 2**30)


def saved_bytes(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> int:
    """What autograd keeps in one forward pass, weights aside, each storage once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(**batch, use_cache=False).last_hidden_state
    assert out.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("rank", [None, 8])
def test_activations_are_those_that_autograd_keeps(rank: int | None) -> None:
    """A layer of the 8B's proportions, narrower; on a CPU attention keeps what a GPU keeps."""
    config = shape("Qwen/Qwen3-8B")
    config.hidden_size, config.intermediate_size, config.vocab_size = 512, 1536, 64
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 1, 128
    from transformers import AutoModelForCausalLM

    counted = {}
    for layers in (1, 3):
        config.num_hidden_layers = layers
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).train()
        backbone = model.model
        if rank is not None:
            Lora(rank=rank).adapt(model)
            model.enable_input_require_grads()
        ids = torch.arange(256).view(1, 256) % 64
        counted[layers] = saved_bytes(backbone, {"input_ids": ids})
    measured = (counted[3] - counted[1]) / 2
    config.num_hidden_layers = 1
    from primum.alignment.memory import activations

    told = activations(config, Run(256, 0, rank))
    assert 0.75 < told / measured < 1.3, (told, measured)


def test_the_cheapest_remedies_are_overrides_that_save() -> None:
    config = shape("Qwen/Qwen3-8B")
    run = Run(8 * 2048, 8 * 2048)
    named = remedies(config, run)
    assert len(named) == 3 and all(gib > 1 for _, gib in named)
    assert named[0][0].startswith("data.batch_size=HALF trainer.accumulate_grad_batches=DOUBLE")
    assert "module.checkpointing=true" in [name for name, _ in named]
    copied = remedies(config, Run(2048, 2048, None, copies=1))
    assert copied[0][0] == "module.reference=cached"


def test_running_out_of_memory_names_three_overrides(tmp_path: Any) -> None:
    class Hungry(SFTModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")

    source = Source(str(make_tiny(tmp_path / "m", "qwen3")), dtype="float32")
    module = Hungry(source, lambda weights: torch.optim.SGD(weights, 0.1))
    data = ConversationData(source, pairs, batch_size=4, max_length=512)
    run: lightning.Trainer = trainer(max_epochs=1, accumulate_grad_batches=2)
    with pytest.raises(UserError) as caught:
        run.fit(module, datamodule=data)
    assert "too little memory" in caught.value.problem
    assert caught.value.remedy is not None and len(caught.value.remedy.splitlines()) == 3
    assert "data.batch_size=2 trainer.accumulate_grad_batches=4" in caught.value.remedy
