"""One HTML page with every picture and its regions; it opens offline and holds all it needs."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from primum.files import full_disk_named
from primum.segmentation.colours import palette
from primum.segmentation.drawing import fitted
from primum.segmentation.jobs.index import Entry
from primum.segmentation.nested import Nested
from primum.segmentation.peers.peer import enlarged
from primum.segmentation.snapping import shrunk

FILE = "gallery.html"
TEMPLATE = Path(__file__).with_suffix(".html")
SHOWN = 720  # pixels of the longer side on the page
MOST = 200  # pictures on the page


def card(name: str, image: np.ndarray, nested: Nested) -> dict[str, Any]:
    """What the page needs of a picture: some 100 kB.

    The finest label map travels as a PNG whose red, green and blue say a label; a table says which
    region each label belongs to at every level.
    """
    height, width = fitted(image.shape[0], image.shape[1], SHOWN)
    finest = enlarged(nested.finest, height, width)
    present = np.bincount(nested.finest.ravel(), minlength=nested.ladder.shape[1])
    rows = {(region.level, region.label): region for region in nested.regions}
    levels: list[dict[str, Any]] = []
    below: list[Any] = []
    for level, (row, colours) in enumerate(zip(nested.ladder, palette(nested), strict=True)):
        areas = np.bincount(row, present).astype(int).tolist()
        known = [rows.get((level, label)) for label in range(len(areas))]
        if level:  # what is the same mask as one level below is listed there
            for before, label in enumerate(parents(nested, level)):
                region = below[before]
                if region is not None and known[label] is None and region.area == areas[label]:
                    known[label] = region
        below = known
        levels.append(
            {
                "of": row.tolist(),
                "colours": packed(colours.tobytes()),
                "regions": [
                    [area] if one is None else [area, round(one.score, 3), one.persistence]
                    for area, one in zip(areas, known, strict=True)
                ],
                "count": nested.counts[level],
            }
        )
    ids = np.stack([finest & 255, finest >> 8 & 255, finest >> 16], -1).astype(np.uint8)
    return {
        "name": name,
        "size": [image.shape[1], image.shape[0]],
        "masks": len(nested.regions),
        "picture": "data:image/jpeg;base64," + packed(encoded(shrunk(image, height, width))),
        "ids": "data:image/png;base64," + packed(encoded(ids, "PNG")),
        "levels": levels,
    }


def parents(nested: Nested, level: int) -> list[int]:
    """The label at `level` of each label one level below."""
    below = nested.ladder[level - 1]
    found = np.zeros(int(below.max()) + 1, int)
    found[below] = nested.ladder[level]
    return found.tolist()


def encoded(pixels: np.ndarray, kind: str = "JPEG") -> bytes:
    """A uint8 picture as a file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, quality=85, optimize=True)
    return stream.getvalue()


def packed(content: bytes) -> str:
    """Base 64, as text."""
    return base64.b64encode(content).decode()


def write_gallery(
    folder: Path, entries: Sequence[Entry], told: Mapping[str, str], most: int = MOST
) -> Path:
    """Write `gallery.html` from the cards of finished pictures, one in memory at a time.

    Args:
        folder: Of the output.
        entries: Of all pictures.
        told: Facts for the head of the page, by their names.
        most: Pictures on the page, evenly spread over all; it says how many there are.
    """
    done = [entry for entry in entries if entry.status != "failed"]
    shown = [done[place * len(done) // most] for place in range(most)] if len(done) > most else done
    failed = [[entry.name, entry.reason] for entry in entries if entry.status == "failed"]
    about = {
        "facts": dict(told), "failed": failed, "shown": len(shown), "pictures": len(entries),
    }  # fmt: skip
    head, middle, tail = TEMPLATE.read_text(encoding="utf-8").split("<!-- DATA -->")
    path = folder / FILE
    partial = path.with_name(f".{FILE}.partial")
    with full_disk_named(path), partial.open("w", encoding="utf-8") as stream:
        stream.write(head)
        stream.write(script("about", json.dumps(about)))
        stream.write(middle)
        for number, entry in enumerate(shown):
            content = (folder / "cards" / f"{entry.name}.json").read_text(encoding="utf-8")
            stream.write(script(f"card-{number}", content))
        stream.write(tail)
    partial.replace(path)
    return path


def script(name: str, content: str) -> str:
    """JSON inside a page, where no content can end the element."""
    safe = content.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{safe}</script>\n'
