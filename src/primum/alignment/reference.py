"""The frozen model that a policy is compared with: its adapter off, its cached words, or a copy."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from primum.alignment.answers import TwoAnswerData, TwoAnswers
from primum.alignment.objectives import sequence_logprobs
from primum.errors import UserError
from primum.language.lora import Lora

Kind = Literal["auto", "adapter_off", "cached", "copy"]


def chosen_kind(kind: Kind | None, adapter: Lora | None, allowed: Sequence[str]) -> str | None:
    """Which reference is used: `auto` takes the adapter away if there is one.

    Raises:
        UserError: There is no such kind, or no adapter to take away.
    """
    if kind is None:
        return None
    if kind == "auto":
        kind = "adapter_off" if adapter else "cached" if "cached" in allowed else "copy"
    if kind not in get_args(Kind) or kind not in allowed:
        raise UserError(
            f"There is no reference `{kind}` here", remedy=f"choose one of auto, {list(allowed)}"
        )
    if kind == "adapter_off" and adapter is None:
        raise UserError(
            "Without an adapter there is nothing to switch off to get the reference",
            remedy="module.reference=cached, or train an adapter",
        )
    return kind


@contextmanager
def adapter_off(model: Any) -> Iterator[Any]:
    """The base below an adapter, without gradients."""
    with torch.no_grad(), model.disable_adapter():
        yield model


@contextmanager
def still(model: nn.Module) -> Iterator[Any]:
    """A model without gradients."""
    with torch.no_grad():
        yield model


def digest(model: Mapping[str, str], dtype: Any, examples: Sequence[TwoAnswers]) -> str:
    """SHA-256 of all that the reference's log-probabilities follow from."""
    content = hashlib.sha256(json.dumps([dict(model), str(dtype)], sort_keys=True).encode())
    for one in examples:
        for side in (one.first, one.second):
            content.update(json.dumps([side.input_ids, side.loss_mask]).encode())
    return content.hexdigest()


def score_all(module: Any, model: Any, data: TwoAnswerData, split: str) -> Tensor:
    """Summed log-probabilities of both answers of every example, (examples, 2); all ranks call it.

    Ranks take batches in turn, and equally many, as sharded parameters must be gathered together.
    """
    examples = sorted(data.examples[split], key=data.size, reverse=True)
    batches = [
        examples[start : start + data.batch_size]
        for start in range(0, len(examples), data.batch_size)
    ]
    world, rank = module.trainer.world_size, module.global_rank
    result = torch.zeros(len(examples), 2, device=module.device)
    rounds = -(-len(batches) // world)
    for number in progress(range(rounds), f"reference, {split}", module.trainer.is_global_zero):
        turn = number * world + rank
        batch = module.transfer_batch_to_device(
            data.collate(batches[turn % len(batches)]), module.device, 0
        )
        with still(model) as reference:
            totals = sequence_logprobs(reference, batch).total().view(-1, 2)
        if turn < len(batches):
            result[batch["numbers"]] = totals
    return module.trainer.strategy.reduce(result, reduce_op="sum") if world > 1 else result


def progress(turns: Any, name: str, shown: bool) -> Any:
    """The turns with a bar, on the rank that shows one."""
    from rich.progress import track

    return track(turns, name, transient=True, disable=not shown or len(turns) < 20)


class CachedReference:
    """Log-probabilities of the reference, computed once before training and kept.

    Args:
        folder: Where they are kept between runs; nowhere if None.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.values: dict[str, Tensor] = {}
        self.digests: dict[str, str] = {}

    def prepare(self, module: Any, data: Any) -> None:
        """Compute, or find, the values of each split; every rank calls it before the first step."""
        if not isinstance(data, TwoAnswerData):
            raise UserError(
                "A cached reference is computed from the data before training, and there is none",
                remedy="give the trainer a PreferenceData or LabelledData as its datamodule",
            )
        for split, examples in data.examples.items():
            name = digest(module.source.fingerprint(), module.model.dtype, examples)
            if self.digests.get(split) == name:
                continue  # from the checkpoint that is resumed
            if self.digests.get(split) is not None:
                raise UserError(
                    f"The {split} split is not the one this run began with",
                    remedy="resume with the same data, or begin a new run",
                )
            self.values[split] = self._found(name, len(examples), module)
            self.digests[split] = name
            if not len(self.values[split]):
                with base_only(module):
                    self.values[split] = score_all(module, module.model, data, split).cpu()
                if module.trainer.is_global_zero:
                    self._keep(name, self.values[split])

    def _found(self, name: str, rows: int, module: Any) -> Tensor:
        """What an earlier run kept, on all ranks or on none."""
        nothing = torch.empty(0, 2)
        if self.folder is None:
            return nothing
        file = self.folder / f"{name}.safetensors"
        values = nothing
        if module.trainer.is_global_zero and file.is_file():
            from safetensors.torch import load_file

            values = load_file(file)["logprobs"]
        values = module.trainer.strategy.broadcast(values)
        return values if len(values) == rows else nothing

    def _keep(self, name: str, values: Tensor) -> None:
        if self.folder is None:
            return
        from safetensors.torch import save

        from primum.files import atomic_write

        atomic_write(self.folder / f"{name}.safetensors", save({"logprobs": values.contiguous()}))

    def totals(self, batch: Mapping[str, Any], split: str) -> Tensor:
        """The reference's summed log-probabilities, (rows, 2)."""
        if split not in self.values:
            raise UserError(f"The reference has not seen the {split} split")
        return self.values[split].to(batch["numbers"].device)[batch["numbers"]]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: after a resume the base is no longer there to be asked."""
        return {"values": self.values, "digests": self.digests}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a checkpoint's state."""
        self.values, self.digests = dict(state["values"]), dict(state["digests"])


@contextmanager
def base_only(module: Any) -> Iterator[None]:
    """The base model, whether an adapter lies on it or not."""
    if module.adapter is None:
        yield
        return
    with module.model.disable_adapter():
        yield
