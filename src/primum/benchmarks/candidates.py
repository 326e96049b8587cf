"""Whoever sits a benchmark: weights run here, a server, answers already made, any module."""

from __future__ import annotations

import csv
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from primum.benchmarks.cases import Case, sha256_of
from primum.errors import UserError
from primum.files import sha256

if TYPE_CHECKING:
    from torch import nn

    from primum.checkpoints.resolve import Checkpoint
    from primum.language.formats import Conversation
    from primum.language.source import Source

API_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Settings:
    """How answers are generated; part of every result's key."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    batch_size: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What a candidate said to one case."""

    text: Any
    finish: str | None = None
    seconds: float | None = None
    tokens: int | None = None


class Likelihood(NamedTuple):
    """Log-probability in nats of a reference answer, and over how many tokens."""

    sum_logprob: float
    num_tokens: int


@runtime_checkable
class TextSubject(Protocol):
    """What a model must do to sit a benchmark.

    An answer may come bare: a string, or the mapping that an image benchmark reads.
    """

    def answer(self, cases: Sequence[Case], settings: Settings) -> Sequence[Any]:
        """One answer a case, in order."""
        ...


@runtime_checkable
class ScoringSubject(Protocol):
    """What a model may do besides: say how likely the references are to it."""

    def score(self, cases: Sequence[Case]) -> Sequence[Likelihood]:
        """The likelihood of each case's reference text, in order."""
        ...


@dataclass
class Candidate:
    """The model on trial, and who it is.

    Attributes:
        name: For readers and folders.
        kind: `checkpoint`, `module`, `endpoint`, `predictions` or `object`.
        fingerprint: Changes whenever its answers could.
        subject: What answers; see `TextSubject`.
        facts: What the report says about it.
    """

    name: str
    kind: str
    fingerprint: str
    subject: Any
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """Name and the head of the fingerprint, as rows carry it."""
        return f"{self.name}@{self.fingerprint[:12]}"

    @property
    def module(self) -> nn.Module | None:
        """The network to place on the trainer's device, once loaded."""
        from torch import nn

        if isinstance(self.subject, nn.Module):
            return self.subject
        network = getattr(self.subject, "network", None)
        return network if isinstance(network, nn.Module) else None

    @property
    def can_score(self) -> bool:
        """Whether it can tell how likely a given text is."""
        return isinstance(self.subject, ScoringSubject)

    def identity(self) -> dict[str, Any]:
        """What of it goes into the results' key."""
        return {"fingerprint": self.fingerprint, "dtype": self.facts.get("dtype")}

    def load(self) -> None:
        """Make it ready to answer, where that takes time."""
        load = getattr(self.subject, "load", None)
        if callable(load) and self.kind != "module":
            load()

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """One answer a case.

        Raises:
            UserError: It has no `answer` method, or answered another number of cases.
        """
        if not isinstance(self.subject, TextSubject):
            raise UserError(
                f"{type(self.subject).__name__} cannot sit this benchmark: it has no method "
                "answer(cases, settings)",
                remedy="add it to your module: a list of texts, one a case, in order",
            )
        given = list(self.subject.answer(cases, settings))
        if len(given) != len(cases):
            raise UserError(f"{self.name} gave {len(given)} answers to {len(cases)} cases")
        return [one if isinstance(one, Answer) else Answer(one) for one in given]


def resolve_candidate(
    checkpoint: str | None = None,
    endpoint: str | None = None,
    predictions: str | Sequence[str] | None = None,
    method: Any = None,
    *,
    read: Callable[[Sequence[Path]], Any] | None = None,
    name: str | None = None,
    model: str | None = None,
    dtype: str = "auto",
    attention: str | None = None,
    trusted_modules: Sequence[str] = (),
    trust_remote_code: bool = False,
    api_key: str = API_KEY,
    concurrency: int = 8,
    timeout: float = 120.0,
    retries: int = 4,
) -> Candidate:
    """The candidate from exactly one of its four origins.

    Args:
        checkpoint: Manifest, run directory, Hugging Face directory or hub id.
        endpoint: Base URL of an OpenAI-compatible server (`http://host:8000/v1`).
        predictions: One or several files (or folders) of answers already made.
        method: An object that answers and needs no weights of its own, or only those it names;
            its `identity()` says what its answers depend on.
        read: What makes answers of `predictions`: a benchmark's `read_predictions`.
        name: What the report calls it; taken from the origin if None.
        model: Model name to ask the endpoint for, where it serves several.
        dtype, attention: How checkpoint weights are run.
        trusted_modules: Packages besides Primum's own that a manifest may build from.
        trust_remote_code: Run Python code that comes with a model.
        api_key: Environment variable that holds the endpoint's key.
        concurrency, timeout, retries: Requests in flight, seconds a request, tries after the first.

    Raises:
        UserError: None or several were given, or it cannot be had.
    """
    given = {
        key: value
        for key, value in (
            ("checkpoint", checkpoint),
            ("endpoint", endpoint),
            ("predictions", predictions),
            ("method", method),
        )
        if value
    }
    if len(given) != 1:
        raise UserError(
            "Give exactly one candidate, not " + (" and ".join(given) if given else "none"),
            remedy="checkpoint=RUN_DIR|DIRECTORY|HUB_ID, endpoint=URL, predictions=FILE or "
            "+method=NAME",
        )
    if checkpoint:
        from primum.checkpoints.resolve import resolve

        found = resolve(
            checkpoint, trusted_modules=tuple(trusted_modules), trust_remote_code=trust_remote_code
        )
        return from_checkpoint(
            found,
            name=name,
            dtype=dtype,
            attention=attention,
            trust_remote_code=trust_remote_code,
        )
    if endpoint:
        subject = Endpoint(
            endpoint,
            model=model,
            api_key=api_key,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
        )
        served = subject.served_model()
        return Candidate(
            name or served.rstrip("/").split("/")[-1],
            "endpoint",
            sha256_of([subject.url, served]),
            subject,
            {"endpoint": subject.url, "model": served},
        )
    if method:
        told = method.identity()
        return Candidate(name or told["name"], "object", sha256_of(told), method, told)
    assert predictions
    files = [predictions] if isinstance(predictions, str) else list(predictions)
    paths = [Path(file).expanduser() for file in files]
    ready = (read or Predictions.read)(paths)
    hashes = {str(path): content_sha256(path) for path in paths if path.exists()}
    return Candidate(
        name or paths[0].stem,
        "predictions",
        sha256_of(list(hashes.values())),
        ready,
        {"files": hashes},
    )


def from_checkpoint(
    checkpoint: Checkpoint,
    *,
    name: str | None = None,
    dtype: str = "auto",
    attention: str | None = None,
    trust_remote_code: bool = False,
) -> Candidate:
    """A candidate from weights that were found and verified."""
    title = name or checkpoint.name
    facts: dict[str, Any] = {"kind": checkpoint.kind, "base": checkpoint.base}
    if checkpoint.manifest is not None:
        facts |= {"run_id": checkpoint.manifest.run_id, "card": checkpoint.manifest.card}
    if checkpoint.kind == "module":
        return Candidate(title, "module", checkpoint.fingerprint, checkpoint.build_module(), facts)

    from primum.language.precision import pick_dtype
    from primum.language.source import Source

    resolved = str(pick_dtype(requested=dtype)).removeprefix("torch.")
    source = Source(
        name=str(checkpoint.directory or checkpoint.base or checkpoint.name),
        revision=None if checkpoint.directory else checkpoint.base_revision,
        dtype=resolved,
        attention=attention,
        trust_remote_code=trust_remote_code,
        base=checkpoint.base if checkpoint.directory and not checkpoint.base_revision else None,
    )
    facts |= {"source": source.name, "dtype": resolved, "attention": attention}
    return Candidate(title, "checkpoint", checkpoint.fingerprint, LanguageModel(source), facts)


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files below a folder."""
    if path.is_file():
        return sha256(path)
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of([[file.relative_to(path).as_posix(), sha256(file)] for file in inside])


class LanguageModel:
    """Weights run in this process through transformers; an adapter is put on its base."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.network: Any = None
        self.tokenizer: Any = None

    def load(self) -> None:
        """Read weights and tokenizer, once."""
        if self.network is None:
            self.tokenizer = self.source.tokenizer()
            self.network = self.source.model()

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """Generate greedily (temperature 0) or sample with a fixed seed."""
        from primum.language.generate import generate

        self.load()
        # batches are answered apart: were they to share a seed, they would share their luck
        luck = int(sha256_of([settings.seed, cases[0].id])[:8], 16)
        made = generate(
            self.network,
            self.tokenizer,
            [conversation(case) for case in cases],
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            temperature=settings.temperature,
            seed=luck,
        )
        return [Answer(one.text, one.finish, one.seconds, len(one.token_ids)) for one in made]

    def score(self, cases: Sequence[Case]) -> list[Likelihood]:
        """Likelihood of each reference as the next assistant turn, its end-of-turn included."""
        from primum.language.generate import completion_logprobs

        self.load()
        conversations = [conversation(case, answered=True) for case in cases]
        found = completion_logprobs(
            self.network, self.tokenizer, conversations, batch_size=max(1, len(cases))
        )
        return [Likelihood(float(one.sum_logprob), int(one.num_tokens)) for one in found]


def conversation(case: Case, *, answered: bool = False) -> Conversation:
    """A case as the language room takes it, with its reference as the assistant's turn if asked."""
    from primum.language.formats import Conversation

    turns = tuple(dict(message) for message in case.messages)
    if answered:
        turns += ({"role": "assistant", "content": str(case.reference)},)
    return Conversation(
        id=case.id, messages=turns, rejected=None, file="", row=0, extra=dict(case.tags)
    )


class Endpoint:
    """A server that speaks the OpenAI chat completions protocol (vLLM, SGLang, llama.cpp ...)."""

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str = API_KEY,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 4,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(
                f"An endpoint is an http:// or https:// address, not {url!r}",
                remedy="endpoint=http://localhost:8000/v1",
            )
        url = url.rstrip("/").removesuffix("/chat/completions")
        self.url = url if url.split("/")[-1].startswith("v") else f"{url}/v1"
        self.model, self.api_key = model, api_key
        self.concurrency, self.timeout, self.retries = concurrency, timeout, retries

    def served_model(self) -> str:
        """The model to ask for: the one that was named, else the only one served.

        Raises:
            UserError: The server does not answer, or serves several.
        """
        if self.model is None:
            listed = self.request("models").get("data") or []
            names = [entry["id"] for entry in listed]
            if len(names) != 1:
                raise UserError(
                    f"{self.url} serves {len(names)} models: {', '.join(names) or 'none listed'}",
                    remedy="name one with model=NAME",
                )
            self.model = names[0]
        return self.model

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """Ask all cases of a batch, several at a time."""
        pool = ThreadPoolExecutor(max_workers=self.concurrency)
        try:
            return list(pool.map(lambda case: self.ask(case, settings), cases))
        finally:
            pool.shutdown(cancel_futures=True)  # one dead endpoint is one error, not one a case

    def ask(self, case: Case, settings: Settings) -> Answer:
        """One case."""
        start = time.perf_counter()
        reply = self.request(
            "chat/completions",
            {
                "model": self.served_model(),
                "messages": [dict(message) for message in case.messages],
                "max_tokens": settings.max_new_tokens,
                "temperature": settings.temperature,
                "seed": settings.seed,
            },
        )
        try:
            choice = reply["choices"][0]
            text = choice["message"]["content"] or ""
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"{self.url} does not answer like a chat completions server: "
                f"{json.dumps(reply)[:200]}",
                remedy="check the address; it usually ends in /v1",
            ) from None
        tokens = (reply.get("usage") or {}).get("completion_tokens")
        return Answer(text, choice.get("finish_reason"), time.perf_counter() - start, tokens)

    def request(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """GET, or POST a JSON body; busy and failing servers are tried again with a growing pause.

        Raises:
            UserError: It refused the request, or did not answer after all tries.
        """
        address = f"{self.url}/{path}"
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self.api_key)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        trouble = ""
        for attempt in range(self.retries + 1):
            pause = min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)
            try:
                call = urllib.request.Request(address, data, headers)
                with urllib.request.urlopen(call, timeout=self.timeout) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                said = error.read(500).decode(errors="replace").strip()
                trouble = f"HTTP {error.code}: {said or error.reason}"
                if error.code in (401, 403):
                    raise UserError(
                        f"{address} refuses access ({trouble})",
                        remedy=f"put the key into the environment variable {self.api_key}",
                    ) from None
                if error.code not in (408, 409, 425, 429) and error.code < 500:
                    raise UserError(
                        f"{address} refuses the request ({trouble})",
                        remedy="check the address (it usually ends in /v1) and model=NAME",
                    ) from None
                wait = error.headers.get("Retry-After", "")
                if wait.isdigit():
                    pause = min(60.0, float(wait))
            except (OSError, ValueError) as error:  # no connection, time-out, or not JSON
                trouble = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt < self.retries:
                time.sleep(pause)
        raise UserError(
            f"{address} did not answer in {self.retries + 1} tries ({trouble})",
            remedy="start the server or correct endpoint=URL, then run the same command again: "
            "finished cases are kept",
        )


class Predictions:
    """Answers already made, found by the case's id or by its exact prompt."""

    IDS = ("case", "id", "case_id", "question_id", "index")
    PROMPTS = ("prompt", "question", "request", "instruction", "input")
    ANSWERS = ("answer", "response", "prediction", "completion", "output", "generation", "text")

    def __init__(self, by_id: Mapping[str, Any], by_prompt: Mapping[str, Any]) -> None:
        self.by_id, self.by_prompt = by_id, by_prompt

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Predictions:
        """Collect the answers of JSONL, JSON, CSV and Parquet files.

        Raises:
            UserError: A file, row or column is missing, or two answers claim one case.
        """
        by_id: dict[str, Any] = {}
        by_prompt: dict[str, Any] = {}
        for path in paths:
            for number, row in read_table(path):
                answer = next((row[key] for key in cls.ANSWERS if row.get(key) is not None), None)
                identity = next(
                    (str(row[key]) for key in cls.IDS if row.get(key) is not None), None
                )
                prompt = next(
                    (row[key] for key in cls.PROMPTS if isinstance(row.get(key), str)), None
                )
                if answer is None or (identity is None and prompt is None):
                    lacking = "answer" if answer is None else "case id or prompt"
                    columns = cls.ANSWERS if answer is None else cls.IDS + cls.PROMPTS
                    raise UserError(
                        f"This prediction has no {lacking}; its columns are {', '.join(row)}",
                        file=path,
                        row=number,
                        remedy=f"name the column one of {', '.join(columns)}",
                    )
                known, key = (by_id, identity) if identity is not None else (by_prompt, prompt)
                key = str(key)
                if key in known:
                    raise UserError(
                        f"There are two answers for {key[:60]!r}",
                        file=path,
                        row=number,
                        remedy="keep one",
                    )
                known[key] = answer
                if identity is not None and prompt is not None:
                    by_prompt.setdefault(prompt, answer)
        return cls(by_id, by_prompt)

    def check(self, cases: Sequence[Case]) -> None:
        """Refuse a set of answers that leaves cases out.

        Raises:
            UserError: It lists them.
        """
        missing = [case.id for case in cases if self.find(case) is None]
        if missing:
            shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            raise UserError(
                f"The predictions have no answer for {len(missing)} of {len(cases)} cases: {shown}",
                remedy="add them, by case id or with the exact prompt",
            )

    def find(self, case: Case) -> Any:
        """The answer to a case, or None."""
        return self.by_id.get(case.id, self.by_prompt.get(case.prompt))

    def answer(self, cases: Sequence[Case], settings: Settings) -> list[Answer]:
        """Look the answers up."""
        self.check(cases)
        return [Answer(self.find(case), "given") for case in cases]


def read_table(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Rows of a JSONL, JSON, CSV or Parquet file with their numbers, as a user counts them.

    Raises:
        UserError: The file is missing, empty, of another kind or malformed.
    """
    if not path.is_file():
        raise UserError("There is no such file", file=path)
    kind = path.suffix.lower()
    try:
        if kind in (".jsonl", ".ndjson"):
            rows = _json_lines(path)
        elif kind == ".json":
            rows = list(enumerate(_json_rows(json.loads(path.read_text("utf-8"))), 1))
        elif kind == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as stream:
                rows = list(enumerate(csv.DictReader(stream, strict=True), 2))
        elif kind == ".parquet":
            import pyarrow.parquet as parquet

            rows = list(enumerate(parquet.read_table(path).to_pylist(), 1))
        else:
            raise UserError(
                f"{kind or 'A file without a suffix'} is not a known format",
                file=path,
                remedy="use .jsonl, .json, .csv or .parquet",
            )
    except (ValueError, csv.Error, OSError) as error:  # Arrow's errors are ValueErrors too
        raise UserError(f"This file is damaged: {error}", file=path) from None
    if not rows:
        raise UserError("This file has no rows", file=path)
    for number, row in rows:
        if not isinstance(row, dict):
            raise UserError("This row is not an object with named fields", file=path, row=number)
    return rows


def _json_rows(content: Any) -> list[Any]:
    """A list of rows, or a mapping from case id to answer."""
    if isinstance(content, dict):
        return [{"id": key, "answer": value} for key, value in content.items()]
    if not isinstance(content, list):
        raise ValueError("expected a list of objects, or one object of answers by case id")
    return content


def _json_lines(path: Path) -> list[tuple[int, Any]]:
    rows = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                rows.append((number, json.loads(line)))
            except ValueError as error:
                raise UserError(f"This line is not JSON: {error}", file=path, row=number) from None
    return rows
