"""Reading order by recursive cuts along empty strips (XY-cut; Nagy and Seth, 1984)."""

from collections.abc import Sequence

from primum.parsing.regions import Box


def reading_order(boxes: Sequence[Box], gap: float = 0.0) -> list[int]:
    """Indices of the boxes in the order in which a person would read them.

    Columns are cut first: a page is cut into bands only where something spans its columns.

    Args:
        boxes: In page pixels.
        gap: Narrowest strip, in pixels, that parts columns.

    >>> heading, left, right = Box(0, 0, 90, 9), Box(0, 20, 40, 99), Box(50, 20, 90, 99)
    >>> reading_order([right, left, heading])
    [2, 1, 0]
    """
    order: list[int] = []
    work = [list(range(len(boxes)))]
    while work:
        group = work.pop()
        if len(group) < 2:
            order += group
            continue
        parts = _strips(boxes, group, 0, gap)
        if len(parts) == 1:
            parts = _bands(boxes, group, gap)
        if len(parts) == 1:
            order += sorted(group, key=lambda i: (boxes[i].centre[1], boxes[i].left))
        else:
            work += parts[::-1]
    return order


def columns(boxes: Sequence[Box], gap: float = 0.0) -> int:
    """How many columns empty strips part the boxes into."""
    return len(_strips(boxes, list(range(len(boxes))), 0, gap)) if boxes else 0


def _strips(boxes: Sequence[Box], group: list[int], axis: int, gap: float) -> list[list[int]]:
    """The group cut at every empty strip across one axis (0: columns, 1: bands)."""
    shrink = [0.05 * (boxes[i][axis + 2] - boxes[i][axis]) for i in group]  # boxes touch a little
    spans = sorted(
        (boxes[i][axis] + s, boxes[i][axis + 2] - s, i) for i, s in zip(group, shrink, strict=True)
    )
    parts, reach = [[spans[0][2]]], spans[0][1]
    for low, high, i in spans[1:]:
        if low > reach + gap:
            parts.append([])
        parts[-1].append(i)
        reach = max(reach, high)
    return parts


def _bands(boxes: Sequence[Box], group: list[int], gap: float) -> list[list[int]]:
    """Bands, neighbours joined again as long as the same columns run through both."""
    merged: list[list[int]] = []
    for band in _strips(boxes, group, 1, 0.0):
        if merged and len(band) + len(merged[-1]) > 2:
            joined = merged[-1] + band
            columns = len(_strips(boxes, joined, 0, gap))
            if columns > 1 and columns >= min(
                len(_strips(boxes, merged[-1], 0, gap)), len(_strips(boxes, band, 0, gap))
            ):
                merged[-1] = joined
                continue
        merged.append(band)
    return merged
