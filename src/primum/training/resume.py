"""Go on after a kill as if nothing had happened: same samples, same randomness, same losses."""

import random
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from primum.errors import UserError
from primum.training.loading import ResumableLoader
from primum.training.sampling import ResumableBatchSampler, example_generator
from primum.training.saving import AtomicCheckpointIO, check_whole

__all__ = [
    "AtomicCheckpointIO",
    "ResumableBatchSampler",
    "ResumeState",
    "example_generator",
    "find_resume",
]

KEY = "primum_resume"


@dataclass(frozen=True)
class Mark:
    """A place between two optimizer steps, where nothing but what is saved decides what follows.

    Attributes:
        epoch: Epochs completed.
        batch: Micro-batches completed of the running epoch.
        total: Micro-batches completed in all.
        last: Whether `batch` was the epoch's last; its closing hooks are still to come.
        validated: Whether the validation that may be due after this batch has been done.
        stepped: Lightning's count of logged steps.
        global_step: Optimizer steps.
        rng: Of Python, NumPy and PyTorch in this process.
        buffers: Of the module, as a forward pass inside the accumulation would move them.
    """

    epoch: int = 0
    batch: int = 0
    total: int = 0
    last: bool = False
    validated: bool = False
    stepped: int = 0
    global_step: int = 0
    rng: dict[str, Any] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)


class ResumeState(Callback):
    """Makes every checkpoint of a run resumable to the bit, wherever in an epoch it was written.

    A checkpoint written while gradients are being accumulated resumes at the first micro-batch of
    that accumulation: weights do not move inside it, so the gradients come out again bit by bit,
    on every strategy, and no checkpoint carries gradients. Validation leaves the randomness of
    training as it was, so its interval changes nothing, and is repeated if a kill interrupted it.

    Works with a `ResumableLoader`. Randomness inside its worker processes is resumed only if it
    comes from `example_generator`.
    """

    resumes_positions = True  # what the loader looks for

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.after_batch: dict[str, Any] = {}
        self.resumed: dict[str, Any] | None = None

    # Where are we?

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.resumed is None:
            self.after_batch = rng_state()
            self.mark = Mark(
                epoch=trainer.current_epoch,
                total=batches(trainer)["total"],
                stepped=trainer.fit_loop.epoch_loop._batches_that_stepped,
                global_step=trainer.global_step,
                rng=self.after_batch,
            )
        else:
            self.restore(trainer, pl_module, self.resumed)
            self.resumed = None
        if trainer.accumulate_grad_batches > 1:
            self.mark = replace(self.mark, buffers=buffers_of(pl_module))  # type: ignore[type-var]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.after_batch = rng_state()
        if trainer.fit_loop._should_accumulate():
            return
        self.mark = self.here(trainer)
        if trainer.accumulate_grad_batches > 1:
            self.mark = replace(self.mark, buffers=buffers_of(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self.mark is None:
            return
        set_rng_state(self.after_batch)
        if self.mark.total == batches(trainer)["total"]:
            self.mark = replace(self.mark, validated=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.mark is not None
        if self.mark.last:  # else `max_steps` or early stopping cut the epoch short
            self.mark = replace(
                self.mark, epoch=self.mark.epoch + 1, batch=0, last=False, rng=rng_state()
            )

    def here(self, trainer: Trainer) -> Mark:
        """The mark after the batch that has just been processed."""
        loop = trainer.fit_loop.epoch_loop
        done = batches(trainer)
        return Mark(
            epoch=trainer.current_epoch,
            batch=done["current"],
            total=done["total"],
            last=loop._num_ready_batches_reached(),
            stepped=loop._batches_that_stepped + 1,
            global_step=trainer.global_step,
            rng=self.after_batch,
        )

    # Saving

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.mark is None or "loops" not in checkpoint:
            return
        mark = self.mark
        if trainer.global_step != mark.global_step:  # an interrupt after the step, before its hooks
            begun = batches(trainer, "ready")
            mark = replace(
                self.here(trainer), batch=begun["current"], total=begun["total"], rng=rng_state()
            )
        inside = trainer.fit_loop.epoch_loop.batch_progress.total.ready != mark.total
        state = asdict(replace(mark, rng={}, buffers={}))
        state["accumulate"] = trainer.accumulate_grad_batches
        state["order"] = order_of(trainer)
        state["metrics"] = {k: v.detach().cpu() for k, v in trainer.callback_metrics.items()}
        state["buffers"] = {k: v.cpu() for k, v in mark.buffers.items()} if inside else {}
        state["rng"] = gather(mark.rng, trainer)
        checkpoint[KEY] = state

    # Loading

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        state = checkpoint.get(KEY)
        if state is None:
            rank_zero_warn(
                "This checkpoint was written without ResumeState: if it lies inside an epoch, that"
                " epoch's samples are read from its beginning once more."
            )
            return
        self.resumed = state
        factor = trainer.accumulate_grad_batches / state["accumulate"]
        state["batch"] = round(state["batch"] * factor)  # marks lie between whole accumulations
        state["total"] = round(state["total"] * factor)
        rewrite_progress(checkpoint["loops"]["fit_loop"], state)

    def restore(self, trainer: Trainer, module: LightningModule, state: dict[str, Any]) -> None:
        """Put everything back that Lightning does not, just before the first batch."""
        refuse_other_order(trainer, state)
        fit = trainer.fit_loop
        loop = fit.epoch_loop
        if state["batch"] == 0:
            loop.restarting = False  # the epoch has not begun, so nothing of it is to be skipped
        else:
            # on the way to the first batch Lightning passes once more the place where it counts
            due = loop._should_check_val_fx(fit._data_fetcher)  # type: ignore[arg-type]
            loop._batches_that_stepped = state["stepped"] - int(due)
        fit._restarting = False  # or the plateau scheduler would skip this epoch
        trainer._logger_connector._callback_metrics.update(
            {k: v.to(trainer.strategy.root_device) for k, v in state["metrics"].items()}
        )
        for name, value in state["buffers"].items():
            module.get_buffer(name).copy_(value)
        if len(state["rng"]) == trainer.world_size:
            set_rng_state(state["rng"][trainer.global_rank])
        else:
            rank_zero_warn(
                f"The run had {len(state['rng'])} processes and now has {trainer.world_size}:"
                " samples go on where they were, dropout and other randomness does not."
            )
        self.after_batch = rng_state()
        names = set(Mark.__dataclass_fields__) - {"rng", "buffers"}
        self.mark = Mark(**{name: state[name] for name in names}, rng=self.after_batch)


def batches(trainer: Trainer, state: str = "processed") -> dict[str, int]:
    """Micro-batches done, in this epoch and in all, the one whose end hooks now run included."""
    progress = trainer.fit_loop.epoch_loop.batch_progress.state_dict()
    return {span: progress[span][state] for span in ("current", "total")}


def rewrite_progress(loops: dict[str, Any], state: dict[str, Any]) -> None:
    """Set Lightning's saved counters to the mark: every batch that was begun is completed.

    As saved, they depend on the hook that saved them. From a checkpoint of an epoch's last batch,
    for instance, Lightning restarts with one epoch too few begun, and the next resume goes astray.
    """

    def all_of(count: int) -> dict[str, int]:
        return {"ready": count, "started": count, "processed": count, "completed": count}

    epoch, batch = state["epoch"], state["batch"]
    done = all_of(epoch)
    if batch:  # the epoch runs
        done |= {"ready": epoch + 1, "started": epoch + 1}
    loops["epoch_progress"] = {"total": dict(done), "current": dict(done)}
    loops["epoch_loop.batch_progress"] = {
        "total": all_of(state["total"]),
        "current": all_of(batch),
        "is_last_batch": state["last"],
    }
    loops["epoch_loop.state_dict"] = {"_batches_that_stepped": state["stepped"]}
    # a validation that was begun but not completed is one that Lightning runs if it is due
    begun = int(bool(batch) and not state["validated"])
    loops["epoch_loop.val_loop.batch_progress"] = {
        "total": all_of(0) | {"ready": begun, "started": begun},
        "current": all_of(0),
        "is_last_batch": False,
    }


def order_of(trainer: Trainer) -> dict[str, Any] | None:
    """What the order of samples depends on, if a `ResumableLoader` feeds the run."""
    loader = trainer.train_dataloader
    if not isinstance(loader, ResumableLoader):
        return None
    state = loader.batch_sampler.state_dict()  # type: ignore[union-attr]
    return {name: state[name] for name in ("size", "seed", "shuffle", "window")}


def refuse_other_order(trainer: Trainer, state: dict[str, Any]) -> None:
    """Inside an epoch only the order that was begun can be completed.

    Raises:
        UserError: Data, seed or batch size have changed, or the loader cannot be resumed.
    """
    if state["batch"] == 0:
        return
    now, then = order_of(trainer), state["order"]
    if now is None:
        raise UserError(
            "A run can be resumed inside an epoch only if a ResumableLoader feeds it",
            remedy="return primum.training.loading.ResumableLoader from train_dataloader, or resume"
            " from a checkpoint written at the end of an epoch",
        )
    if then is not None and now != then:
        changed = ", ".join(f"{k} {then[k]} -> {now[k]}" for k in now if now[k] != then[k])
        raise UserError(
            f"The order of samples is not the one this epoch began with ({changed})",
            remedy="restore data, seed, batch size, accumulation and number of processes (window ="
            " batch size x accumulation x processes), or resume from the end of an epoch",
        )


def rng_state() -> dict[str, Any]:
    """Global randomness of this process, as tensors and plain Python."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.as_tensor(np.asarray(keys, np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Undo whatever has drawn randomness since `rng_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def buffers_of(module: LightningModule) -> dict[str, Tensor]:
    """A copy of what a forward pass may change, batch norm's running means for one."""
    return {name: value.detach().clone() for name, value in module.named_buffers()}


def gather(mine: dict[str, Any], trainer: Trainer) -> list[dict[str, Any]]:
    """One entry a rank, in order."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def find_resume(resume: str | Path, runs_root: str | Path) -> Path:
    """The checkpoint that `resume=` means, which has been read to its end.

    Args:
        resume: `last` for the newest checkpoint under `runs_root`; a run directory for the newest
            in it; or a checkpoint itself (a file, or a folder that DeepSpeed wrote).
        runs_root: Where runs lie, at any depth.

    Raises:
        UserError: Nothing is there (it lists what was looked at), or the checkpoint is cut short or
            damaged. No older one is taken in its stead.
    """
    if str(resume) == "last":
        root, found = Path(runs_root), checkpoints_under(Path(runs_root))
    else:
        root = Path(resume)
        if is_checkpoint(root):
            check_whole(root)
            return root
        found = checkpoints_under(root)
    if not found:
        raise UserError(
            f"resume={resume} finds no checkpoint; looked at {looked_at(root)}",
            file=root,
            remedy="name a run directory or a .ckpt, or leave resume= out to begin anew",
        )
    newest = max(found, key=lambda path: (written(path), path.name == "last.ckpt"))
    check_whole(newest)
    return newest


def is_checkpoint(path: Path) -> bool:
    """A file, or a folder as DeepSpeed writes it."""
    return path.is_file() or (path / "latest").is_file()


def checkpoints_under(root: Path) -> list[Path]:
    """Whole checkpoints at any depth, with those a kill left moved aside while being replaced."""
    found = [path for path in root.rglob("*.ckpt") if is_checkpoint(path)]
    for aside in root.rglob(".*.ckpt.previous"):
        if not aside.with_name(re.sub(r"^\.|\.previous$", "", aside.name)).exists():
            found.append(aside)
    return [path for path in found if not path.name.endswith(".partial")]


def written(path: Path) -> int:
    """When a checkpoint was completed, in nanoseconds."""
    return (path / "latest" if path.is_dir() else path).stat().st_mtime_ns


def looked_at(root: Path) -> str:
    """A few words on what is under `root` instead of a checkpoint."""
    if not root.exists():
        return f"{root}, which does not exist"
    runs = sorted(str(path.parent) for path in root.rglob("config.yaml"))
    if not runs:
        return f"{root}, which holds no run"
    shown = ", ".join(runs[-5:])
    return f"{len(runs)} run(s) without a checkpoint: {shown}" + (" ..." if len(runs) > 5 else "")
