"""OmniDocBench: text, formulas, tables and reading order of whole pages, in its own protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from primum.benchmarks.benchmark import Judgement
from primum.benchmarks.cases import Case, sha256_of
from primum.benchmarks.documents import DocumentBenchmark
from primum.benchmarks.images import picture, spread
from primum.benchmarks.omnidocbench.annotations import page_name, read_pages
from primum.benchmarks.omnidocbench.breakdown import attribute_tables
from primum.benchmarks.omnidocbench.cdm import REASON, read_f1, write_pairs
from primum.benchmarks.omnidocbench.lines import Rules
from primum.benchmarks.omnidocbench.overall import overall_1_0, overall_1_5
from primum.benchmarks.omnidocbench.page import PageMatch, match_page
from primum.benchmarks.omnidocbench.pairs import Pair
from primum.benchmarks.omnidocbench.predictions import read_markdown
from primum.benchmarks.results import Result
from primum.benchmarks.subjects import Answer
from primum.errors import UserError
from primum.files import sha256
from primum.metrics.page_edit_distance import PageEditDistance, line_edits, order_edits
from primum.metrics.score import Score
from primum.metrics.table_similarity import TableSimilarity, teds

#: what is scored by edit distance, in a reader's words
EDITS = {
    "text": "text, edit distance",
    "formula": "formulas, edit distance",
    "table": "tables, edit distance",
    "order": "reading order, edit distance",
}
LANGUAGES = {"english": "english", "chinese": "simplified_chinese"}
PROMPT = "Convert this page to Markdown: tables as HTML, formulas as LaTeX, in reading order."


class OmniDocBench(DocumentBenchmark):
    """OmniDocBench end to end (Ouyang et al., 2024), versions 1.0 and 1.5 of its scorer.

    A candidate's answer is the page's Markdown; the picture lies at `case.files["image"]`.
    Predictions are a folder of `<image name>.md`.

    Args:
        data: The annotation file, `OmniDocBench.json`.
        images: Folder of the pages' pictures; None: `images` beside the annotations. Predictions
            can be scored without.
        protocol: `1.5` or `1.0`.
        matching: `quick`, the protocol's own, or `simple`: one block, one piece.
        compat: Score exactly as the published code does; False puts right what it gets wrong, for
            figures that compare with each other but with no leaderboard.
        missing: What becomes of a page without a prediction: `error` or `empty`.
        cdm: `metrics_res.json` of OmniDocBench's own CDM, for the formula score of 1.5.
        reader: See `DocumentBenchmark`.
        prompt: What a model is asked.
        limit: Pages at most, evenly spread.
    """

    version = "1"

    def __init__(
        self,
        data: str,
        *,
        images: str | None = None,
        protocol: str = "1.5",
        matching: str = "quick",
        compat: bool = True,
        missing: str = "error",
        cdm: str | None = None,
        reader: Callable[..., Any] | None = None,
        prompt: str = PROMPT,
        limit: int | None = None,
        name: str = "omnidocbench",
        title: str = "",
        max_new_tokens: int = 8192,
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(
            name,
            reader=reader,
            title=title,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed,
        )
        protocol = str(protocol)
        for key, value, known in (
            ("protocol", protocol, ("1.0", "1.5")),
            ("matching", matching, ("quick", "simple")),
            ("missing", missing, ("error", "empty")),
        ):
            if value not in known:
                raise UserError(f"There is no {key}={value}", remedy=f"use {' or '.join(known)}")
        self.data = Path(data).expanduser()
        self.images = Path(images).expanduser() if images else self.data.parent / "images"
        self.rules = Rules(protocol, matching, compat)
        self.missing, self.prompt, self.limit = missing, prompt, limit
        self.cdm = Path(cdm).expanduser() if cdm else None

    def load_cases(self) -> list[Case]:
        cases = []
        for page in spread(read_pages(self.data), self.limit):
            name = page_name(page)
            file = self.images / name
            shown = file if file.is_file() else None
            attributes = page["page_info"].get("page_attribute", {})
            (message,) = picture(name, shown)
            parts = [{"type": "text", "text": self.prompt}, message["content"][-1]]
            cases.append(
                Case(
                    id=name,
                    messages=({"role": "user", "content": parts},),
                    reference=page,
                    tags={key: words_of(value) for key, value in attributes.items()},
                    files={} if shown is None else {"image": shown},
                )
            )
        return cases

    def facts(self) -> dict[str, Any]:
        return self.decoding() | {
            "annotations": sha256(self.data),
            "protocol": self.rules.version,
            "matching": self.rules.matching,
            "compat": self.rules.compat,
            "missing": self.missing,
            "limit": self.limit,
        }

    def shown_settings(self) -> dict[str, Any]:
        shown = super().shown_settings()
        return shown | {"prompt": sha256_of(self.prompt)}

    def read_predictions(self, paths: Sequence[Path]) -> Any:
        return read_markdown(paths, self.missing)

    # one page

    def judge(self, case: Case, answer: Answer) -> Judgement:
        if not isinstance(answer.text, str):
            raise UserError(
                f"The answer to {case.id} is no text but {type(answer.text).__name__}",
                remedy="answer each page with its Markdown",
            )
        found = match_page(case.reference, answer.text, self.rules)
        record = page_record(found)
        ratios = {
            name: edits / length for name in EDITS if (length := (pair := record[name])[1])
            for edits in [pair[0]]
        }  # fmt: skip
        label = ", ".join(f"{name} {value:.3f}" for name, value in ratios.items()) or "empty page"
        lost = sum(not pair.guess for pair in [*found.text, *found.formulas, *found.tables])
        evidence = f"{lost} blocks were not found" if lost else "every block was found"
        similar = {f"teds {number}": row["teds"] for number, row in enumerate(record["tables"])}
        return Judgement(
            {"edit distance": {"label": label, "evidence": evidence}}, {**ratios, **similar}, record
        )

    def badness(self, result: Result) -> float:
        """Pages with the most text lost or garbled come first."""
        return float(result.scores.get("text") or 0.0)

    # all pages

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        records = [result.record for result in results]
        scores: dict[str, Score] = {}
        for name, title in EDITS.items():
            metric = PageEditDistance(title, self.protocol, sync_on_compute=False)
            counts = torch.tensor([record[name] for record in records])
            metric.update(counts[:, 0], counts[:, 1])
            scores[f"{name}_edit"] = metric.compute()
        tables = [row for record in records for row in record["tables"]]
        for key, title in (("teds", "tables, TEDS"), ("structure", "tables, TEDS structure only")):
            similarity = TableSimilarity(title, self.protocol, sync_on_compute=False)
            if tables:
                similarity.update(torch.tensor([row[key] for row in tables], dtype=torch.double))
            scores["table_teds" if key == "teds" else "table_teds_structure"] = similarity.compute()
        pages = self.formula_f1(records)
        if self.rules.version == "1.0":
            for name, language in LANGUAGES.items():
                own = [
                    result.record for result in results if result.tags.get("language") == language
                ]
                scores[f"overall_{name}"] = overall_1_0(own, name, self.protocol)
            return scores
        return scores | overall_1_5(records, pages, self.protocol, REASON)

    @property
    def protocol(self) -> str:
        """The protocol's name, as every score carries it."""
        ways = "" if self.rules.compat else ", its mistakes put right: not comparable"
        return f"OmniDocBench {self.rules.version} end2end, {self.rules.matching} match{ways}"

    def formula_f1(self, records: Sequence[Mapping[str, Any]]) -> list[list[float]] | None:
        """Each page's CDM, from a file of results; None where there is none."""
        pairs = [pair for record in records for pair in record["formulas"]]
        if self.folder is not None:
            write_pairs(pairs, self.folder.parent / "formula_pairs.json")
        if self.cdm is None:
            return None
        values = iter(read_f1(self.cdm, len(pairs)))
        return [[next(values) for _ in record["formulas"]] for record in records]

    def sections(self, results: Sequence[Result]) -> list[dict[str, Any]]:
        return attribute_tables(results)


def words_of(value: Any) -> str:
    """An attribute's value as a tag; several issues of a page in one."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def page_record(found: PageMatch) -> dict[str, Any]:
    """What the scores need of a page: counts, and its tables and formulas one by one."""
    return {
        "text": edits(found.text),
        "formula": edits(found.formulas),
        "table": edits(found.tables),
        "order": list(order_edits(found.read, found.orders)),
        "tables": [
            {
                "teds": teds(pair.guess, pair.truth),
                "structure": teds(pair.guess, pair.truth, structure_only=True),
                "attributes": labels(pair),
            }
            for pair in found.tables
        ],
        "formulas": [[pair.raw_truth, pair.raw_guess] for pair in found.formulas],
        "blocks": {
            name: [[*edits([pair]), labels(pair)] for pair in pairs]
            for name, pairs in (("text", found.text), ("formula", found.formulas))
        },
    }


def edits(pairs: Sequence[Pair]) -> list[int]:
    """Edits and length of some pairs."""
    return list(line_edits([pair.guess for pair in pairs], [pair.truth for pair in pairs]))


def labels(pair: Pair) -> list[str]:
    """What a pair's blocks are broken down by; all of them, where several were joined."""
    return sorted({f"{key}: {value}" for one in pair.attributes for key, value in one.items()})
