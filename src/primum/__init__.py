"""Primum: a PyTorch Lightning model zoo for trustworthy medical and document AI."""

from importlib import resources
from pathlib import Path

__version__ = "0.1.0"


def conf_dir() -> Path:
    """Folder of Hydra configs: the packaged one, else the checkout's (an editable install)."""
    packaged = Path(str(resources.files("primum"))) / "conf"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"
