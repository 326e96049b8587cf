"""What can be chosen: the names in conf/ and in a user's own folder, and the nearest to a slip."""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

GROUPS = {
    "train": (
        "model", "module", "data", "trainer", "callbacks", "logger", "debug", "hparams_search",
    ),
    "evaluate": ("method", "trainer"),
}  # fmt: skip


def names(group: str, folders: Iterable[Path]) -> dict[str, Path]:
    """The files of a group by the name one types; an earlier folder hides a later one."""
    found: dict[str, Path] = {}
    for folder in folders:
        for file in sorted((folder / group).rglob("*.yaml")):
            found.setdefault(file.relative_to(folder / group).with_suffix("").as_posix(), file)
    return dict(sorted(found.items()))


def summary(file: Path) -> str:
    """The first comment of a config file that is meant for people."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            return ""
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):
            return text
    return ""


def nearest(word: str, words: Iterable[str], count: int = 1) -> list[str]:
    """The names that look most like what was typed, the best one first.

    >>> nearest("alignment/quikstart", ["alignment/quickstart", "parsing/quickstart"])
    ['alignment/quickstart']
    >>> nearest("lr", ["module.optimizer.lr", "module.loss"])
    ['module.optimizer.lr']
    """
    words = list(words)
    same_end = [other for other in words if re.split(r"[./]", other)[-1] == word]
    alike = difflib.get_close_matches(word, words, count, cutoff=0.6)
    by_end = {re.split(r"[./]", other)[-1]: other for other in words}
    tail = re.split(r"[./]", word)[-1]
    alike_end = [by_end[end] for end in difflib.get_close_matches(tail, by_end, count, cutoff=0.75)]
    return list(dict.fromkeys([*same_end, *alike, *alike_end]))[:count]


def overview(entry: str, title: str, folders: Sequence[Path], primary: Path) -> str:
    """The text of `--help`: what to type, what can be chosen, and the keys with their defaults."""
    script = f"python {entry}.py"
    if entry == "train":
        first, usage = "experiment", f"{script} +experiment=<family>/<name> [key=value ...]"
        examples = [
            (f"{script} +experiment=X trainer=ddp module.optimizer.lr=1e-4", "a group, a key"),
            (f"{script} +experiment=X debug=limit", "a few batches of everything"),
            (f"{script} +experiment=X resume=last", "go on where the last run stopped"),
            (f"{script} -m +experiment=X seed=0,1,2", "one run after another"),
            (f"{script} +experiment=X hparams_search=lr_sweep", "let Optuna choose"),
            (f"{script} --config-dir my/conf +experiment=mine/first", "your own conf and package"),
            (f"{script} +experiment=X --cfg job", "show the config, run nothing"),
        ]
    else:
        first = "benchmark"
        usage = f"{script} benchmark=<name> checkpoint=<manifest | directory | hub id>"
        examples = [
            (f"{script} benchmark=X checkpoint=outputs/…/<run>", "a run of train.py"),
            (
                f"{script} benchmark=X checkpoint=<hub id> limit=20",
                "any model of the hub, 20 cases",
            ),
            (f"{script} benchmark=X endpoint=http://localhost:8000/v1", "a model that is served"),
            (f"{script} benchmark=X predictions=answers.jsonl", "answers already made"),
            (f"{script} benchmark=X method=Y", "a method of conf/method"),
        ]
    lines = [title, "", f"usage: {usage}", ""]

    chosen = names(first, folders)
    width = max((len(name) for name in chosen), default=0)
    lines.append(f"{first}s")
    lines += [f"  {name:<{width}}  {summary(file)}".rstrip() for name, file in chosen.items()]
    if not chosen:
        lines.append(f"  none yet: add conf/{first}/<name>.yaml, or name a folder by --config-dir")

    lines += ["", "groups (choose by group=name)"]
    for group in GROUPS[entry]:
        if members := names(group, folders):
            lines.append(f"  {group:<15} {'  '.join(members)}")
    if entry == "train" and (benchmarks := names("benchmark", folders)):
        lines += ["", f"benchmarks (of evaluate.py): {'  '.join(benchmarks)}"]

    lines += ["", "keys (change by key=value)", *keys(primary)]
    width = max(len(command) for command, _ in examples)
    lines += ["", "examples", *(f"  {command:<{width}}  {why}" for command, why in examples)]
    lines += ["", "Hydra's own options: --hydra-help"]
    return "\n".join(lines)


def keys(primary: Path) -> list[str]:
    """The commented keys of a primary config, as its file states them."""
    body = re.sub(r"(?m)^defaults:\n(?: +.*\n)+", "", primary.read_text(encoding="utf-8"))
    lines, parent = [], ""
    for indent, key, value, comment in re.findall(
        r"^( *)(\w+):(?: +([^#\s].*?))?(?: +# (.*))?$", body, re.MULTILINE
    ):
        parent = parent if indent else key
        if comment:
            name = f"{parent}.{key}" if indent else key
            shown = "" if value.startswith("${") or value == "???" else value
            lines.append(f"  {f'{name}={shown}':<32} {comment}")
    return lines
