"""DeepSpeed for everybody: the same ZeRO stages on GPUs and, for small machines, on CPUs."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision.deepspeed import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn

from primum.errors import UserError
from primum.extras import require
from primum.training.saving import UNREADABLE, full_disk_told, unreadable


class ExactDeepSpeedPrecision(DeepSpeedPrecision):
    """Leaves the division by `accumulate_grad_batches` to Lightning alone.

    Lightning divides the loss by the number of accumulated batches and DeepSpeed's `backward` would
    divide it once more, which shrinks SGD's steps and loosens gradient clipping by that factor.
    """

    def backward(  # type: ignore[override]
        self, tensor: Tensor, model: LightningModule, optimizer: Any, *args: Any, **kwargs: Any
    ) -> None:
        super().backward(tensor, model, optimizer, *args, scale_wrt_gas=False, **kwargs)


class DeepSpeed(DeepSpeedStrategy):
    """ZeRO stages 0 to 3, with the loss trace of DDP.

    Args:
        stage: 0 shards nothing, 1 the optimizer state, 2 gradients too, 3 parameters too.
        offload_optimizer: Keep the optimizer state in host memory.
        offload_parameters: Keep parameters in host memory (stage 3).
        passthrough: Everything else Lightning's `DeepSpeedStrategy` takes.

    Raises:
        UserError: DeepSpeed is not installed.
    """

    def __init__(
        self,
        stage: int = 2,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        **passthrough: Any,
    ) -> None:
        require("deepspeed", "deepspeed")
        if stage not in (0, 1, 2, 3):
            raise UserError(f"ZeRO has stages 0 to 3, not {stage}", remedy="strategy.stage=2")
        if offload_parameters and stage != 3:
            raise UserError(
                f"Parameters can be offloaded at ZeRO stage 3 only, not at stage {stage}",
                remedy="use trainer=deepspeed_zero3, or offload_parameters=false",
            )
        super().__init__(
            stage=stage,
            offload_optimizer=offload_optimizer,
            offload_parameters=offload_parameters,
            **passthrough,
        )

    # Running on a CPU: Lightning refuses it, DeepSpeed does not.

    @property
    def on_cpu(self) -> bool:
        assert self.parallel_devices is not None
        return self.parallel_devices[0].type == "cpu"

    @property
    def root_device(self) -> torch.device:
        # DeepSpeed compares the index with 0, so a CPU must have one
        return torch.device("cpu", 0) if self.on_cpu else super().root_device

    def setup_environment(self) -> None:
        if self.on_cpu:
            DDPStrategy.setup_environment(self)
        else:
            super().setup_environment()

    def setup_distributed(self) -> None:
        if not self.on_cpu:
            super().setup_distributed()
        else:
            take_cpu()
            self._process_group_backend = "gloo"
            reset_seed()
            self.set_world_ranks()
            self._init_deepspeed_distributed()
        destroy_process_group_at_exit()

    def setup(self, trainer: Trainer) -> None:
        if type(self.precision_plugin) is DeepSpeedPrecision:
            self.precision_plugin = ExactDeepSpeedPrecision(
                self.precision_plugin.precision  # type: ignore[arg-type]
            )
        super().setup(trainer)
        # only tensors and plain Python are read back, as everywhere else in this project
        self.deepspeed_engine.checkpoint_engine.load = load_tensors

    @contextmanager
    def model_sharded_context(self) -> Iterator[None]:
        """Let `configure_model` call `from_pretrained` under stage 3.

        Transformers shards while it loads only as long as this configuration object lives.
        Building `SomeModel(config)` here would still be initialised wrongly: use `from_config` of
        an Auto class.
        """
        self._init_config_if_needed()
        alive = None
        if self.zero_stage_3:
            try:
                from transformers.integrations import HfDeepSpeedConfig

                alive = HfDeepSpeedConfig(self.config)
            except ImportError:  # no transformers, so no model of theirs is built either
                pass
        with super().model_sharded_context():
            yield
        del alive

    # Whole weights out of shards

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's whole state; under stage 3 gathered, on the CPU of rank 0, `{}` elsewhere.

        Call it on every rank. While `fit` runs, Lightning asks for it at each checkpoint only to
        throw it away (DeepSpeed writes its own shards), so nothing is gathered then.
        """
        module = self.lightning_module
        assert module is not None
        if module.trainer.state.status == TrainerStatus.RUNNING:
            return super().lightning_module_state_dict()
        return self.full_state_dict(module)

    def full_state_dict(self, module: nn.Module) -> dict[str, Tensor]:
        """Gather `module.state_dict()` parameter by parameter, so that one GPU never holds it all.

        Every rank must call it. Tied weights stay one tensor.
        """
        if not self.zero_stage_3:
            return dict(module.state_dict())
        import deepspeed

        whole: dict[str, Tensor] = {}
        seen: dict[int, Tensor | None] = {}  # on every rank: all must skip the same tied weights
        entries = module.state_dict(keep_vars=True)
        for name, value in entries.items():
            if id(value) not in seen:
                sharded = hasattr(value, "ds_id")
                with deepspeed.zero.GatheredParameters([value]) if sharded else nullcontext():
                    seen[id(value)] = value.detach().cpu().clone() if self.is_global_zero else None
            gathered = seen[id(value)]
            if gathered is not None:
                whole[name] = gathered
        return whole

    @contextmanager
    def whole_parameters(self, module: nn.Module) -> Iterator[None]:
        """All of `module`'s parameters on every rank, and nothing that waits for other ranks.

        Inside, ranks may call the module unequally often, as when each generates answers of its
        own length; calls must not need gradients. Stages below 3 have nothing to gather.
        """
        if not self.zero_stage_3:
            yield
            return
        import deepspeed

        optimizer = self.deepspeed_engine.optimizer
        offload = getattr(optimizer, "parameter_offload", optimizer)
        parameters: list[Any] = list(module.parameters())
        with deepspeed.zero.GatheredParameters(parameters):
            for parameter in parameters:
                parameter.ds_active_sub_modules.clear()
            for hook in (*offload.forward_hooks, *offload.backward_hooks):
                hook.remove()
            offload.forward_hooks, offload.backward_hooks = [], []
            try:
                yield
            finally:
                coordinator = offload.get_param_coordinator()
                if not coordinator.is_invalid_trace():  # it recorded an order that is no more
                    coordinator._invalidate_trace()
                offload._register_deepspeed_module(offload.module)

    # Checkpoints are directories; a kill while saving must leave the previous one whole.

    def save_checkpoint(
        self, checkpoint: dict, filepath: str | Path, storage_options: Any = None
    ) -> None:
        final = Path(self.broadcast(str(filepath)))
        partial = final.with_name(f".{final.name}.partial")
        leads_node = self.local_rank == 0
        if leads_node:
            shutil.rmtree(partial, ignore_errors=True)
            final.parent.mkdir(parents=True, exist_ok=True)
        self.barrier("the place for the checkpoint is empty")
        try:
            with full_disk_told(final):
                super().save_checkpoint(checkpoint, partial, storage_options)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self.barrier("every shard is written")
        if self.is_global_zero:
            replace_folder(partial, final)
        self.barrier("the checkpoint is in place")
        if leads_node and not self.is_global_zero and partial.exists():
            replace_folder(partial, final)  # this node does not share rank 0's disk

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        path = Path(checkpoint_path)
        if not self.load_full_weights and not (path / "latest").is_file():
            raise UserError(
                "This is not a checkpoint that DeepSpeed wrote (a folder with a file `latest`)",
                file=path,
                remedy="resume it with the trainer that wrote it, e.g. trainer=cpu or trainer=ddp",
            )
        return super().load_checkpoint(checkpoint_path, weights_only)


def zero_stage(trainer: Any) -> int:
    """The ZeRO stage of this trainer's strategy; 0 without a trainer or DeepSpeed."""
    config = getattr(getattr(trainer, "strategy", None), "config", None)
    zero = config.get("zero_optimization", {}) if isinstance(config, dict) else {}
    return int(zero.get("stage", 0))


def shards_parameters(trainer: Any) -> bool:
    """Whether this trainer's strategy splits parameters over ranks as ZeRO-3 does."""
    return zero_stage(trainer) == 3


@contextmanager
def whole_here() -> Iterator[None]:
    """What is built here inside `configure_model` is whole until training begins.

    Under ZeRO-3 a new layer's weights are split the moment it is made; whoever fills them in
    afterwards, as PEFT does, would fill in nothing. DeepSpeed splits them when it takes the module.
    """
    module = sys.modules.get("deepspeed.runtime.zero.partition_parameters")
    if module is None or not module.zero_init_context:
        yield
        return
    module.shutdown_init_context()
    try:
        yield
    finally:
        module.restore_init_context()


def take_cpu() -> None:
    """Make the CPU DeepSpeed's device, also beside a GPU, without compiling anything.

    Its CPU device would build a C++ shared-memory all-reduce at the first run, for minutes and only
    where there is a compiler; gloo does that work as well.
    """
    from deepspeed.accelerator import set_accelerator
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    class CPU(CPU_Accelerator):
        def create_op_builder(self, op_name: str) -> Any:
            return None if op_name == "ShareMemCommBuilder" else super().create_op_builder(op_name)

    set_accelerator(CPU())


def replace_folder(partial: Path, final: Path) -> None:
    """Move a finished folder into place; at any instant a whole one exists under a known name."""
    previous = final.with_name(f".{final.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if final.is_dir():
        os.rename(final, previous)
    elif final.exists():
        final.unlink()
    os.rename(partial, final)
    shutil.rmtree(previous, ignore_errors=True)


def load_tensors(path: str, map_location: Any = None) -> Mapping[str, Any]:
    """Read one of DeepSpeed's files without running what a pickle may contain.

    Raises:
        UserError: The file is cut short, damaged, or holds more than tensors and plain Python.
    """
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    known = [ZeroStageEnum, LossScaler, DynamicLossScaler, fragment_address]
    try:
        with torch.serialization.safe_globals(known):
            return torch.load(path, map_location=map_location, weights_only=True)
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def destroy_process_group_at_exit() -> None:
    """Close the group when the interpreter ends: exporting shards after `fit` still needs it."""
    import atexit

    from lightning.fabric.utilities.distributed import _destroy_dist_connection

    atexit.unregister(_destroy_dist_connection)
    atexit.register(_destroy_dist_connection)
