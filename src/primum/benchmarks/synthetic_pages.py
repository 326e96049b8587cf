"""Held-out synthetic pages: how many characters a document model gets wrong."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from getpass import getuser
from pathlib import Path
from typing import Any

import torch

from primum.benchmarks.benchmark import Judgement
from primum.benchmarks.cases import Case, sha256_of
from primum.benchmarks.documents import DocumentBenchmark
from primum.benchmarks.images import picture
from primum.benchmarks.results import Result
from primum.benchmarks.subjects import Answer
from primum.files import atomic_write
from primum.metrics.character_error_rate import CharacterErrorRate
from primum.metrics.page_edit_distance import line_edits
from primum.metrics.score import Score


class SyntheticPages(DocumentBenchmark):
    """Character error rate on pages of seeds that training never draws.

    Args:
        make: From a seed and a recipe to a page with `image` and `markdown`.
        parts: What is read, by name: `{recipe, pages, first}`; seeds count from `first`.
        others: As in `Benchmark`.
    """

    version = "1"
    breakdown = ()

    def __init__(
        self,
        make: Callable[..., Any],
        parts: Mapping[str, Mapping[str, Any]],
        *,
        limit: int | None = None,
        name: str = "synthetic_pages",
        **others: Any,
    ) -> None:
        super().__init__(name, **others)
        self.make, self.parts, self.limit = make, parts, limit

    def load_cases(self) -> list[Case]:
        cases = []
        for part, asked in self.parts.items():
            count = int(asked["pages"])
            folder = Path(tempfile.gettempdir()) / f"primum-pages-{self.identity_of(part)[:16]}"
            first = int(asked.get("first", 0))
            for seed in range(first, first + min(count, self.limit or count)):
                page = self.make(seed, asked["recipe"])
                file = folder / f"{part}-{seed}.png"
                if not file.is_file():
                    atomic_write(file, png(page.image))
                cases.append(
                    Case(
                        id=f"{part}-{seed}",
                        messages=picture(file.name, file),
                        reference=page.markdown,
                        tags={"part": part},
                        files={"image": file},
                    )
                )
        return cases

    def identity_of(self, part: str) -> str:
        """What the pages of a part follow from, and whose they are: folders are not shared."""
        return sha256_of([part, repr(self.parts[part]["recipe"]), getuser()])

    def facts(self) -> dict[str, Any]:
        parts = {
            part: [repr(asked["recipe"]), int(asked.get("first", 0))]
            for part, asked in self.parts.items()
        }
        return {"parts": parts, "limit": self.limit, **self.decoding()}

    def judge(self, case: Case, answer: Answer) -> Judgement:
        edits, _ = line_edits([str(answer.text)], [case.reference])
        rate = edits / max(1, len(case.reference))
        label = f"{edits} edits of {len(case.reference)} characters"
        scores: dict[str, float | bool | None] = {
            "edits": edits,
            "characters": len(case.reference),
            "exact": edits == 0,
        }
        return Judgement({"characters": {"label": label, "evidence": f"{rate:.1%}"}}, scores)

    def badness(self, result: Result) -> float:
        """Pages with the most errors a character come first."""
        return float(result.scores["edits"] or 0) / max(1, int(result.scores["characters"] or 0))

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        found = {}
        for part in self.parts:
            rows = [result.scores for result in results if result.tags["part"] == part]
            metric = CharacterErrorRate(f"{part}, character error rate", sync_on_compute=False)
            metric.update(
                torch.tensor([row["edits"] for row in rows]),
                torch.tensor([row["characters"] for row in rows]),
            )
            found[f"{part}_cer"] = metric.compute()
        return found


def png(image: Any) -> bytes:
    """A picture as the bytes of a PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
