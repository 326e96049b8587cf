"""One HTML file that shows a job: pages with boxes, who supplied which text, time, and proof."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from primum.files import atomic_write
from primum.parsing.jobs.exports import latest, page_of
from primum.parsing.jobs.index import Entry
from primum.parsing.jobs.inputs import PageInput
from primum.parsing.jobs.output import MODEL

SHOWN = 12  # pages shown in full
LISTED = 2000  # pages in the table
SIDE = 1000  # pixels of a picture's longer side
BARS = 400  # bars of a timeline; steps are put together beyond
PARTS = {
    "draft": "drafting", "prefill": "reading the page", "decode": "writing", "verify": "proof",
    "server": "waiting for the server",
}  # fmt: skip
PALETTE = 6  # colours for proposers in the style sheet


def write_report(
    folder: Path, pages: Iterable[PageInput], facts: Mapping[str, Any], dpi: int = 144
) -> Path:
    """Write `report.html` into a job's folder.

    Args:
        folder: Of the job.
        pages: Its input, for the pictures.
        facts: `model`, `note` (of the model, or empty), `command`, `device`.
        dpi: At which PDF pages were read.
    """
    entries = latest(folder)
    inputs = {page.name: page for page in pages}
    troubled = [one for one in entries if one.status not in ("ok", "blank")]
    told = [one for one in entries if one.status == "ok"]
    chosen = [*troubled[: SHOWN // 2], *told][:SHOWN]
    chosen.sort(key=entries.index)
    decodings = [page_of(folder, entry).get("decoding") or {} for entry in entries[:LISTED]]
    who = Counter[str]()
    for decoding in decodings:
        for name, text in decoding.get("pieces", []):
            who[name] += len(text)
    names = [name for name, _ in who.most_common() if name != MODEL]
    colours = {name: str(place % PALETTE) for place, name in enumerate(names)} | {MODEL: MODEL}
    html = templates().get_template("report.html.jinja").render(
        facts=facts,
        summary=summary(entries),
        statuses=Counter(entry.status for entry in entries),
        who=shares({name: who[name] for name in [*names, MODEL] if who[name]}),
        colours=colours,
        time=shares(seconds(decodings)),
        proof=proof(decodings),
        pages=[shown(folder, entry, inputs.get(entry.name), colours, dpi) for entry in chosen],
        entries=entries[:LISTED],
        left_out=max(0, len(entries) - LISTED),
    )  # fmt: skip
    file = folder / "report.html"
    atomic_write(file, html)
    return file


def summary(entries: Sequence[Entry]) -> dict[str, float]:
    """Totals of a job."""
    tokens = sum(entry.tokens for entry in entries)
    took = sum(entry.seconds for entry in entries)
    forwards = sum(entry.forwards for entry in entries)
    return {
        "pages": len(entries),
        "tokens": tokens,
        "seconds": took,
        "rate": tokens / took if took else 0.0,
        "per_forward": tokens / forwards if forwards else 0.0,
        "accepted": sum(entry.accepted for entry in entries) / tokens if tokens else 0.0,
    }


def shares(amounts: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(name, amount, per cent of all)."""
    total = sum(amounts.values())
    return [(name, amount, 100 * amount / total) for name, amount in amounts.items() if amount > 0]


def seconds(decodings: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Where the time went, in the order of the work."""
    found: Counter[str] = Counter()
    for decoding in decodings:
        found.update(decoding.get("seconds", {}))
    return {words: found[part] for part, words in PARTS.items() if found[part]}


def proof(decodings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the teacher-forced passes said, all pages together."""
    checked = [one["verification"] for one in decodings if one.get("verification")]
    return {
        "pages": sum(bool(one) for one in decodings),
        "checked": len(checked),
        "exact": sum(one["exact"] for one in checked),
        "numeric": sum(one["numeric"] and not one["exact"] for one in checked),
        "beyond": sum(not one["numeric"] for one in checked),
        "lossy": sorted({one["lossy"] for one in decodings if one.get("lossy")}),
    }


def shown(
    folder: Path, entry: Entry, page: PageInput | None, colours: Mapping[str, str], dpi: int
) -> dict[str, Any]:
    """A page as the template takes it."""
    written = page_of(folder, entry)
    decoding = written.get("decoding") or {}
    blocks = [block for block in written.get("blocks", []) if block["box"]]
    loose = [
        {"category": one["kind"], "box": one["box"]} for one in written.get("drafted_regions", [])
    ]
    return {
        "entry": entry,
        "width": written.get("width") or 1,
        "height": written.get("height") or 1,
        "picture": picture(page, dpi) if page is not None else "",
        "boxes": blocks or loose,
        "unplaced": sum(1 for block in written.get("blocks", []) if not block["box"]),
        "pieces": [(who, colours[who], text) for who, text in decoding.get("pieces", [])],
        "markdown": written.get("markdown", ""),
        "bars": bars(decoding.get("steps", [])),
        "steps": len(decoding.get("steps", [])),
        "time": shares(seconds([decoding])),
        "verification": decoding.get("verification"),
        "lossy": decoding.get("lossy", ""),
    }


def picture(page: PageInput, dpi: int) -> str:
    """A page as a data address, small enough to travel; empty where it cannot be read."""
    try:
        image = page.image(dpi)
    except Exception:  # its entry says why
        return ""
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def bars(steps: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """Steps as bars: where on the time axis, how wide, how many tokens; in per cent.

    Args:
        steps: (nodes, tokens, milliseconds) each.
    """
    if not steps:
        return []
    together = -(-len(steps) // BARS)
    groups = [steps[at : at + together] for at in range(0, len(steps), together)]
    total = sum(step[2] for step in steps) or 1.0
    most = max(max(step[1] for step in steps), 1)
    result, at = [], 0.0
    for group in groups:
        wide = sum(step[2] for step in group)
        tokens = sum(step[1] for step in group) / len(group)
        nodes = sum(step[0] for step in group) / len(group)
        result.append(
            {
                "left": 100 * at / total,
                "width": 100 * wide / total,
                "height": 100 * tokens / most,
                "tokens": tokens,
                "nodes": nodes,
                "milliseconds": wide / len(group),
            }
        )
        at += wide
    return result


@cache
def templates() -> Environment:
    """Every value escaped, every misspelt name an error."""
    return Environment(
        loader=PackageLoader("primum.parsing.jobs", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
