"""What a manifest may build. `instantiate` on a downloaded YAML would otherwise run any code."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from primum.errors import UserError

# Rooms of ours that describe models. Others write files, start servers or import by name.
ROOMS = ("alignment", "judges", "language", "metrics", "parsing", "segmentation", "training")
OURS = ("primum_kernels", *(f"primum.{room}" for room in ROOMS))
LIBRARIES = (
    "peft",
    "timm",
    "torch.nn",
    "torch.optim",
    "torchmetrics",
    "torchvision",
    "transformers",
)

# From a library only its building blocks: most functions and loaders of these packages can fetch
# code, unpickle or start processes when their arguments say so.
BLOCKS = (
    "torch.nn.Module",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "transformers.PretrainedConfig",
    "transformers.GenerationConfig",
    "peft.PeftConfig",
)
BUILDERS = (
    "timm.create_model",
    "timm.models.",
    "torch.nn.functional.",
    "torch.nn.init.",
    "torchvision.models.",
    "transformers.get_",  # learning-rate schedules
    "transformers.optimization.get_",
)
OUR_BUILDERS = (
    "primum.alignment.",
    "primum.parsing.",
    "primum.segmentation.",
    "primum_kernels.",
)

# Not even when `trusted_modules` names them.
NEVER = sys.stdlib_module_names | {
    "cloudpickle",
    "dill",
    "hydra",
    "joblib",
    "omegaconf",
    "pip",
    "yaml",
}
NEVER_WITHIN = ("torch.hub", "torch.load", "torch.serialization", "torch.package", "torch.utils")

DOTTED = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")
DEEPEST, LARGEST = 64, 100_000


def check_targets(
    node: Any,
    trusted_modules: Sequence[str] = (),
    *,
    file: Any = None,
    trust_remote_code: bool = False,
) -> None:
    """Refuse a config node that would build, or import, anything but parts of models.

    Each `_target_` must name a public class or function of an allowed package, and the object found
    under that name must really have been defined in one: `primum.files.os.remove` is not.

    Args:
        node: A manifest's `module`: plain dictionaries, lists and values.
        trusted_modules: Packages of the user that may be built besides ours.
        file: The manifest, named in the error.
        trust_remote_code: Allow `trust_remote_code: true` in the node.

    Raises:
        UserError: It names the `_target_` and what to do.
    """
    for trusted in trusted_modules:
        if trusted.split(".")[0] in NEVER:
            raise UserError(
                f"`{trusted}` can run any code and cannot be trusted as a module of yours"
            )
    for mapping in _mappings(node, file):
        for key, value in mapping.items():
            if isinstance(value, str) and "${" in value:
                raise UserError(
                    f"`{key}` holds an interpolation, {value!r}; a manifest is resolved", file=file
                )
            if key == "trust_remote_code" and value and not trust_remote_code:
                raise UserError(
                    "The manifest asks to run Python code that comes with a model",
                    file=file,
                    remedy="read that code, then pass trust_remote_code=true",
                )
        if "_target_" in mapping:
            reason = _refusal(mapping["_target_"], tuple(trusted_modules))
            if reason:
                raise UserError(
                    f"The manifest would build `{mapping['_target_']}`, which {reason}",
                    file=file,
                    remedy="if the module is yours and you trust it: trusted_modules=[ITS_PACKAGE]",
                )


def _mappings(node: Any, file: Any) -> Iterator[dict[Any, Any]]:
    """Every mapping in a node, with bounds: aliases in YAML can make a small file endless."""
    waiting, seen = [(node, 0)], 0
    while waiting:
        current, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST or seen > LARGEST:
            raise UserError("The manifest's module is nested without end", file=file)
        if isinstance(current, dict):
            yield current
            waiting += [(child, depth + 1) for child in current.values()]
        elif isinstance(current, list | tuple):
            if any(isinstance(child, str) and "${" in child for child in current):
                raise UserError("A list holds an interpolation; a manifest is resolved", file=file)
            waiting += [(child, depth + 1) for child in current]


def _refusal(target: Any, trusted: tuple[str, ...]) -> str | None:
    """Why a target may not be built; None if it may."""
    if not isinstance(target, str) or not DOTTED.fullmatch(target):
        return "is not the dotted name of a public class or function"
    if target.split(".")[0] in NEVER or _within(target, NEVER_WITHIN):
        return "can run any code"
    allowed = (*OURS, *LIBRARIES, *trusted)
    if not _within(target, allowed):
        return f"is none of the packages a manifest may build from ({', '.join(allowed)})"
    parent, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(parent), name)
    except (ImportError, AttributeError, ValueError):
        # import_module, unlike Hydra, does not walk attributes into what a module has imported
        return "does not exist here (is its package installed?)"
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return "is neither a class nor a function"
    home = f"{found.__module__}.{found.__qualname__}"
    if not _within(home, allowed) or "<locals>" in home or found.__qualname__ != found.__name__:
        return f"is really `{home}`"
    if _within(target, trusted) and _within(home, trusted):
        return None
    if _within(home, OURS):
        if home.split(".")[-2] == "commands":
            return "is a command"
        if inspect.isclass(found) or home.startswith(OUR_BUILDERS):
            return None
        return "is a function, where a manifest may build parts of models only"
    if inspect.isclass(found):
        ancestors = {f"{one.__module__}.{one.__name__}" for one in found.__mro__}
        return None if ancestors & _blocks() else "is no part of a model"
    return None if target.startswith(BUILDERS) else "is a function that may do more than build"


def _within(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _blocks() -> set[str]:
    """Where the base classes of building blocks are really defined."""
    homes = set()
    for block in BLOCKS:
        package, _, name = block.rpartition(".")
        try:
            found = getattr(import_module(package), name)
        except ImportError:
            continue  # an extra that is not installed
        homes.add(f"{found.__module__}.{found.__name__}")
    return homes
