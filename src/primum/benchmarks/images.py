"""What benchmarks over pictures share: cases, answers, readers of predictions, the self-check."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from primum.benchmarks.benchmark import Benchmark
from primum.benchmarks.cases import Case
from primum.benchmarks.predicted import read_segments
from primum.benchmarks.results import Result
from primum.benchmarks.segments import Segments
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError
from primum.files import sha256

T = TypeVar("T")
TRUTH = "ground_truth"  # predictions=ground_truth: the self-check


class ImageBenchmark(Benchmark):
    """A benchmark whose cases are pictures and whose answers are `Segments`.

    A candidate's `answer(cases, settings)` gives a `Segments`, a mapping of its fields, or a list
    of masks for each case; the picture lies at `case.files["image"]`. Predictions are COCO results,
    folders of label maps or COCO panoptic files (see `read_segments`); `predictions=ground_truth`
    answers with the truth itself, which has to score 100.

    Args:
        name: Under which results and reports are filed.
        title: Heads the report.
        batch_size: Pictures a candidate is given at a time.
    """

    def __init__(self, name: str, *, title: str = "", batch_size: int = 1, seed: int = 0) -> None:
        super().__init__(name, title=title, batch_size=batch_size, seed=seed)

    @abstractmethod
    def truth(self, case: Case) -> Segments:
        """The perfect answer."""

    def shown_settings(self) -> dict[str, Any]:
        return {"batch_size": self.settings.batch_size, "seed": self.settings.seed}

    def kept(self, answer: Answer) -> Any:
        return answer.text.summary

    def read_predictions(self, paths: Sequence[Path]) -> Any:
        if [str(path) for path in paths] == [TRUTH]:
            return GroundTruth(self)
        return read_segments(paths)

    def results(self, cases: Sequence[Case]) -> list[Result]:
        """Answer and judge one batch, timing what the candidate does and nothing else."""
        assert self.candidate is not None
        start = time.perf_counter()
        given = self.candidate.answer(cases, self.settings)
        share = (time.perf_counter() - start) / len(cases)
        ready = self.candidate.kind == "predictions"
        rows = []
        for case, answer in zip(cases, given, strict=True):
            try:
                segments = Segments.of(answer.text, size_of(case))
            except UserError as error:
                raise UserError(f"Case {case.id}: {error.problem}", remedy=error.remedy) from None
            seconds = None if ready else share if segments.seconds is None else segments.seconds
            told = replace(answer, text=segments, finish=answer.finish or "stop", seconds=seconds)
            rows.append(self.row(case, told))
        return rows

    def badness(self, result: Result) -> float:
        """Pictures with the lowest main score come first."""
        main = next(iter(result.scores.values()), None)
        return 0.0 if main is None else max(0.0, 1.0 - float(main))


class GroundTruth:
    """A candidate that answers with the truth."""

    def __init__(self, benchmark: ImageBenchmark) -> None:
        self.benchmark = benchmark

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Segments]:
        """The perfect answers."""
        return [self.benchmark.truth(case) for case in cases]


def size_of(case: Case) -> tuple[int, int]:
    """(height, width) of a case's picture."""
    height, width = case.reference["size"]
    return int(height), int(width)


def picture(name: str, path: Path | None) -> tuple[dict[str, Any], ...]:
    """The message that shows a picture: its name, and the SHA-256 of its file where it is here."""
    part: dict[str, Any] = {"type": "image", "image": name}
    if path is not None:
        part["sha256"] = sha256(path)
    return ({"role": "user", "content": [{"type": "text", "text": name}, part]},)


def existing(path: str | Path, what: str) -> Path:
    """A file or folder that has to be there.

    Raises:
        UserError: It is not.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(
            f"There is no {what} here", file=found, remedy="set the path, or paths.data=FOLDER"
        )
    return found


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` of them, evenly spaced, always the same ones.

    Raises:
        UserError: The limit is below 1.

    >>> spread("abcdef", 3)
    ['a', 'c', 'e']
    """
    if limit is not None and limit < 1:
        raise UserError(f"A limit is at least 1, not {limit}", remedy="limit=null takes all")
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]
