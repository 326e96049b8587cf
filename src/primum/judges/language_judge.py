"""A language model as judge: run here, or behind an OpenAI-compatible server.

Both ask a rubric and read the reply; a reply that cannot be read is `unsure`, never a guess.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.errors import UserError
from primum.judges.judge import Verdict
from primum.judges.rewards.safety import Harmfulness
from primum.judges.rubrics import HARM, REFUSAL, Rubric, harmfulness

if TYPE_CHECKING:
    from primum.language.source import Source

RUBRICS = {rubric.name: rubric for rubric in (REFUSAL, HARM)}
UNREADABLE = "unsure"


class LanguageJudge(ABC):
    """What both kinds share: asking, reading, rating.

    Args:
        rubric: `refusal` (three labels) or `harm_1_to_5` (1 is harmless).
        max_new_tokens: Of the reply.
    """

    name = "language_judge"
    version = ""

    def __init__(self, rubric: str, max_new_tokens: int) -> None:
        if rubric not in RUBRICS:
            raise UserError(f"There is no rubric {rubric!r}", remedy=f"one of {', '.join(RUBRICS)}")
        self.rubric: Rubric = RUBRICS[rubric]
        self.max_new_tokens = max_new_tokens

    @abstractmethod
    def reply(self, question: str) -> str:
        """What the model says to a question."""

    def judge(self, prompt: str, answer: str) -> Verdict:
        """Label one answer; the evidence is the end of the reply."""
        said = self.reply(self.rubric.ask(prompt, answer))
        label = self.rubric.read(said)
        return Verdict(label or UNREADABLE, said.strip()[-200:])

    def rate(self, prompt: str, answer: str) -> Harmfulness:
        """The harm of one answer, 1 to 5.

        Raises:
            UserError: The rubric is another one, or the reply cannot be read.
        """
        if self.rubric is not HARM:
            raise UserError("Only the rubric harm_1_to_5 rates", remedy="rubric=harm_1_to_5")
        verdict = self.judge(prompt, answer)
        if verdict.label == UNREADABLE:
            raise UserError(f"The judge's reply holds no score: {verdict.evidence!r}")
        return harmfulness(verdict.label)


class LocalJudge(LanguageJudge):
    """A language model run in this process, greedily."""

    name = "local_judge"

    def __init__(
        self, source: Source, *, rubric: str = "refusal", max_new_tokens: int = 256
    ) -> None:
        super().__init__(rubric, max_new_tokens)
        self.source = source
        self.version = f"{source.name}:{self.rubric.sha256[:12]}"
        self._loaded: tuple[Any, Any] | None = None

    def reply(self, question: str) -> str:
        from primum.language.generate import generate

        if self._loaded is None:
            self._loaded = (self.source.model(), self.source.tokenizer())
        model, tokenizer = self._loaded
        (made,) = generate(
            model,
            tokenizer,
            [[{"role": "user", "content": question}]],
            max_new_tokens=self.max_new_tokens,
            batch_size=1,
        )
        return made.text


class EndpointJudge(LanguageJudge):
    """A model behind `/chat/completions`, with every reply kept.

    Replies are looked up by server, model, rubric and texts, so that a run that is cut off pays for
    none twice. Only the hash of the question is stored, and the reply.

    Args:
        url: Such as `http://localhost:8000/v1`.
        model: The name it is served under.
        cache: A SQLite file; None keeps replies for this process alone.
        api_key: Environment variable that holds the key.
        timeout, retries: Seconds a request, tries after the first.
    """

    name = "endpoint_judge"

    def __init__(
        self,
        url: str,
        model: str,
        *,
        rubric: str = "refusal",
        cache: str | Path | None = None,
        api_key: str = "OPENAI_API_KEY",
        max_new_tokens: int = 512,
        timeout: float = 60.0,
        retries: int = 4,
    ) -> None:
        super().__init__(rubric, max_new_tokens)
        if not url.startswith(("http://", "https://")):
            raise UserError(f"A judge's endpoint is an http:// or https:// address, not {url!r}")
        self.url, self.model = url.rstrip("/"), model
        self.api_key, self.timeout, self.retries = api_key, timeout, retries
        self.version = f"{model}:{self.rubric.sha256[:12]}"
        self.replies = sqlite3.connect(
            ":memory:" if cache is None else Path(cache).expanduser(), check_same_thread=False
        )
        self.replies.execute(
            "CREATE TABLE IF NOT EXISTS reply (question TEXT PRIMARY KEY, text TEXT NOT NULL)"
        )

    def reply(self, question: str) -> str:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self.max_new_tokens,
            "temperature": 0,
        }
        key = hashlib.sha256(json.dumps([self.url, body], sort_keys=True).encode()).hexdigest()
        known = self.replies.execute("SELECT text FROM reply WHERE question = ?", (key,)).fetchone()
        if known:
            return str(known[0])
        said = self._request(body)
        with self.replies:
            self.replies.execute("INSERT OR IGNORE INTO reply VALUES (?, ?)", (key, said))
        return said

    def _request(self, body: dict[str, Any]) -> str:
        address = f"{self.url}/chat/completions"
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.api_key):
            headers["Authorization"] = f"Bearer {key}"
        trouble = ""
        for attempt in range(self.retries + 1):
            try:
                call = urllib.request.Request(address, json.dumps(body).encode(), headers)
                with urllib.request.urlopen(call, timeout=self.timeout) as response:
                    return _text_of(json.loads(response.read()))
            except urllib.error.HTTPError as error:
                trouble = f"HTTP {error.code}: {error.reason}"
                if error.code < 500 and error.code not in (408, 409, 425, 429):
                    break  # it would say the same again
            except (OSError, ValueError) as error:  # no connection, too slow, not JSON
                trouble = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt < self.retries:
                time.sleep(min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0))
        raise UserError(
            f"The judge at {address} gave no answer ({trouble})",
            remedy="start it, correct its address or key, and run the same command again: replies "
            "that were had are kept",
        )


def _text_of(reply: Any) -> str:
    """The message of a chat completion.

    Raises:
        ValueError: The reply is none.
    """
    try:
        return reply["choices"][0]["message"]["content"] or ""
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"not a chat completion: {json.dumps(reply)[:120]}") from None
