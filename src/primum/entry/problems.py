"""Errors as a user reads them: the problem and the remedy, the traceback only when asked for."""

import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import CodeType

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from primum.entry.arguments import APPENDED, group_of
from primum.entry.choices import names, nearest
from primum.errors import UserError
from primum.extras import extra_with
from primum.files import OUT_OF_SPACE, full_disk

FULL = "HYDRA_FULL_ERROR=1 shows the traceback"
PAIR = "pip install --upgrade torch torchvision; `primum doctor` says whether the pair fits"


class Failed(Exception):
    """A job of a sweep that did not finish, already told to the user."""


def report(
    error: BaseException,
    *,
    entry: str,
    overrides: Sequence[str],
    folders: Sequence[Path],
    below: CodeType,
    full: bool,
    rank: int,
) -> str:
    """Print an error to stderr and give its gist in one line.

    Args:
        error: What was raised.
        entry: The primary config's name, train or evaluate.
        overrides: The command line's.
        folders: Config folders, the user's own before Primum's.
        below: Traceback frames above this function's are left out.
        full: Show the traceback of every error.
        rank: Named in the message when it is not 0.
    """
    message = None if full else explained(error, entry, overrides, folders)
    place = f"[rank {rank}] " if rank else ""
    if message is None:
        frame = error.__traceback__
        while frame is not None and frame.tb_frame.f_code is not below:
            frame = frame.tb_next
        shown = error if frame is None or full else error.with_traceback(frame)
        sys.stderr.write(place)
        traceback.print_exception(shown)
        return f"{type(error).__name__}: {error}".splitlines()[0]
    sys.stderr.write(f"{place}error: {message}\n")
    return " ".join(line.strip() for line in message.splitlines()[:2])


def explained(
    error: BaseException, entry: str, overrides: Sequence[str], folders: Sequence[Path]
) -> str | None:
    """The message for a mistake in what the run was given; None for a mistake in code."""
    if (user_error := _user_error(error)) is not None:
        return user_error
    if isinstance(error, OSError) and error.errno in OUT_OF_SPACE:  # from others' code
        return str(full_disk(error.filename or Path.cwd()))
    if "torchvision::nms" in str(error):  # what importing it says when it was built for another
        return f"torchvision was not built for this torch ({error})\n  remedy: {PAIR}"
    if isinstance(error, InstantiationException):
        return _instantiation(error)
    if isinstance(error, MissingConfigException):
        return _missing(error, overrides, folders)
    if isinstance(error, OverrideParseException):
        return _unparsed(error, entry, folders)
    if "Missing mandatory value: name" in str(error):
        return _nothing_chosen(entry, overrides)
    if isinstance(error, MissingMandatoryValue):
        return f"{error}\n  remedy: {_choose(entry)}"
    if isinstance(error, ConfigCompositionException):
        return _composition(error, entry, overrides, folders)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return f"{error}\n  {FULL}"
    return None


def _user_error(error: BaseException) -> str | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):
            # a data loader's worker hands its error over as text, traceback included
            return str(seen).rpartition(f"{UserError.__module__}.{UserError.__name__}: ")[2].strip()
        seen = seen.__cause__
    return None


def _instantiation(error: InstantiationException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(error).replace(", set env var HYDRA_FULL_ERROR=1 to see chained exception.", "")
    if cause is not error and str(cause) not in text:
        text += f"\n{type(cause).__name__}: {cause}"
    frames = traceback.extract_tb(cause.__traceback__)
    if frames and "Error locating" not in text:
        text += f"\n  where:  {frames[-1].filename}, line {frames[-1].lineno}"
    if isinstance(cause, ModuleNotFoundError | AttributeError) and "Error locating" in text:
        text += f"\n  remedy: {_locating(text, cause)}"
    return f"{text}\n  {FULL}"


def _locating(text: str, cause: BaseException) -> str:
    if isinstance(cause, ModuleNotFoundError) and (extra := extra_with(cause.name or "")):
        return f'pip install "primum[{extra}]"'
    module, _, name = text.split("'")[1].rpartition(".")
    try:
        found = nearest(name, vars(import_module(module)))
    except (ImportError, ValueError):
        return "install the package, or run from the folder it lies in"
    return f"did you mean `{module}.{found[0]}`?" if found else f"{module} has no `{name}`"


def _unparsed(error: OverrideParseException, entry: str, folders: Sequence[Path]) -> str:
    word, group = error.override, APPENDED[entry][0]
    if found := nearest(word, names(group, folders)):
        return f"`{word}` is no key=value\n  remedy: did you mean `+{group}={found[0]}`?"
    remedy = "every word is key=value; quote what holds one of =,()[]{} or a space: key=\"'value'\""
    return f"{error}\n  remedy: {remedy}"


def _nothing_chosen(entry: str, overrides: Sequence[str]) -> str:
    group = APPENDED[entry][0]
    slips = [word for word in overrides if nearest(group_of(word), [group])]
    if slips and group_of(slips[0]) != group:
        return f"`{slips[0]}`: nothing reads this\n  remedy: did you mean `{group}`?"
    if slips:
        return f"`{slips[0]}` sets no `name`\n  remedy: add `name: <family>/<name>` to that file"
    return f"No {group} was chosen\n  remedy: {_choose(entry)}"


def _missing(
    error: MissingConfigException, overrides: Sequence[str], folders: Sequence[Path]
) -> str:
    file = error.missing_cfg_file or ""
    group, _, name = file.removesuffix(".yaml").partition("/")
    known = names(group, folders)
    if not name or not known:
        return str(error)
    found = nearest(name, known)
    remedy = f"did you mean `{found[0]}`?" if found else f"choose one of {', '.join(known)}"
    return f"There is no {group} `{name}`\n  remedy: {remedy}"


def _composition(
    error: ConfigCompositionException,
    entry: str,
    overrides: Sequence[str],
    folders: Sequence[Path],
) -> str:
    from primum.entry.keys import hint

    text = str(error).splitlines()
    refused = re.match(r"Could not (?:override|delete)[^']*'([^']+)'", text[0]) or re.match(
        r"Could not override '?([^'.]+)", text[0]
    )
    if refused is None:
        if "You must specify" in text[0]:
            return f"{text[0]}\n  remedy: {_choose(entry)}"
        if given := re.match(r"Error merging override \+*([^=]+)=", text[0]):
            text += str(error.__cause__ or "").splitlines()[:1]
            text.append(f"  remedy: to replace another kind of value, ~{given[1]} +{given[1]}=...")
        return "\n".join([*text, f"  {FULL}"])
    key = refused[1]
    typed = next((w for w in overrides if w.partition("=")[0].lstrip("+~") == key), key)
    remedy = hint(typed, overrides, entry, folders)
    if not remedy or isinstance(error.__cause__, TypeError):
        return "\n".join([*text, str(error.__cause__ or "")]).strip()
    return f"There is no key `{key}`\n  remedy: {remedy}"


def _choose(entry: str) -> str:
    first = "+experiment=<family>/<name>" if entry == "train" else "benchmark=<name>"
    return f"choose {first}; python {entry}.py --help lists them"
