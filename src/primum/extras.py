"""Optional packages, imported where they are used and named when they are missing."""

import re
from importlib import import_module, metadata
from types import ModuleType

from primum.errors import UserError

DISTRIBUTIONS = {  # where a module is not called as what one installs
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        UserError: It is not installed; the message names the extra that brings it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there, one of its own imports is not
        raise UserError(
            f"This needs the package `{module.split('.')[0]}`, which is not installed",
            remedy=f'pip install "primum[{extra}]"',
        ) from None


def extra_with(module: str) -> str | None:
    """The smallest extra that brings a module, where one does.

    >>> extra_with("torchvision.transforms")
    'vision'
    """
    top = module.split(".")[0]
    wanted = DISTRIBUTIONS.get(top, top).replace("_", "-").lower()
    brought: dict[str, set[str]] = {}
    for requirement in metadata.requires("primum") or ():
        name = re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0].lower()
        for extra in re.findall(r"extra == ['\"]([\w-]+)['\"]", requirement):
            brought.setdefault(extra, set()).add(name)
    with_it = [extra for extra, names in brought.items() if wanted in names]
    return min(with_it, key=lambda extra: len(brought[extra]), default=None)
