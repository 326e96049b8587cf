"""Paired vignettes rated by experts: is the model better than its comparators, or as good as?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from primum.benchmarks.benchmark import Benchmark, Judgement
from primum.benchmarks.cases import Case
from primum.benchmarks.results import Result
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError
from primum.language.rows import read_rows
from primum.metrics.mixed_effects import author_effects
from primum.metrics.rater_reliability import intraclass_correlation, krippendorff_alpha
from primum.metrics.score import Score
from primum.metrics.signed_rank import (
    detectable_effect,
    equivalence,
    holm,
    paired_shift,
    wilcoxon_exact,
)

COLUMNS = ("vignette_id", "author", "rater_id", "dimension", "score")


class Ratings:
    """Ratings as a candidate's answers: the rows of each vignette and dimension."""

    def __init__(self, rows: Mapping[tuple[str, str], list[dict[str, Any]]]) -> None:
        self.rows = rows

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """The ratings of each case."""
        return [
            Answer(self.rows[case.tags["vignette"], case.tags["dimension"]], "given")
            for case in cases
        ]


class ExpertStudy(Benchmark):
    """Ratings of a model's and its comparators' answers to the same vignettes.

    `predictions=ratings.csv` with the columns vignette_id, author, rater_id, dimension and score.
    For every dimension and comparator: Hodges and Lehmann's shift over vignettes (the mean over
    raters is one value a vignette), Wilcoxon's exact test, Holm over all of them, and an
    equivalence test, without which `matches` may not be said. ICC and Krippendorff's alpha say
    whether raters agree; the smallest effect that so many vignettes find says what silence means.

    Args:
        model: The author on trial.
        lowest, highest: Ends of the scale; a rating beyond them is refused.
        margin: Within so many points two authors count as equivalent.
        alpha: Of the tests, after Holm.
    """

    version = "1"

    def __init__(
        self,
        *,
        model: str = "model",
        lowest: float = 1,
        highest: float = 5,
        margin: float = 0.5,
        alpha: float = 0.05,
        name: str = "expert_study",
        title: str = "",
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(name=name, title=title, batch_size=batch_size, seed=seed)
        self.model, self.lowest, self.highest = model, lowest, highest
        self.margin, self.alpha = margin, alpha
        self.ratings: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def read_predictions(self, paths: Sequence[Path]) -> Ratings:
        """The ratings of one or several tables.

        Raises:
            UserError: A column is missing, a score is beyond the scale, or a rating comes twice.
        """
        found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        seen: set[tuple[str, ...]] = set()
        for path in paths:
            for number, row in read_rows(path):
                missing = [name for name in COLUMNS if row.get(name) in (None, "")]
                if missing:
                    raise UserError(
                        f"This rating has no {', '.join(missing)}", file=path, row=number,
                        remedy=f"the columns are {', '.join(COLUMNS)}",
                    )  # fmt: skip
                try:
                    score = float(row["score"])
                except (TypeError, ValueError):
                    score = float("nan")
                if not self.lowest <= score <= self.highest:
                    raise UserError(
                        f"A score of {row['score']!r} cannot be on a scale from {self.lowest:g} to "
                        f"{self.highest:g}", file=path, row=number,
                        remedy="correct it, or benchmark.lowest and benchmark.highest",
                    )  # fmt: skip
                key = tuple(str(row[name]) for name in COLUMNS[:4])
                if key in seen:
                    raise UserError("This rating comes twice", file=path, row=number)
                seen.add(key)
                found[key[0], key[3]].append({"author": key[1], "rater": key[2], "score": score})
        authors = {one["author"] for rows in found.values() for one in rows}
        if self.model not in authors or len(authors) < 2:
            raise UserError(
                f"The ratings are of {', '.join(sorted(authors))}; {self.model!r} and one more "
                "author are needed",
                file=paths[0],
                remedy="benchmark.model=AUTHOR",
            )
        self.ratings = dict(found)
        return Ratings(self.ratings)

    def load_cases(self) -> list[Case]:
        if not self.ratings:
            raise UserError(
                "An expert study is read from ratings", remedy="predictions=ratings.csv"
            )
        return [
            Case(
                f"{vignette}/{dimension}",
                ({"role": "user", "content": f"vignette {vignette}, {dimension}"},),
                tags={"vignette": vignette, "dimension": dimension},
            )
            for vignette, dimension in self.ratings
        ]

    def facts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "scale": [self.lowest, self.highest],
            "margin": self.margin,
            "alpha": self.alpha,
        }

    def judge(self, case: Case, answer: Answer) -> Judgement:
        by_author: dict[str, list[float]] = defaultdict(list)
        for one in answer.text:
            by_author[one["author"]].append(one["score"])
        means: dict[str, float | bool | None] = {
            author: mean(values) for author, values in sorted(by_author.items())
        }
        return Judgement({}, means, {"ratings": list(answer.text)})

    def kept(self, answer: Answer) -> Any:
        return f"{len(answer.text)} ratings"

    # scores

    def differences(self, results: Sequence[Result], dimension: str, author: str) -> list[float]:
        """Model minus author, one number a vignette that both were rated on."""
        return [
            float(row.scores[self.model]) - float(row.scores[author])  # type: ignore[arg-type]
            for row in results
            if row.tags["dimension"] == dimension
            and row.scores.get(self.model) is not None
            and row.scores.get(author) is not None
        ]

    def comparisons(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        """Every dimension and comparator with its tests."""
        dimensions = list(dict.fromkeys(row.tags["dimension"] for row in results))
        authors = sorted({name for row in results for name in row.scores} - {self.model})
        found: list[dict[str, Any]] = []
        for dimension in dimensions:
            for author in authors:
                values = self.differences(results, dimension, author)
                if values:
                    found.append(
                        {
                            "dimension": dimension,
                            "author": author,
                            "values": values,
                            "p": wilcoxon_exact(values),
                            "p_equivalent": equivalence(values, self.margin),
                        }
                    )
        for name in ("p", "p_equivalent"):
            for row, adjusted in zip(found, holm([row[name] for row in found]), strict=True):
                row[f"{name}_holm"] = adjusted
        return found

    def verdict(self, row: Mapping[str, Any]) -> str:
        """What may be said of a comparison."""
        shift = paired_shift(row["values"]).value or 0.0
        if row["p_holm"] < self.alpha:
            return "higher" if shift > 0 else "lower"
        if row["p_equivalent_holm"] < self.alpha:
            return f"equivalent within {self.margin:g}"
        return "not shown to differ, nor to be equivalent"

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        scores = {}
        for row in self.comparisons(results):
            key = f"shift_{row['dimension']}_{row['author']}"
            scores[key] = paired_shift(
                row["values"],
                f"{row['dimension']}: {self.model} - {row['author']}",
                protocol=f"{self.verdict(row)}; Holm p = {row['p_holm']:.3g}, equivalence within "
                f"{self.margin:g} Holm p = {row['p_equivalent_holm']:.3g}",
                higher_is_better=True,
            )
        for dimension in dict.fromkeys(row.tags["dimension"] for row in results):
            table = self.by_rater([r for r in results if r.tags["dimension"] == dimension])
            scores[f"alpha_{dimension}"] = krippendorff_alpha(
                table, "ordinal", f"{dimension}: Krippendorff's alpha (ordinal)"
            )
            scores |= self.mixed(results, dimension)
            scores[f"icc_{dimension}"] = intraclass_correlation(table, f"{dimension}: ICC(2,k)")
        return scores

    def mixed(self, results: Sequence[Result], dimension: str) -> dict[str, Score]:
        """The same differences from single ratings, vignettes and raters being random."""
        ratings = [
            (one["score"], one["author"], row.tags["vignette"], one["rater"])
            for row in results
            if row.tags["dimension"] == dimension
            for one in row.record["ratings"]
        ]
        if self.model not in {author for _, author, _, _ in ratings}:
            return {}
        found = author_effects(*zip(*ratings, strict=True), model=self.model)
        return {
            f"mixed_{dimension}_{author}": score._replace(name=f"{dimension}: {score.name}")
            for author, score in found.items()
        }

    def by_rater(self, results: Sequence[Result]) -> list[list[float | None]]:
        """Ratings of one dimension: (vignette and author) by rater."""
        raters = sorted({one["rater"] for row in results for one in row.record["ratings"]})
        units: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        for row in results:
            for one in row.record["ratings"]:
                units[row.case, one["author"]][one["rater"]] = one["score"]
        return [[given.get(rater) for rater in raters] for given in units.values()]

    def sections(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        rows = self.comparisons(results)
        n = min((len(row["values"]) for row in rows), default=0)
        smallest = detectable_effect(n, alpha=self.alpha / max(1, len(rows))) if n else 0.0
        return [
            {
                "title": "What may be said",
                "note": f"`Matches` needs the equivalence test. {n} vignettes find a standardised "
                f"difference of {smallest:.2f} with 80 % power after Holm over {len(rows)}.",
                "header": ["dimension", "against", "vignettes", "verdict", "p (Holm)",
                           "equivalence p (Holm)"],
                "rows": [
                    [row["dimension"], row["author"], len(row["values"]), self.verdict(row),
                     f"{row['p_holm']:.3g}", f"{row['p_equivalent_holm']:.3g}"]
                    for row in rows
                ],
            }
        ]  # fmt: skip
