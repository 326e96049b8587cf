"""Whoever sits a benchmark: weights run here, a server, answers already made, any module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.benchmarks.cases import Case, content_sha256, sha256_of
from primum.benchmarks.endpoint import API_KEY, Endpoint
from primum.benchmarks.language_model import LanguageModel
from primum.benchmarks.predictions import Predictions
from primum.benchmarks.subjects import Answer, ScoringSubject, Settings, TextSubject
from primum.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from primum.checkpoints.resolve import Checkpoint


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
