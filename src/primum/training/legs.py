"""Long training in legs: each ends in time, whole, and the next goes on where it ended."""

import time

from lightning.pytorch import Callback, LightningModule, Trainer


class Leg(Callback):
    """Stops after the first epoch that ends later than so many minutes after the start.

    Lightning's `max_time` counts the time of earlier legs too. Go on with `resume=last`.

    Args:
        minutes: Of this process; None never stops.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.minutes = minutes
        self.started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        late = self.minutes is not None and time.monotonic() - self.started > 60 * self.minutes
        if trainer.strategy.reduce_boolean_decision(late, all=False):
            trainer.should_stop = True
