"""The command line before Hydra reads it: other spellings, launchers' leftovers, order."""

import re
from dataclasses import dataclass

APPENDED = {
    "train": ("experiment", "debug", "hparams_search"),
    "evaluate": ("benchmark", "method"),
}  # groups in no defaults list: appended behind it in this order, the later wins

_TAKES_VALUE = {
    "--package", "-p", "--config-path", "-cp", "--config-name", "-cn",
    "--config-dir", "-cd", "--cfg", "-c", "--experimental-rerun",
}  # fmt: skip
_TAKES_WORD = {"--info", "-i"}  # its value may be left out
_LOCAL_RANK = ("--local_rank", "--local-rank")  # the deepspeed launcher adds it; LOCAL_RANK says it
_PATHS = ("resume", "checkpoint", "endpoint", "predictions")


@dataclass(frozen=True)
class Arguments:
    """A command line in two parts.

    Args:
        flags: Hydra's own options, each followed by its value.
        overrides: `key=value` words in the order in which Hydra shall apply them.
    """

    flags: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        # flags first: argparse refuses overrides on both sides of a flag
        return [*self.flags, *self.overrides]

    def has(self, *flags: str) -> bool:
        """Whether one of these flags was typed."""
        return any(flag in self.flags for flag in flags)

    def value(self, *flags: str) -> str | None:
        """What was typed behind a flag, in either spelling."""
        for index, word in enumerate(self.flags):
            name, equals, value = word.partition("=")
            if name in flags:
                return value if equals else self.flags[index + 1]
        return None

    def without(self, *flags: str) -> "Arguments":
        """The same command line less some flags that take no value."""
        return Arguments(tuple(flag for flag in self.flags if flag not in flags), self.overrides)


def read(words: list[str], entry: str) -> Arguments:
    """Sort a command line into what Hydra understands.

    >>> read(["debug=fdr", "experiment=a/b", "-m", "seed=1,2", "--local_rank=0"], "train").words
    ['-m', 'seed=1,2', '+experiment=a/b', '+debug=fdr']
    >>> read(["resume=runs/epoch=3.ckpt"], "train").words
    ["resume='runs/epoch=3.ckpt'"]
    """
    flags: list[str] = []
    overrides: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word.startswith(_LOCAL_RANK):
            if word in _LOCAL_RANK and queue:
                queue.pop(0)
        elif queue and (
            word in _TAKES_VALUE or (word in _TAKES_WORD and re.fullmatch(r"[\w-]+", queue[0]))
        ):
            flags += [word, queue.pop(0)]
        elif word.startswith("-"):
            flags.append(word)
        else:
            overrides.append(_quoted(word))

    appended = APPENDED[entry]
    last = sorted(
        (word for word in overrides if group_of(word) in appended),
        key=lambda word: appended.index(group_of(word)),
    )
    first = [word for word in overrides if group_of(word) not in appended]
    return Arguments(tuple(flags), (*first, *(f"+{word.lstrip('+')}" for word in last)))


def group_of(override: str) -> str:
    """The key an override is about: `+experiment=a/b` gives `experiment`."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def _quoted(word: str) -> str:
    """Quote a path that Hydra's grammar would refuse, such as `epoch=3.ckpt`."""
    key, _, value = word.partition("=")
    if key not in _PATHS or value[:1] in ("'", '"', "[", "$") or "," in value:
        return word
    if re.search(r"[=\s()#&;!]", value) is None:
        return word
    return f"{key}='{value}'" if "'" not in value else word
