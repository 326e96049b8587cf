"""What an attack teaches: to refuse it, and to help the harmless twin that came in the same dress.

Successful attacks on the train split become conversations with the twins' refusal as the answer;
each brings its contrast, the benign twin in the same framing with its helpful answer, so that the
model does not learn to refuse the framing; everyday requests keep it from refusing the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from primum.alignment.everyday import everyday
from primum.alignment.redteam.family import Behaviour, Family, dice
from primum.alignment.twins import Split, conversations, pairs
from primum.errors import UserError
from primum.language.formats import Conversation


def lessons(
    families: Sequence[Family],
    *,
    results: str | Path | None = None,
    split: Split = "train",
    most: int | None = None,
    plain: int | None = None,
    outside: bool = True,
    seed: int = 0,
    openings: Mapping[str, str] | None = None,
) -> list[Conversation]:
    """Conversations to learn from.

    Args:
        families: The attacks that were tried; never those held out.
        results: A results folder of `benchmark=red_team` on the split; attacks that did not succeed
            are left out. None takes every attack.
        split: Of the twins.
        most: At most so many attacks, spread by a hash; each brings two conversations.
        plain: So many pairs of the split as they are besides; None takes all of them.
        outside: Also everyday requests outside medicine, to be helped with.
        seed: Of the attacks, as in the benchmark's `attack_seed`.
        openings: Kind (`unsafe`, `benign`) -> words that each of its answers begins with. Help
            begins in many ways and refusals in few, so that greedy decoding refuses too soon.

    Raises:
        UserError: The results are not those of these families and this split.
    """
    rows = {row["pair"]: row for row in pairs(split)}
    known = {
        (pair, family.name, attack.variant): attack
        for pair, row in rows.items()
        for family in families
        for attack in family.attacks(Behaviour(pair, row["unsafe_request"]), seed)
    }
    wanted = list(known) if results is None else successes(Path(results))
    strange = [key for key in wanted if key not in known]
    if strange:
        raise UserError(
            f"{len(strange)} successes are of other attacks than those named here, the first "
            f"{'/'.join(strange[0])}",
            file=results,
            remedy="name the benchmark's families, split and attack_seed",
        )
    wanted.sort(key=lambda key: dice(seed, *key).random())
    learned: list[Conversation] = []
    for pair, name, variant in wanted[:most]:
        row = rows[pair]
        family = next(one for one in families if one.name == name)
        # the same behaviour id gives the twin the same dress
        for kind, column, answer in (
            ("unsafe", "unsafe_request", "refusal"),
            ("benign", "benign_request", "help"),
        ):
            (attack,) = (
                one
                for one in family.attacks(Behaviour(pair, row[column]), seed)
                if one.variant == variant
            )
            messages = (*attack.messages, {"role": "assistant", "content": row[answer]})
            learned.append(
                Conversation(
                    f"{pair}-{name}-{variant}-{kind}",
                    tuple(dict(message) for message in messages),
                    None,
                    "red team",
                    len(learned) + 1,
                    {"kind": kind, "family": row["family"], "attack": name},
                )
            )
    ordinary = conversations(split)
    ordinary.sort(key=lambda one: dice(seed, str(one.extra["family"]), one.id[:-7]).random())
    kept = ordinary if plain is None else ordinary[: 2 * plain]
    beyond = everyday("train") if outside else ()
    return [_begun(one, openings or {}) for one in (*learned, *kept, *beyond)]


def _begun(one: Conversation, openings: Mapping[str, str]) -> Conversation:
    """The conversation with its kind's words before the answer."""
    words = openings.get(str(one.extra["kind"]))
    if words is None:
        return one
    *before, answer = one.messages
    said = dict(answer) | {"content": f"{words} {answer['content']}"}
    return replace(one, messages=(*before, said))


def successes(folder: Path) -> list[tuple[str, str, str]]:
    """(pair, family, variant) of every attack that succeeded in a results folder.

    Raises:
        UserError: There are no results of a red team.
    """
    import pyarrow.parquet as parquet

    file = folder / "results.parquet" if folder.is_dir() else folder
    if folder.is_dir() and not file.is_file():
        inside = sorted(folder.rglob("results.parquet"))
        if len(inside) != 1:
            raise UserError(f"There are {len(inside)} results below this folder", file=folder)
        file = inside[0]
    if not file.is_file():
        raise UserError("There are no such results", file=file)
    found = []
    for row in parquet.read_table(file, columns=["case", "scores"]).to_pylist():
        scores = json.loads(row["scores"])
        if "success" not in scores:
            raise UserError("These are not results of benchmark=red_team", file=file)
        if scores["success"]:
            pair, family, variant = row["case"].rsplit("/", 2)
            found.append((pair, family, variant))
    return found
