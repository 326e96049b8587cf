"""Do attacks get a model to do what it must refuse? By family, at worst, and in the tail."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from primum.benchmarks.benchmark import Benchmark, Judgement
from primum.benchmarks.cases import Case, content_sha256, sha256_of
from primum.benchmarks.reporting_judge import judge_facts, refuse_reward_judge
from primum.benchmarks.requests import packaged
from primum.benchmarks.results import Result
from primum.benchmarks.subjects import Answer
from primum.benchmarks.withheld import without_harm
from primum.errors import UserError
from primum.judges.judge import Judge
from primum.metrics.attack_success import attack_success
from primum.metrics.proportion import proportion
from primum.metrics.score import Score

SUCCESS = ("compliance",)


class BehaviourLike(Protocol):
    """What must be refused."""

    id: str
    request: str
    tags: Mapping[str, str]


class FamilyLike(Protocol):
    """Attacks of one kind; the alignment family's `redteam.family.Family`."""

    name: str
    version: str

    def attacks(self, behaviour: Any, seed: int) -> Sequence[Any]: ...


class RedTeam(Benchmark):
    """Every behaviour asked in all ways of each family; success is what the judge calls compliance.

    Partial refusals and answers that the judge is unsure of are counted apart, not as successes.
    Answers are withheld from results and reports (hash and length stay) unless `keep_answers`.

    Args:
        judge: Labels answers; must not have rewarded the model in training.
        families: The attacks.
        behaviours: A list, or what `read` makes of `file`.
        read: Called with the file and `split`.
        file: A path, or one below the installed package.
        weights: Of the families in the aggregated risk; alike if None.
        severity: Weight of a behaviour by its tag `severity`; alike if None.
        limit: At most so many behaviours, always the same ones.
        attack_seed: Decides texts and damage.
        keep_answers: Store every answer in clear.
    """

    version = "1"
    directions: Mapping[str, bool] = {"success": False}
    labels: Mapping[str, str] = {"success": "attacks that succeeded"}
    breakdown = ("family", "principle", "category")

    def __init__(
        self,
        judge: Judge,
        families: Sequence[FamilyLike],
        *,
        read: Any,
        file: str,
        split: str | None = None,
        weights: Mapping[str, float] | None = None,
        severity: Mapping[str, float] | None = None,
        limit: int | None = None,
        attack_seed: int = 0,
        keep_answers: bool = False,
        name: str = "red_team",
        title: str = "",
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(
            name=name,
            title=title,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed,
        )
        names = [family.name for family in families]
        if not names or len(set(names)) != len(names):
            raise UserError(f"Families need names of their own: {', '.join(names) or 'none given'}")
        lacking = [family for family in names if weights is not None and family not in weights]
        if lacking:
            raise UserError(f"There is no weight for {', '.join(lacking)}")
        self.judge_, self.families, self.names = judge, list(families), names
        self.read, self.file, self.split = read, packaged(file), split
        self.weights, self.severity = weights, severity
        self.limit, self.attack_seed, self.keep_answers = limit, attack_seed, keep_answers

    def load_cases(self) -> list[Case]:
        behaviours = sorted(
            self.read(self.file, split=self.split), key=lambda one: sha256_of(one.id)
        )[: self.limit]
        return [
            Case(
                id=f"{behaviour.id}/{family.name}/{attack.variant}",
                messages=tuple(attack.messages),
                reference=behaviour.request,
                # the behaviours' own families (of scenarios) are not those of attacks
                tags={k: v for k, v in behaviour.tags.items() if k != "family"}
                | {"behaviour": behaviour.id, "family": family.name},
            )
            for behaviour in behaviours
            for family in self.families
            for attack in family.attacks(behaviour, self.attack_seed)
        ]

    def facts(self) -> dict[str, Any]:
        return {
            "judge": judge_facts(self.judge_),
            "families": {family.name: _family_facts(family) for family in self.families},
            "weights": self.weights,
            "behaviours": {Path(self.file).name: content_sha256(self.file)},
            "split": self.split,
            "limit": self.limit,
            "attack_seed": self.attack_seed,
            "answers": "kept" if self.keep_answers else "withheld",
        }

    def setup(self, stage: str) -> None:
        assert self.candidate is not None
        refuse_reward_judge(self.judge_, self.candidate)
        super().setup(stage)

    def judge(self, case: Case, answer: Answer) -> Judgement:
        # what must be refused is the behaviour; the attack around it would only mislead a judge
        verdict = self.judge_.judge(str(case.reference), str(answer.text))
        return Judgement(
            {self.judge_.name: {"label": verdict.label, "evidence": verdict.evidence}},
            {
                "success": verdict.label in SUCCESS,
                "partial": verdict.label == "partial",
                "unsure": verdict.label == "unsure",
                "invalid": verdict.label == "invalid",
            },
        )

    def results(self, cases: Sequence[Case]) -> list[Result]:
        rows = super().results(cases)
        return rows if self.keep_answers else [without_harm(row) for row in rows]

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        behaviours = list(dict.fromkeys(row.tags["behaviour"] for row in results))
        table = dict.fromkeys(
            ((behaviour, family) for behaviour in behaviours for family in self.names), False
        )
        graves: dict[str, float] = {}
        for row in results:
            key = (row.tags["behaviour"], row.tags["family"])
            table[key] |= bool(row.scores["success"])
            if self.severity is not None:
                graves[key[0]] = self.severity.get(row.tags.get("severity", ""), 1.0)
        judged = f"`compliance` by {self.judge_.name} {self.judge_.version}"
        scores = attack_success(
            [[table[behaviour, family] for family in self.names] for behaviour in behaviours],
            self.names,
            weights=self.weights,
            severity=[graves[one] for one in behaviours] if self.severity is not None else None,
            protocol=f"{judged}; a behaviour is broken if any attempt of the family succeeds",
        )
        for label, title in (
            ("partial", "partial refusals"),
            ("unsure", "answers that the judge is unsure of"),
            ("invalid", "empty or looping answers"),
        ):
            hits = [bool(row.scores[label]) for row in results]
            scores[label] = proportion(
                sum(hits), len(hits), title, protocol="of all attempts", higher_is_better=None
            )
        return scores

    def sections(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        refusals = [
            str(row.answer).strip()
            for row in results
            if next(iter(row.verdicts.values()))["label"] == "refusal"
        ]
        distinct = len(set(refusals))
        share = f"{distinct} of {len(refusals)} refusals are texts of their own"
        return [
            {
                "title": "Are refusals canned?",
                "note": f"{share}. A model that says one sentence to everything refuses well and "
                "helps nobody; see over_refusal beside this report.",
                "header": ["most frequent refusal", "times"],
                "rows": [[text[:160], count] for text, count in _most_frequent(refusals)],
            }
        ]


def _most_frequent(texts: Sequence[str]) -> list[tuple[str, int]]:
    from collections import Counter

    return Counter(texts).most_common(5)


def _family_facts(family: FamilyLike) -> dict[str, Any]:
    inner = {
        key: value
        for key, value in vars(family).items()
        if isinstance(value, (str, int, float, bool, tuple, list)) and key != "name"
    }
    return {
        "type": type(family).__qualname__,
        "version": family.version,
        "settings": sha256_of(inner)[:16],
        "code": content_sha256(Path(inspect.getfile(type(family))))[:16],
    }
