"""Optional packages, imported where they are used and named when they are missing."""

from importlib import import_module
from types import ModuleType

from primum.errors import UserError


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
