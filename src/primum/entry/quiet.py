"""One voice on the console: each message once, none that a user can do nothing about."""

import logging
import warnings

_NOISE = (
    "Experiment logs directory .* exists",  # the run's folder is meant to hold more than its table
    ".*isinstance.treespec, LeafSpec.*",  # Lightning's affair with PyTorch
    ".*is_gradient_checkpointing. is deprecated.*",  # PEFT's with transformers
)


def quiet() -> None:
    """Leave the console to Hydra's handler; drop advertisements and other people's deprecations."""
    import lightning

    logging.getLogger(lightning.__name__).handlers.clear()  # it prints what the root prints
    told = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # a 4-bit CPU kernel few would use
    told.addFilter(lambda record: "💡" not in record.getMessage())
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
