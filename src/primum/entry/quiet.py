"""One voice on the console: each message once, none that a user can do nothing about."""

import logging
import warnings

_NOISE = (
    "Experiment logs directory .* exists",  # the run's folder is meant to hold more than its table
    ".*isinstance.treespec, LeafSpec.*",  # Lightning's affair with PyTorch
    ".*is_gradient_checkpointing. is deprecated.*",  # PEFT's with transformers
)
_SPOKEN = {  # by logger: what it says when it is imported, and is no news here
    "DeepSpeed": "Setting accelerator to CPU",
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",
}


class _Without(logging.Filter):
    """Lets pass what does not hold a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def filter(self, record: logging.LogRecord) -> bool:
        return self.text not in record.getMessage()


def hush() -> None:
    """Drop what libraries say while they are imported, some of it on stdout."""
    for name, said in _SPOKEN.items():
        logging.getLogger(name).addFilter(_Without(said))
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)


def quiet() -> None:
    """Leave the console to Hydra's handler; drop advertisements and other people's deprecations."""
    import lightning

    hush()
    logging.getLogger(lightning.__name__).handlers.clear()  # it prints what the root prints
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_Without("💡"))
