"""Pages read by a running server with the OpenAI protocol (vLLM, SGLang, llama.cpp ...)."""

from __future__ import annotations

import base64
import io
import os
import time
from typing import Any, Literal

from primum.checkpoints.served import Away, Refused, Server, TimedOut
from primum.errors import UserError
from primum.parsing.decoding.loops import loop_at_end, without_loop
from primum.parsing.jobs.reading import Limits, Reading, Stop
from primum.parsing.regions import Region
from primum.parsing.targets.adapter import Adapter
from primum.parsing.targets.known import adapter_named, named

TRIES = 4
PAUSE = 0.5  # seconds before the second try; each later pause is twice as long


class Served(Server):
    """A server that reads pages; drafts give its output boxes, but cannot make it faster.

    Args:
        url: Its address.
        model: The name it serves; None takes the only one.
        prompt: Asked of a page instead of the model's own prompt.
        timeout: Seconds that a page may take, its waiting in the server's queue included.
    """

    def __init__(
        self, url: str, model: str | None = None, prompt: str = "", timeout: float = 600.0
    ) -> None:
        super().__init__(url, model, os.environ.get("OPENAI_API_KEY"), timeout)
        known = adapter_named(named(self.model))
        self.adapter = known(prompt=prompt) if known is not None else Adapter(prompt)

    def identity(self) -> dict[str, Any]:
        """What its outputs depend on, as far as a client can know."""
        return {"url": self.url, "model": self.model, "target": self.adapter.identity()}

    def read(
        self, image: Any, regions: list[Region], limits: Limits, drafting: float = 0.0
    ) -> Reading:
        """Ask for one page; one that takes too long comes back empty, as `timeout`.

        Raises:
            Stop: The server does not answer any more.
            UserError: It refuses this page, or fails on it.
        """
        began = time.perf_counter()
        prompt = self.adapter.page_prompt(image.size)
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_address(image)}}
        ]
        if prompt:
            content.append({"type": "text", "text": prompt})
        self.timeout = limits.seconds or self.timeout
        try:
            reply = self.answered(
                {"messages": [{"role": "user", "content": content}], "max_tokens": limits.tokens}
            )
        except TimedOut:
            return Reading("", 0, cut="timeout")
        choice = self._choice(reply)
        said = str((choice.get("message") or {}).get("content") or "")
        cut: Literal["", "truncated", "looped"] = ""
        if choice.get("finish_reason") == "length":
            words = said.split(" ")
            cut = "looped" if loop_at_end(words) else "truncated"
            if cut == "looped" and limits.on_loop == "stop":
                said = " ".join(without_loop(words))
        surface = self.adapter.surface.on(image.size)
        text = surface.markdown(said).strip()
        tokens = int((reply.get("usage") or {}).get("completion_tokens") or 0)
        seconds = {"draft": drafting, "server": time.perf_counter() - began}
        decoding = {
            "mode": "server", "lossy": "", "tokens": tokens, "pieces": [["model", text]],
            "steps": [], "seconds": seconds, "verification": None,
        }  # fmt: skip
        return Reading(text, tokens, cut=cut, regions=surface.found(said), decoding=decoding)

    def answered(self, body: dict[str, Any]) -> dict[str, Any]:
        """A reply, asked for again with growing pauses where the server is busy or away.

        Raises:
            Stop: It stays so, or does not know the key.
            TimedOut, UserError: It still lists its model, so that the fault is the page's.
        """
        for attempt in range(TRIES):
            try:
                return self._ask("/chat/completions", body, {})
            except Refused as error:
                raise UserError(str(error)) from None
            except UserError as error:
                last = attempt == TRIES - 1 or isinstance(error, TimedOut)
                if "refuses the key" in str(error.problem) or (last and not self.lives(error)):
                    raise Stop(
                        str(error.problem),
                        remedy="start the server, then run the same command again: finished pages"
                        " are kept",
                    ) from None
                if last:
                    raise
            time.sleep(PAUSE * 2**attempt)
        raise AssertionError

    def lives(self, error: UserError) -> bool:
        """Whether a server that failed with this error would read another page."""
        if isinstance(error, Away):
            return False
        try:
            self._send("/models")
        except UserError:
            return False
        return True


def data_address(image: Any) -> str:
    """A picture as the protocol takes it."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
