"""Multiple-choice exams of medicine: by the letters' likelihood, the options' own, or in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from primum.benchmarks.benchmark import Benchmark, Judgement
from primum.benchmarks.cases import Case, content_sha256, sha256_of
from primum.benchmarks.exam_items import HUB, ExamItem, read_exam
from primum.benchmarks.extraction import extract_choice
from primum.benchmarks.predictions import Predictions
from primum.benchmarks.results import Result
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError
from primum.language.generate import CompletionScore
from primum.metrics.macro_f1 import macro_f1
from primum.metrics.macro_mean import macro_mean
from primum.metrics.proportion import proportion
from primum.metrics.score import Score

MODES = ("letter", "option_text", "generation")
ASKED = "Answer with the letter of the best option, as in `Answer: B`."
ASKED_SEVERAL = "Answer with the letters of all right options, as in `Answer: A, C`."
ASKED_WORD = "Answer with one word: yes, no or maybe, as in `Answer: yes`."


@runtime_checkable
class OptionSubject(Protocol):
    """A model that can tell how likely each option is as what follows its prompt."""

    def option_logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]], batch_size: int
    ) -> Sequence[Sequence[CompletionScore]]:
        """One list a prompt, one score an option."""
        ...


class ClinicalQA(Benchmark):
    """Accuracy on exam questions, by set and as an unweighted mean over the declared sets.

    Modes: `letter` shows the options and compares " A", " B" ... as the next token (the wording of
    lm-evaluation-harness' tasks, so that figures can be laid side by side); `option_text` hides
    them and compares their texts, summed and per character; `generation` lets the model write and
    reads its choice from the text. In the first two, yes/no/maybe questions compare these words.
    A reasoning model needs `generation`. Answers given as predictions are read as in `generation`.

    Args:
        sets: Name -> file, PubMedQA folder or `hub:ID:SPLIT`, see `read_exam`; None leaves it out.
        mode: One of the three.
        macro: The sets that count in the mean; all if None. Name only one split of a source.
        chat: Whether `letter` and `option_text` prompts go through the chat template.
        several: Ask for all right options; for sets with several right answers.
        system: A system message, for chat prompts.
        limit: At most so many questions of each set, always the same ones.
    """

    version = "1"
    directions: Mapping[str, bool] = {"correct": True}
    labels: Mapping[str, str] = {"correct": "answered correctly"}
    breakdown = ("set", "subject")

    def __init__(
        self,
        sets: Mapping[str, str | None],
        *,
        mode: str = "letter",
        macro: Sequence[str] | None = None,
        chat: bool = False,
        several: bool = False,
        system: str | None = None,
        limit: int | None = None,
        name: str = "clinical_qa",
        title: str = "",
        max_new_tokens: int = 512,
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
        if mode not in MODES:
            raise UserError(f"There is no mode {mode!r}", remedy=f"use {', '.join(MODES)}")
        self.sets = {name: place for name, place in sets.items() if place is not None}
        if not self.sets:
            raise UserError("No question set is named", remedy="benchmark.sets.NAME=FILE")
        unknown = set(macro or ()) - set(self.sets)
        if unknown:
            raise UserError(f"The mean names sets that are not given: {', '.join(sorted(unknown))}")
        self.mode, self.chat, self.several = mode, chat, several
        self.macro = list(macro) if macro is not None else list(self.sets)
        self.system, self.limit = system, limit

    def load_cases(self) -> list[Case]:
        return [
            self.case(name, item)
            for name, place in self.sets.items()
            for item in first_by_hash(read_exam(place), self.limit)
        ]

    def case(self, name: str, item: ExamItem) -> Case:
        """A question as this mode shows it.

        Raises:
            UserError: Several answers are right, and the mode can only choose one.
        """
        if len(item.answer) > 1 and not (self.mode == "generation" and self.several):
            raise UserError(
                f"Question {item.id!r} of {name} has several right answers",
                remedy="benchmark.mode=generation benchmark.several=true",
            )
        shown = self.mode == "generation" or (self.mode == "letter" and item.lettered)
        text = question_text(item, with_options=shown and item.lettered)
        if self.mode == "generation":
            asked = ASKED_WORD if not item.lettered else ASKED_SEVERAL if self.several else ASKED
            text = f"{text}\n\n{asked}"
        else:
            text += "\nAnswer:"
        messages = [{"role": "user", "content": text}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        as_letters = self.mode == "letter" and item.lettered
        return Case(
            id=f"{name}:{item.id}",
            messages=tuple(messages),
            reference={
                "answer": list(item.answer),
                "options": dict(item.options),
                "continuations": [
                    letter if as_letters else text for letter, text in item.options.items()
                ],
            },
            tags={"set": name, **item.tags},
        )

    def facts(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "prompt": "chat template" if self.chat or self.mode == "generation" else "plain text",
            "system": self.system,
            "limit": self.limit,
            "macro": self.macro,
            "files": {
                name: place if place.startswith(HUB) else content_sha256(Path(place).expanduser())
                for name, place in self.sets.items()
            },
        }

    # answers

    def setup(self, stage: str) -> None:
        assert self.candidate is not None
        subject = self.candidate.subject
        if self.mode != "generation" and not isinstance(subject, (Predictions, ByLikelihood)):
            self.candidate = replace(self.candidate, subject=ByLikelihood(subject, self.chat))
        super().setup(stage)

    def lengths(self) -> list[int]:
        assert self.candidate is not None
        subject = self.candidate.subject
        return (
            subject.lengths(self.cases) if isinstance(subject, ByLikelihood) else super().lengths()
        )

    def judge(self, case: Case, answer: Answer) -> Judgement:
        right = tuple(case.reference["answer"])
        if isinstance(answer.text, Scored):
            scored = answer.text
            return Judgement(
                {"likelihood": {"label": scored.choice, "evidence": f"margin {scored.margin:.4f}"}},
                {
                    "correct": (scored.choice,) == right,
                    "correct_per_character": (scored.per_character,) == right,
                    "margin": scored.margin,
                },
                {"logprobs": scored.logprobs},
            )
        chosen = extract_choice(str(answer.text), case.reference["options"])
        said = ", ".join(chosen)
        return Judgement(
            {"extraction": {"label": said or "none found", "evidence": ""}},
            {"correct": chosen == right, "extracted": bool(chosen)},
        )

    def kept(self, answer: Answer) -> Any:
        return answer.text.choice if isinstance(answer.text, Scored) else answer.text

    # scores

    def scores(self, results: Sequence[Result]) -> dict[str, Score]:
        scores: dict[str, Score] = {}
        fields = {"correct": self.protocol()}
        if self.mode == "option_text" and any("margin" in row.scores for row in results):
            fields["correct_per_character"] = "option texts, log-likelihood per character"
        for field, how in fields.items():
            extra = ", per character" if field != "correct" else ""
            counts = {name: hits_of(results, name, field) for name in self.sets}
            key = field.replace("correct", "accuracy")
            scores[f"{key}_macro"] = macro_mean(
                {name: counts[name] for name in self.macro}, f"macro accuracy{extra}", protocol=how
            )
            for name, (hits, n) in counts.items():
                scores[f"{key}_{name}"] = proportion(
                    hits, n, f"{name}, accuracy{extra}", protocol=how, higher_is_better=True
                )
        extracted = [row.scores["extracted"] for row in results if "extracted" in row.scores]
        if extracted:
            scores["extraction_failures"] = proportion(
                extracted.count(False),
                len(extracted),
                "no choice could be read",
                protocol="extraction cascade; such answers count as wrong",
                higher_is_better=False,
            )
        answers = {case.id: case.reference for case in self.cases}
        for name in self.sets:
            worded = [
                (answers[row.case]["answer"][0], next(iter(row.verdicts.values()))["label"])
                for row in results
                if row.tags["set"] == name and "maybe" in answers[row.case]["options"]
            ]
            if worded:
                truth, said = zip(*worded, strict=True)
                scores[f"macro_f1_{name}"] = macro_f1(
                    truth, said, f"{name}, macro F1", protocol=self.protocol()
                )
        return scores

    def protocol(self) -> str:
        """How a choice was found, for the scores."""
        return {
            "letter": "letters' log-likelihood after `Answer:`",
            "option_text": "option texts' log-likelihood after `Answer:`",
            "generation": f"choice read from the written answer ({self.settings.max_new_tokens} "
            "tokens at most)",
        }[self.mode]


@dataclass(frozen=True)
class Scored:
    """A choice by likelihood.

    Attributes:
        choice, per_character: The likeliest option, by sum and per character of its text.
        margin: Nats between the two likeliest.
        logprobs: Sum of each option, in order.
    """

    choice: str
    per_character: str
    margin: float
    logprobs: list[float]


class ByLikelihood:
    """Any model that gives likelihoods, answering with the option it finds likeliest."""

    def __init__(self, subject: Any, chat: bool) -> None:
        if not isinstance(subject, OptionSubject) and not hasattr(subject, "tokenizer"):
            raise UserError(
                f"{type(subject).__name__} gives no likelihoods of given texts",
                remedy="benchmark.mode=generation",
            )
        self.subject, self.chat = subject, chat

    @property
    def network(self) -> Any:
        """The weights, for the trainer to place."""
        return getattr(self.subject, "network", None)

    def load(self) -> None:
        """Make the model ready."""
        load = getattr(self.subject, "load", None)
        if callable(load):
            load()

    def lengths(self, cases: Sequence[Case]) -> list[int]:
        """Tokens of each prompt, since padding costs as much as text; or its characters."""
        prompts = [self.prompt(case) for case in cases]
        tokenizer = getattr(self.subject, "tokenizer", None)
        if tokenizer is None:
            return [len(prompt) for prompt in prompts]
        return [len(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]]

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """The likeliest option of each case."""
        prompts = [self.prompt(case) for case in cases]
        space = "" if self.chat else " "
        options = [[space + text for text in case.reference["continuations"]] for case in cases]
        return [
            Answer(choice_of(case, found), "likelihood")
            for case, found in zip(
                cases, self.logprobs(prompts, options, settings.batch_size), strict=True
            )
        ]

    def prompt(self, case: Case) -> str:
        """The text that options follow."""
        if self.chat:
            from primum.language.chat import render_prompt

            return render_prompt(self.subject.tokenizer, list(case.messages))
        return "\n\n".join(str(message["content"]) for message in case.messages)

    def logprobs(
        self, prompts: Sequence[str], options: Sequence[Sequence[str]], batch_size: int
    ) -> Sequence[Sequence[CompletionScore]]:
        """From the model's own method, or from its network and tokenizer."""
        if isinstance(self.subject, OptionSubject):
            return self.subject.option_logprobs(prompts, options, batch_size)
        from primum.language.options import option_logprobs

        return option_logprobs(
            self.subject.network,
            self.subject.tokenizer,
            prompts,
            options,
            batch_size=batch_size,
            special_tokens=not self.chat,
        )


def choice_of(case: Case, found: Sequence[CompletionScore]) -> Scored:
    """The likeliest option; of equals, the first."""
    names = list(case.reference["options"])
    sums = [score.sum_logprob for score in found]
    lengths = [len(text) for text in case.reference["continuations"]]
    per_character = [total / length for total, length in zip(sums, lengths, strict=True)]
    first, second = sorted(sums, reverse=True)[:2]
    return Scored(
        names[sums.index(first)],
        names[per_character.index(max(per_character))],
        first - second,
        sums,
    )


def question_text(item: ExamItem, *, with_options: bool) -> str:
    """The question, after its passage if it has one, with its options if asked."""
    lines = [f"Abstract: {item.passage}"] if item.passage else []
    lines.append(f"Question: {item.stem}")
    if with_options:
        lines += [f"{letter}. {text}" for letter, text in item.options.items()]
    return "\n".join(lines)


def first_by_hash(items: Sequence[ExamItem], limit: int | None) -> list[ExamItem]:
    """At most `limit` items in their order, chosen by a hash so that no file's order matters."""
    if limit is None or len(items) <= limit:
        return list(items)
    if limit < 1:
        raise UserError(f"A limit is at least 1, not {limit}", remedy="limit=null takes all")
    kept = {item.id for item in sorted(items, key=lambda item: sha256_of(item.id))[:limit]}
    return [item for item in items if item.id in kept]


def hits_of(results: Sequence[Result], name: str, field: str) -> tuple[int, int]:
    """Right answers of a set, and how many there are."""
    hits = [bool(row.scores[field]) for row in results if row.tags["set"] == name]
    return sum(hits), len(hits)
