"""A server that answers: asked over HTTP, patiently."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from primum.benchmarks.cases import Case
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError

API_KEY = "OPENAI_API_KEY"


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
