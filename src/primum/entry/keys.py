"""Keys that were typed: those nothing reads are refused, misspelt ones get a hint."""

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from primum.entry.arguments import group_of
from primum.entry.choices import nearest
from primum.errors import UserError

PARTS = ("callbacks", "logger")  # mappings from a name to a part that is built


def refuse_unread(
    cfg: DictConfig, overrides: Iterable[str], groups: Iterable[str], read: Iterable[str]
) -> None:
    """Refuse a key added by `+` or `++` that neither a constructor nor another key takes.

    Args:
        cfg: The composed config.
        overrides: The command line's, as typed.
        groups: The config groups that were chosen from; they are no keys.
        read: The top-level keys that the entry point reads by itself.

    Raises:
        UserError: Nothing reads the key; the message names the nearest one that is read.
    """
    tree: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    groups, read = set(groups), set(read)
    for text in overrides:
        key = group_of(text)
        if not text.startswith("+") or key in groups:
            continue
        parts = key.split(".")
        references = set(_references(tree, skip=parts))
        if any(f"{reference}.".startswith(f"{key}.") for reference in references):
            continue
        if owner := _constructor(tree, parts):
            target, depth = owner
            argument, parameters = parts[depth], constructor_arguments(target)
            if argument.startswith("_") or parameters is None or argument in parameters:
                continue
            remedy = _did_you_mean(argument, parameters)
            raise UserError(f"`{text}`: {target} takes no `{argument}`", remedy=remedy)
        if any(key.startswith(f"{reference}.") for reference in references):
            continue
        if parts[0] not in read:
            remedy = _did_you_mean(key, read | groups)
            raise UserError(f"`{text}`: nothing reads `{key}`", remedy=remedy)
        if not _complete(tree, parts):
            raise UserError(
                f"`{text}`: nothing reads `{key}`",
                remedy=f"a part needs a class: +{'.'.join(parts[:2])}._target_=package.module.Class"
                if parts[0] in PARTS
                else _did_you_mean(key, _paths(tree)),
            )


def hint(override: str, overrides: Sequence[str], entry: str, folders: Sequence[Path]) -> str:
    """What the user may have meant by a key that is not in the config.

    Args:
        override: The word Hydra refused.
        overrides: All words, that one included.
        entry: Name of the primary config.
        folders: Config folders, the user's own before Primum's.
    """
    cfg = _composed([word for word in overrides if word != override], entry, folders)
    if cfg is None:
        return ""
    key, _, value = override.partition("=")
    key = key.lstrip("+~")
    tree: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    candidates = set(_paths(tree))
    parts = key.split(".")
    if owner := _constructor(tree, parts):
        target, depth = owner
        parameters = constructor_arguments(target) or set()
        if parts[depth] in parameters and depth == len(parts) - 1:
            return (
                f"{target} takes `{parts[depth]}`, the config just leaves it alone: +{key}={value}"
            )
        candidates |= {".".join([*parts[:depth], parameter]) for parameter in parameters}
    groups = {file.name for folder in folders for file in folder.iterdir() if file.is_dir()}
    return _did_you_mean(key, candidates | groups)


def constructor_arguments(target: str) -> set[str] | None:
    """The names a constructor takes, or None when it takes any or cannot be looked at."""
    try:
        parameters = inspect.signature(get_object(target)).parameters
    except (ImportError, ValueError, TypeError, AttributeError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return set(parameters)


def _did_you_mean(word: str, words: Iterable[str]) -> str:
    found = nearest(
        word, sorted(other for other in words if not f"{word}.".startswith(f"{other}."))
    )
    return f"did you mean `{found[0]}`?" if found else "see --cfg job for the keys there are"


def _constructor(tree: dict[str, Any], parts: Sequence[str]) -> tuple[str, int] | None:
    """The innermost `_target_` above a key, and which part of the key names its argument."""
    node: Any = tree
    found = None
    for depth, part in enumerate(parts):
        if not isinstance(node, dict):
            break
        if isinstance(node.get("_target_"), str):
            found = (node["_target_"], depth)
        node = node.get(part)
    return found


def _complete(tree: dict[str, Any], parts: Sequence[str]) -> bool:
    """Whether an added node without a constructor above it can itself be built."""
    node: Any = tree
    for part in parts:
        node = node.get(part) if isinstance(node, dict) else None
    return isinstance(node, dict) and "_target_" in node


def _references(node: Any, skip: Sequence[str] = ()) -> Iterator[str]:
    """Every key that an interpolation names, outside the subtree `skip`."""
    if isinstance(node, dict):
        for key, child in node.items():
            if list(skip) != [key]:
                yield from _references(child, skip[1:] if skip[:1] == [key] else ())
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)
    elif isinstance(node, str):
        yield from re.findall(r"\$\{([\w./-]+)\}", node)


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield f"{prefix}{key}"
            yield from _paths(child, f"{prefix}{key}.")


def _composed(overrides: list[str], entry: str, folders: Sequence[Path]) -> DictConfig | None:
    """The config without the words Hydra refuses, or None when too much is wrong."""
    own = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in folders[:-1])}]"]
    with initialize_config_dir(str(folders[-1]), version_base="1.3"):
        while True:
            try:
                return compose(entry, [*overrides, *(own if len(folders) > 1 else [])])
            except (HydraException, OmegaConfBaseException) as error:
                refused = re.search(r"Could not \w+(?: to config\.?)? '?([^'=\n]+)", str(error))
                bad = refused[1] if refused else None
                rest = [word for word in overrides if group_of(word) != bad]
                if len(rest) == len(overrides):
                    return None
                overrides = rest
