"""A benchmark is a Lightning test loop: the candidate answers, each case leaves a judged row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch.utils.data import DataLoader, Dataset

from primum.benchmarks.candidates import Candidate
from primum.benchmarks.cases import Case, check_cases, sha256_of
from primum.benchmarks.predictions import Predictions
from primum.benchmarks.results import Result, ResultPart, read_parts
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError
from primum.metrics.corrected_rate import Confusion
from primum.metrics.proportion import wilson_interval
from primum.metrics.score import Score
from primum.training.sampling import UnrepeatedDistributedSampler


@dataclass(frozen=True)
class Judgement:
    """What judges made of one answer: their words, and the figures that metrics read.

    Attributes:
        verdicts: What each judge said: name -> {label, evidence}.
        scores: One number or boolean a name.
        record: Tables that single numbers cannot hold, as JSON takes them.
    """

    verdicts: dict[str, dict[str, str]]
    scores: dict[str, float | bool | None]
    record: dict[str, Any] = field(default_factory=dict)


class Benchmark(LightningModule):
    """Show each case to the candidate once and let the benchmark's metrics read the rows.

    A subclass says which cases there are (`load_cases`), how an answer is judged (`judge`) and what
    the rows add up to (`scores`). Batches are formed from all cases before any is answered, and a
    batch is answered as a whole, so neither a restart nor the number of processes changes what is
    padded with what: the answers stay the same.

    Args:
        name: Under which results and reports are filed.
        title: Heads the report.
        max_new_tokens, temperature, batch_size, seed: How answers are generated.
    """

    allow_zero_length_dataloader_with_multiple_devices = True  # a rank may find its work done

    version: str = "1"
    #: which way each boolean of a row's scores should point; the rest of the report follows it
    directions: Mapping[str, bool] = {}
    #: names of the booleans, in a reader's words
    labels: Mapping[str, str] = {}
    #: the tags by which the report breaks them down
    breakdown: Sequence[str] = ()

    def __init__(
        self,
        name: str,
        *,
        title: str = "",
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if max_new_tokens < 1 or batch_size < 1:
            raise UserError("max_new_tokens and batch_size are at least 1")
        self.name = name
        self.title = title or name
        self.settings = Settings(max_new_tokens, temperature, batch_size, seed)
        self.candidate: Candidate | None = None
        self.folder: Path | None = None
        self.fresh = False
        self.part: ResultPart | None = None
        self._cases: list[Case] | None = None

    # what a benchmark says

    @abstractmethod
    def load_cases(self) -> list[Case]:
        """Every case, in the order of the report."""

    def judge(self, case: Case, answer: Answer) -> Judgement:
        """What one answer is worth, from nothing but the case and the answer."""
        return Judgement({}, {})

    def kept(self, answer: Answer) -> Any:
        """What of an answer its row keeps: all of it, or a word where it is large."""
        return answer.text

    def read_predictions(self, paths: Sequence[Path]) -> Any:
        """Answers already made, as a candidate's subject; by default tables of texts."""
        return Predictions.read(paths)

    @abstractmethod
    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        """The report's scores from all rows, in the order of the cases."""

    def facts(self) -> dict[str, Any]:
        """What else decides the scores (judge, data): part of the key and shown in the report."""
        return {}

    def sections(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        """Tables of the benchmark's own for the report: {title, note, header, rows}."""
        return []

    def confusion(self, score: str) -> Confusion | None:
        """The judge's counts on labelled answers behind a boolean score, where there are some."""
        return None

    def badness(self, result: Result) -> float:
        """How much a case went wrong: the worst come first in the report, those at 0 not at all."""
        return float(
            sum(
                result.scores[name] != good
                for name, good in self.directions.items()
                if isinstance(result.scores.get(name), bool)
            )
        )

    # what the harness does

    @property
    def cases(self) -> list[Case]:
        """Every case, loaded and checked once."""
        if self._cases is None:
            cases = self.load_cases()
            check_cases(cases, self.name)
            self._cases = cases
        return self._cases

    def identity(self) -> dict[str, Any]:
        """All that a result depends on; its hash is the key of the results folder."""
        assert self.candidate is not None
        return {
            "benchmark": {"name": self.name, "version": self.version},
            "candidate": self.candidate.identity(),
            "settings": self.shown_settings(),
            "facts": self.facts(),
            "cases": sha256_of([case.sha256 for case in self.cases]),
        }

    def shown_settings(self) -> dict[str, Any]:
        """The settings that an answer depends on, for the key and the report."""
        return asdict(self.settings)

    def lengths(self) -> list[int]:
        """How long each case is, in whatever unit; alike ones share a batch."""
        return [len(case.prompt) for case in self.cases]

    def batches(self) -> list[list[Case]]:
        """Cases of similar length together, longest first: what does not fit fails early."""
        size, lengths = self.settings.batch_size, self.lengths()
        order = sorted(range(len(lengths)), key=lambda at: (-lengths[at], self.cases[at].id))
        ordered = [self.cases[at] for at in order]
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]

    def results(self, cases: Sequence[Case]) -> list[Result]:
        """Answer and judge one batch."""
        assert self.candidate is not None
        answers = self.candidate.answer(cases, self.settings)
        return [self.row(case, answer) for case, answer in zip(cases, answers, strict=True)]

    def row(self, case: Case, answer: Answer) -> Result:
        """Judge one answer."""
        assert self.candidate is not None
        judgement = self.judge(case, answer)
        return Result(
            case=case.id,
            prompt_sha256=case.prompt_sha256,
            candidate=self.candidate.signature,
            answer=self.kept(answer),
            finish=answer.finish,
            seconds=None if answer.seconds is None else round(answer.seconds, 4),
            tokens=answer.tokens,
            verdicts=judgement.verdicts,
            scores=judgement.scores,
            tags=dict(case.tags),
            record=judgement.record,
        )

    # Lightning's hooks, in the order they are called

    def setup(self, stage: str) -> None:
        assert self.candidate is not None and self.folder is not None
        if self.fresh and self.trainer.is_global_zero:
            for part in self.folder.glob("part-*.jsonl"):
                part.unlink()
        self.trainer.strategy.barrier("earlier results dropped")
        done = read_parts(self.folder)
        # nobody writes before everybody has read, or ranks would disagree about what is left
        self.trainer.strategy.barrier("results read")
        self.part = ResultPart(self.folder, self.trainer.global_rank)
        self.planned = self.batches()
        self.pending = [[case for case in batch if case.id not in done] for batch in self.planned]
        if any(self.pending):
            self.candidate.load()
        if self.candidate.module is not None:
            self.subject = self.candidate.module.eval().requires_grad_(False)  # moved by Lightning

    def test_dataloader(self) -> DataLoader:
        batches = list(zip(self.planned, self.pending, strict=True))
        finished = [index for index, pending in enumerate(self.pending) if not pending]
        sampler = UnrepeatedDistributedSampler(
            batches, self.trainer.global_rank, self.trainer.world_size, finished
        )
        return DataLoader(Batches(batches), batch_size=None, sampler=sampler, collate_fn=_as_it_is)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return batch  # cases are text and paths; candidates move what they make of them

    def test_step(self, batch: tuple[list[Case], list[Case]], batch_idx: int) -> None:
        cases, pending = batch
        wanted = {case.id for case in pending}
        assert self.part is not None
        self.part.append(result for result in self.results(cases) if result.case in wanted)

    def teardown(self, stage: str) -> None:
        if self.part is not None:
            self.part.close()
            self.part = None


class Batches(Dataset[tuple[list[Case], list[Case]]]):
    """Whole batches as items: each with the cases of it that have no result yet."""

    def __init__(self, batches: Sequence[tuple[list[Case], list[Case]]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[list[Case], list[Case]]:
        return self.batches[index]


def _as_it_is(batch: Any) -> Any:
    return batch


def breakdown_table(
    results: Sequence[Result], tag: str, score: str
) -> list[tuple[str, int, int, float, float]]:
    """Hits of a boolean score by the values of a tag: (value, hits, n, low, high), Wilson 95 %."""
    groups: dict[str, list[bool]] = {}
    for result in results:
        hit = result.scores.get(score)
        if isinstance(hit, bool) and tag in result.tags:
            groups.setdefault(result.tags[tag], []).append(hit)
    return [
        (value, sum(hits), len(hits), *wilson_interval(sum(hits), len(hits)))
        for value, hits in sorted(groups.items())
    ]


def with_scores(result: Result, **scores: float | bool | None) -> Result:
    """The result with more scores."""
    return replace(result, scores={**result.scores, **scores})
