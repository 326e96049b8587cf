"""Who judges in a report: identified, and not the one that rewarded the model."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from primum.benchmarks.candidates import Candidate
from primum.files import sha256
from primum.judges.judge import Judge
from primum.judges.separation import check_separation


def judge_facts(judge: Judge) -> dict[str, Any]:
    """What a result depends on of its judge."""
    return {
        "name": judge.name,
        "version": judge.version,
        "code": sha256(Path(inspect.getfile(type(judge)))),
    }


def refuse_reward_judge(judge: Judge, candidate: Candidate) -> None:
    """Refuse a judge that the candidate's manifest names among its rewards.

    Raises:
        UserError: It does.
    """
    from primum.checkpoints.manifest import FILE, read_manifest

    source = candidate.facts.get("source")
    folder = Path(str(source)) if source else None
    for place in () if folder is None else (folder, folder.parent):  # weights may lie one below
        if (place / FILE).is_file():
            check_separation(judge, read_manifest(place / FILE).module)
            return
