"""What came of one page, whoever read it: a model here, or a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from transformers import StoppingCriteriaList

from primum.errors import UserError
from primum.parsing.decoding.decoder import Decoder, Page
from primum.parsing.decoding.loops import StopLoops, loop_at_end, without_loop
from primum.parsing.jobs.output import traced
from primum.parsing.reader import PageReader
from primum.parsing.regions import Region

OnLoop = Literal["stop", "keep"]


@dataclass(frozen=True)
class Limits:
    """What may end a page before the model does.

    Attributes:
        tokens: Of a page, at most.
        seconds: Of decoding a page; None for no limit.
        on_loop: `stop` ends a page that repeats itself, and keeps the repeated passage once;
            `keep` leaves it to the other limits, as plain decoding does.
    """

    tokens: int = 8192
    seconds: float | None = None
    on_loop: OnLoop = "keep"


@dataclass(frozen=True)
class Reading:
    """One page's output.

    Attributes:
        text: Markdown.
        tokens, forwards, accepted: Of the output; how many of its tokens had been drafted.
        cut: Why the model did not end by itself: `truncated`, `looped`, `timeout`; or empty.
        regions: What the output itself says of places on the page.
        decoding: For the page's JSON and the report; see `traced`.
    """

    text: str
    tokens: int
    forwards: int = 0
    accepted: int = 0
    cut: Literal["", "truncated", "looped", "timeout"] = ""
    regions: list[Region] = field(default_factory=list)
    decoding: dict[str, Any] = field(default_factory=dict)


class Stop(UserError):
    """No further page can be read: the job ends, and what is finished is kept."""


class Reads(Protocol):
    """Whoever reads pages."""

    def identity(self) -> dict[str, Any]:
        """What its outputs depend on."""

    def read(
        self, image: Any, regions: list[Region], limits: Limits, drafting: float = 0.0
    ) -> Reading:
        """Read a page (PIL, RGB); `drafting` is how many seconds its regions took."""


class Here:
    """Reads with a model of this process.

    Args:
        reader: The model.
        decoder: How it decodes; None takes the reader's own.
    """

    def __init__(self, reader: PageReader, decoder: Decoder | None = None) -> None:
        self.reader = reader
        self.decoder = decoder or reader.decoder

    def identity(self) -> dict[str, Any]:
        """What its outputs depend on, and whether they are proven."""
        return self.reader.identity() | {"verify": bool(self.decoder and self.decoder.verify)}

    def read(
        self, image: Any, regions: list[Region], limits: Limits, drafting: float = 0.0
    ) -> Reading:
        """Decode a page with drafts."""
        target, decoder = self.reader.target(), self.decoder
        assert decoder is not None
        decoder.max_new_tokens = limits.tokens
        decoder.criteria = StoppingCriteriaList([StopLoops()] if limits.on_loop == "stop" else [])
        target.model.generation_config.max_time = limits.seconds
        (found,) = decoder(target, [Page(image, regions)])
        surface = target.surface.on(image.size)
        text, cut = found.text.strip(), ""
        if not found.finished:
            cut = "timeout" if len(found.tokens) < limits.tokens else "truncated"
            if loop_at_end(found.tokens):
                cut = "looped"
                if limits.on_loop == "stop":
                    text = surface.markdown(target.decode(without_loop(found.tokens))).strip()
        return Reading(
            text,
            tokens=len(found.tokens),
            forwards=found.trace.forwards,
            accepted=found.trace.accepted,
            cut=cut,  # type: ignore[arg-type]
            regions=found.regions,
            decoding=traced(found, target, drafting),
        )
