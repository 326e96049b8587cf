"""What a training run leaves: a plain directory that loads without us, and its manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.checkpoints.manifest import (
    Manifest,
    code_version,
    environment,
    hashes,
    plain,
    write_manifest,
)
from primum.checkpoints.resolve import PACKAGE
from primum.checkpoints.weights import read_json
from primum.errors import UserError
from primum.files import OUT_OF_SPACE, atomic_folder, atomic_write, full_disk, full_disk_named

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from torch import Tensor

DIRECTORY = "model"


def leave_run(
    trainer: Trainer,
    module: LightningModule,
    module_config: Mapping[str, Any],
    *,
    name: str,
    run_id: str,
    folder: str | Path,
    data_fingerprints: Sequence[Mapping[str, Any]] = (),
    card: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path | None:
    """Write `folder/model/` and `folder/manifest.yaml`; every rank must call it, after `fit`.

    A module with `save_pretrained(directory, state_dict)` writes its own plain directory; of any
    other the state is kept as `model.safetensors`. `manifest_facts()` of a module may tell `base`,
    `template_sha256` and `dtype`.

    Args:
        module_config: The config `module` was built from.
        name: The experiment, `family/name`.
        data_fingerprints: `name`, `split`, `rows` and `sha256` of each data set.
        card: Licence, data, intended use and what it is not for.
        metrics: Last values; the trainer's logged ones if None.

    Returns:
        The manifest's path on rank 0, None elsewhere.

    Raises:
        UserError: The disk is full. Every rank raises it, and nothing half-written is left.
    """
    state = gathered(trainer, module)
    failure: Exception | None = None
    path: Path | None = None
    if trainer.is_global_zero:
        try:
            path = _write(
                module,
                state,
                Path(folder),
                Manifest(
                    name=name,
                    run_id=run_id,
                    module=plain(module_config),
                    weights={},
                    data=[plain(row) for row in data_fingerprints],
                    code=code_version(),
                    environment=_environment(trainer),
                    metrics=_numbers(trainer.callback_metrics if metrics is None else metrics),
                    card=plain(card or {}),
                ),
            )
        except Exception as error:
            failure = error
    if trainer.world_size > 1:  # or the others would wait at the next collective for ever
        told = trainer.strategy.broadcast(None if failure is None else str(failure), src=0)
        if told is not None and failure is None:
            raise UserError(told)
    if failure is not None:
        raise failure
    return path


def gathered(trainer: Trainer, module: LightningModule) -> dict[str, Tensor]:
    """The module's whole state, on rank 0 at least, whatever strategy has sharded it."""
    strategy = trainer.strategy
    gather: Any = getattr(strategy, "full_state_dict", None)  # our DeepSpeed strategy has it
    if gather is not None:
        return gather(module)
    if any(hasattr(weight, "ds_id") for weight in module.parameters()):
        raise UserError(
            "The weights are sharded by a DeepSpeed strategy that cannot give them back whole",
            remedy="train with trainer=deepspeed_zero3, whose strategy can",
        )
    if getattr(strategy, "_state_dict_type", None) == "sharded":  # FSDP, as Lightning calls it
        from lightning.fabric.strategies.fsdp import _get_full_state_dict_context

        assert strategy.model is not None
        whole: Any = _get_full_state_dict_context(strategy.model, world_size=trainer.world_size)
        with whole:
            return strategy.model.state_dict()
    state = strategy.lightning_module_state_dict()
    return {
        key: value.full_tensor() if hasattr(value, "full_tensor") else value  # a DTensor
        for key, value in state.items()
    }


def _write(
    module: LightningModule, state: dict[str, Tensor], folder: Path, manifest: Manifest
) -> Path:
    describe: Any = getattr(module, "manifest_facts", dict)
    save: Any = getattr(module, "save_pretrained", None)
    facts = describe()
    with atomic_folder(folder / DIRECTORY) as partial:
        with full_disk_noticed(folder / DIRECTORY):
            if save is not None:
                save(partial, state)
                form = "adapter" if (partial / "adapter_config.json").is_file() else "full"
            else:
                save_state(state, partial / "model.safetensors")
                form = "module"
        manifest.base = plain(facts.get("base"))
        if form == "adapter" and manifest.base is not None:
            _name_base(partial / "adapter_config.json", manifest.base)
        readable(partial)
        manifest.weights = {"directory": DIRECTORY, "format": form, "files": hashes(partial)}
        manifest.template_sha256 = facts.get("template_sha256")
        if "dtype" in facts:
            manifest.environment["dtype"] = str(facts["dtype"])
        return write_manifest(manifest, folder)  # a disk that fills up here takes the weights along


def _name_base(file: Path, base: Mapping[str, Any]) -> None:
    """Let the adapter name its base as the user did, not as a folder of this machine's cache.

    The names that only this project reads stay in the manifest: PEFT and servers then find the
    plain copy that the adapter was trained on, for as long as this machine keeps it.
    """
    if base["name"].startswith(PACKAGE) or base["name"].endswith(".gguf"):
        return
    config = read_json(file)
    config |= {"base_model_name_or_path": base["name"], "revision": base.get("revision")}
    atomic_write(file, json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_state(state: Mapping[str, Tensor], file: Path) -> None:
    """Save tensors as safetensors; weights that share memory are written once each."""
    from safetensors.torch import save_file

    whole = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    save_file(whole, file, metadata={"format": "pt"})


def readable(folder: Path) -> None:
    """Let other users' servers read the model (safetensors creates files for the owner alone)."""
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


@contextmanager
def full_disk_noticed(path: Path) -> Iterator[None]:
    """Recognise a full disk in what safetensors and tokenizers raise instead of an OSError."""
    try:
        with full_disk_named(path):
            yield
    except (OSError, UserError):
        raise
    except Exception as error:
        if not any(f"(os error {code})" in str(error) for code in OUT_OF_SPACE):
            raise
        raise full_disk(path) from error


def _environment(trainer: Trainer) -> dict[str, Any]:
    import torch

    device = trainer.strategy.root_device
    cuda = device.type == "cuda"
    return {
        **environment(),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "precision": str(trainer.precision),
        "strategy": type(trainer.strategy).__name__,
        "processes": trainer.world_size,
    }


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {str(key): plain(value) for key, value in metrics.items()}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float)}
