"""Ranks under every launcher: Lightning knows torchrun and SLURM, this the `deepspeed` command."""

import os
from typing import Any

from lightning.fabric.plugins.environments import ClusterEnvironment, TorchElasticEnvironment

from primum.training.saving import AtomicCheckpointIO


class DeepSpeedLauncherEnvironment(ClusterEnvironment):
    """Ranks as the `deepspeed` command hands them out.

    It sets RANK and CROSS_RANK but no NODE_RANK, from which Lightning would otherwise compute the
    rank, so that every node would believe itself the first one.
    """

    @staticmethod
    def detect() -> bool:
        given = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "CROSS_RANK", "CROSS_SIZE"}
        return given <= os.environ.keys() and not TorchElasticEnvironment.detect()

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", "29500"))

    def world_size(self) -> int:
        return int(os.environ["WORLD_SIZE"])

    def set_world_size(self, size: int) -> None:
        """Nothing to set: the launcher decided."""

    def global_rank(self) -> int:
        return int(os.environ["RANK"])

    def set_global_rank(self, rank: int) -> None:
        """Nothing to set: the launcher decided."""

    def local_rank(self) -> int:
        return int(os.environ["LOCAL_RANK"])

    def node_rank(self) -> int:
        return int(os.environ["CROSS_RANK"])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        if num_devices * num_nodes != self.world_size():
            raise ValueError(
                f"trainer.devices={num_devices} and trainer.num_nodes={num_nodes} make"
                f" {num_devices * num_nodes} processes, the deepspeed launcher started"
                f" {self.world_size()}"
            )


def trainer_plugins() -> list[Any]:
    """What every `Trainer` of this project gets: whole-or-absent checkpoints, the right ranks."""
    plugins: list[Any] = [AtomicCheckpointIO()]
    if DeepSpeedLauncherEnvironment.detect():
        plugins.append(DeepSpeedLauncherEnvironment())
    return plugins
