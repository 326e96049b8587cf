"""What benchmarks of page reading share: a model's weights become a reader of pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from primum.benchmarks.benchmark import Benchmark


class DocumentBenchmark(Benchmark):
    """A benchmark whose cases are pictures of pages and whose answers are Markdown.

    Args:
        name: Under which results and reports are filed.
        reader: Makes what reads pages from the weights that `checkpoint=` names: a class method
            `of(source)` of a family.
        others: As in `Benchmark`.
    """

    def __init__(
        self, name: str, *, reader: Callable[..., Any] | None = None, **others: Any
    ) -> None:
        super().__init__(name, **others)
        self.reader = reader

    def setup(self, stage: str) -> None:
        candidate = self.candidate
        if candidate is not None and candidate.kind == "checkpoint" and self.reader is not None:
            source = getattr(candidate.subject, "source", None)
            if source is not None:  # weights that a text benchmark would load as a language model
                candidate.subject = self.reader(source)
        super().setup(stage)

    def decoding(self) -> dict[str, Any]:
        """How a checkpoint is decoded, for the key of the results; nothing for other candidates."""
        if self.candidate is None or self.candidate.kind != "checkpoint":
            return {}
        decoder = getattr(self.reader, "keywords", {}).get("decoder")
        told = "generate" if decoder is None else f"{decoder.mode}, {decoder.tolerance:g}"
        return {"decoding": told}
