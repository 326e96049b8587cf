"""Lines of text into regions: by a layout where there is one, else by the space between them."""

from collections.abc import Sequence
from statistics import median

from primum.parsing.drafters.reading_order import columns, reading_order
from primum.parsing.drafters.tables import cells
from primum.parsing.regions import Box, Kind, Line, Region, around


def regions_from(
    lines: Sequence[Line], layout: Sequence[tuple[Box, Kind]], ordered: bool = False
) -> list[Region]:
    """One region a layout box that holds text, and one a paragraph of what no box holds.

    Args:
        lines: Recognised text.
        layout: Boxes of a layout; smaller boxes win a line that several hold. What stands in a
            figure is taken as text: some targets write it.
        ordered: Whether the layout stands in reading order already; what it left out then follows.
    """
    boxes = [(box, kind) for box, kind in layout if kind != "figure"]
    held: list[list[Line]] = [[] for _ in boxes]
    loose: list[Line] = []
    for line in lines:
        share = [line.box.overlap(box) for box, _ in boxes]
        inside = [i for i, value in enumerate(share) if value > 0.5]
        if inside:
            held[min(inside, key=lambda i: boxes[i][0].area)].append(line)
        else:
            loose.append(line)
    regions = []
    for (box, kind), found in zip(boxes, held, strict=True):
        if kind != "table" and not ordered and columns([line.box for line in found]) > 1:
            loose += found  # one box over several columns is a mistake
        elif found:
            regions.append(region(box, kind, found))
    rest = [region(around([line.box for line in part]), "text", part) for part in paragraphs(loose)]
    if ordered:
        return regions + rest
    regions += rest
    return [regions[i] for i in reading_order([one.box for one in regions])]


def region(box: Box, kind: Kind, lines: Sequence[Line]) -> Region:
    """Lines that belong together, as one region."""
    rows = in_rows(lines)
    score = sum(line.score for line in lines) / len(lines)
    return Region(box, kind, joined(rows), cells(lines) if kind == "table" else (), score)


def in_rows(lines: Sequence[Line]) -> list[Line]:
    """Top to bottom; what stands side by side, left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.box.centre[1]):
        middle = line.box.centre[1]
        if rows and rows[-1][0].box.top < middle < rows[-1][0].box.bottom:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box.left)]


def paragraphs(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines in reading order, parted where the space between two or their column changes."""
    if not lines:
        return []
    height = median(line.box.height for line in lines)
    groups: list[list[Line]] = []
    for index in reading_order([line.box for line in lines], gap=height / 3):
        line = lines[index]
        if groups:
            last = groups[-1][-1].box
            near = line.box.top - last.bottom < 0.7 * height and line.box.bottom > last.top
            beside = min(line.box.right, last.right) - max(line.box.left, last.left)
            if near and beside > 0.3 * min(line.box.width, last.width):
                groups[-1].append(line)
                continue
        groups.append([line])
    return groups


def joined(lines: Sequence[Line]) -> str:
    """Lines as running text: no spaces between wide characters, broken words made whole.

    >>> at = lambda text: Line(text, Box(0, 0, 1, 1))
    >>> joined([at("a docu-"), at("ment"), at("页面"), at("文本")])
    'a document 页面文本'
    """
    text = ""
    for line in lines:
        new = line.text.strip()
        if len(text) > 1 and text[-1] == "-" and text[-2].isalpha() and new[:1].islower():
            text = text[:-1] + new
        elif not text or not new or (_wide(text[-1]) and _wide(new[0])):
            text += new
        else:
            text += " " + new
    return text


def _wide(character: str) -> bool:
    return "⺀" <= character <= "鿿" or "가" <= character <= "힣" or "　" <= character <= "￯"
