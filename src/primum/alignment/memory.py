"""What a training run will hold in memory, told before it starts and when there is none left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from primum.errors import UserError
from primum.training.strategies import zero_stage

if TYPE_CHECKING:
    from transformers import PretrainedConfig

GIB = 2**30
CONTEXT = 1.0  # GiB that CUDA and its libraries take
SPARE = 1.05  # what the allocator cannot use
# Published shapes, so that a plan needs no download; each has 152k tokens and untied embeddings.
QWEN3 = {"vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen3-8B": QWEN3
    | {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
    | {"num_attention_heads": 32, "tie_word_embeddings": False},
    "Qwen/Qwen3-32B": QWEN3
    | {"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64}
    | {"num_attention_heads": 64, "tie_word_embeddings": False},
}


def shape(name: str) -> PretrainedConfig:
    """The configuration of a published model, known here."""
    from transformers import Qwen3Config

    if name not in SHAPES:
        raise UserError(f"The shape of `{name}` is not known here", remedy=", ".join(SHAPES))
    return Qwen3Config(**SHAPES[name])


def on_meta(config: PretrainedConfig) -> Any:
    """The model without any memory: shapes alone."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


@dataclass(frozen=True)
class Run:
    """What decides how much memory a run needs.

    Args:
        tokens: Of a micro-batch, as they are computed.
        learned: Of these, how many have logits.
        rank: Of the adapter on all linear layers; None trains every weight.
        checkpointing: Activations are recomputed.
        weight_bytes, state_bytes: Of a frozen weight; of the optimizer's state a trained weight.
        stage: ZeRO stage; 0 is one device or DDP.
        world: Devices that share what the stage shards.
        copies: Frozen second models, such as a reference.
    """

    tokens: int
    learned: int
    rank: int | None = 16
    checkpointing: bool = False
    weight_bytes: float = 2
    state_bytes: float = 8
    stage: int = 0
    world: int = 1
    copies: int = 0


@dataclass(frozen=True)
class Memory:
    """GiB of one device by what it is spent on."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """The peak, with what CUDA and its allocator take."""
        return CONTEXT + SPARE * sum(asdict(self).values())


def parameters(config: Any) -> tuple[int, int]:
    """Weights of the model, and inputs plus outputs of its linear layers, the head left out."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    linear = 2 * width * queries + 2 * width * keys + 3 * width * inner
    ends = (width + queries) * 2 + (width + keys) * 2 + (width + inner) * 3
    norms = 2 * width + (2 * head if "qwen3" in config.model_type else 0)
    embeddings = config.vocab_size * width * (1 if config.tie_word_embeddings else 2)
    return layers * (linear + norms) + embeddings + width, layers * ends


def estimate(config: Any, run: Run) -> Memory:
    """Peak memory of training a decoder (Llama and Qwen shapes) in bf16, one device's share."""
    whole, ends = parameters(config)
    adapter = 0 if run.rank is None else run.rank * ends
    trained = whole if run.rank is None else adapter
    adapter_bytes = 2 if run.stage == 3 else 4  # kept in float32 where that is allowed
    over = {part: run.world if run.stage >= part else 1 for part in (1, 2, 3)}
    gradient_bytes = run.weight_bytes if run.rank is None else adapter_bytes
    weights = whole * run.weight_bytes * (1 + run.copies) + adapter * adapter_bytes
    return Memory(
        weights=weights / over[3] / GIB,
        gradients=trained * gradient_bytes / over[2] / GIB,
        optimizer=trained * run.state_bytes / over[1] / GIB,
        activations=activations(config, run) / GIB,
        # logits and their gradient in bf16, a slice of them in float32
        logits=run.learned * config.vocab_size * 2 * 2 / GIB,
    )


def activations(config: Any, run: Run) -> float:
    """Bytes that the forward pass keeps for the backward pass, in bf16 without a saved mask.

    Counted from the layers as the library computes them: two norms with a float32 copy, queries and
    keys before and after their norm and rotation, the fused attention, and four inner activations
    of the gated feed-forward. Training an adapter keeps the input of each of its layers once more.
    """
    width, inner = config.hidden_size, config.intermediate_size
    head = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    norms = 2 * (4 * width + 2 * width + 2 * width)  # float32 input, normed, scaled
    attention = 2 * (5 * queries + 6 * keys) + 4 * (queries + keys)
    feed_forward = 2 * 4 * inner
    low_rank = 0 if run.rank is None else 4 * 7 * run.rank
    layer = norms + attention + feed_forward + low_rank
    layers = config.num_hidden_layers
    if run.checkpointing:
        return run.tokens * (layers * 2 * width + layer)
    return run.tokens * layers * layer


def fits(config: Any, run: Run, gib: float) -> bool:
    """Whether the estimate stays below a device's memory."""
    return estimate(config, run).total <= gib


def remedies(config: Any, run: Run) -> list[tuple[str, float]]:
    """The three cheapest things to do about too little memory: an override and the GiB it saves.

    In the order of what they cost: nothing, a third of the speed, the longest texts, all of the
    bus. One that saves under 2 % is not named.
    """
    now = estimate(config, run)
    half = replace(run, tokens=run.tokens // 2, learned=run.learned // 2)
    known: list[tuple[str, Run]] = []
    if run.copies:
        known.append(("module.reference=cached", replace(run, copies=0)))
    known.append(("data.batch_size=HALF trainer.accumulate_grad_batches=DOUBLE", half))
    if run.weight_bytes > 1 and run.rank is not None:
        known.append(("model.quantise=nf4", replace(run, weight_bytes=0.56)))
    if not run.checkpointing:
        known.append(("module.checkpointing=true", replace(run, checkpointing=True)))
    if run.rank is None:
        lora = "+module.adapter._target_=primum.language.lora.Lora"
        known.append((lora, replace(run, rank=16)))
    if run.stage < 3 and run.world > 1:
        known.append(("trainer=deepspeed_zero3", replace(run, stage=3)))
    known.append(("data.max_length=HALF", half))
    known.append(("trainer=deepspeed_zero3_offload", replace(run, stage=3, world=8)))
    saved = [(name, now.total - estimate(config, then).total) for name, then in known]
    return [(name, gib) for name, gib in saved if gib > 0.02 * (now.total - CONTEXT)][:3]


class OutOfMemory(Callback):
    """Turns running out of GPU memory into one error that names what to change."""

    def __init__(self) -> None:
        self.tokens, self.learned = 0, 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if isinstance(batch, Mapping) and "input_ids" in batch:
            self.tokens = max(self.tokens, batch["input_ids"].numel())
            # how many labels are learned is not worth waiting for the GPU
            learned = batch["targets" if "targets" in batch else "labels"].numel()
            self.learned = max(self.learned, learned)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say what would help.

        Raises:
            UserError: In place of PyTorch's own error.
        """
        if not isinstance(exception, torch.OutOfMemoryError):
            return
        raise UserError(
            f"The GPU has too little memory for this run ({str(exception).splitlines()[0]})",
            remedy=advice(pl_module, trainer, self.tokens, self.learned),
        ) from exception


def advice(module: Any, trainer: Any, tokens: int, learned: int) -> str:
    """The three cheapest remedies of a run, as overrides with this run's numbers."""
    adapter = getattr(module, "adapter", None)
    run = Run(
        tokens=tokens,
        learned=learned,
        rank=None if adapter is None else adapter.rank,
        checkpointing=bool(getattr(module, "checkpointing", False)),
        stage=zero_stage(trainer),
        world=trainer.world_size,
        copies=int(getattr(module, "copied", None) is not None),
    )  # fmt: skip
    data = getattr(trainer, "datamodule", None)
    batch, length = getattr(data, "batch_size", 2), getattr(data, "max_length", 2048)
    named = []
    for override, gib in remedies(module.model.config, run):
        override = override.replace("batch_size=HALF", f"batch_size={max(1, batch // 2)}")
        override = override.replace("max_length=HALF", f"max_length={length // 2}")
        override = override.replace("DOUBLE", str(2 * trainer.accumulate_grad_batches))
        if batch == 1 and "batch_size" in override:
            continue
        named.append(f"{override}  (saves about {gib:.1f} GiB)")
    return "\n          ".join(named) or "a larger device"
