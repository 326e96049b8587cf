"""A table's rows and columns from nothing but where its words stand."""

from collections.abc import Sequence

from primum.parsing.regions import Line


def cells(lines: Sequence[Line]) -> tuple[tuple[str, ...], ...]:
    """Lines of one table, clustered into rows and columns.

    Rows are runs of lines whose middles lie closer than half a line; columns are the strips that
    stay apart over the rows with the most cells. Returns () where no grid shows.

    >>> from primum.parsing.regions import Box
    >>> at = lambda text, x, y: Line(text, Box(x, y, x + 20, y + 10))
    >>> cells([at("1", 0, 20), at("b", 40, 0), at("a", 0, 1), at("2", 40, 21)])
    (('a', 'b'), ('1', '2'))
    """
    rows = _rows(lines)
    columns = _columns(rows)
    if len(rows) < 2 or len(columns) < 2:
        return ()
    grid = [[""] * len(columns) for _ in rows]
    for row, found in zip(grid, rows, strict=True):
        for line in found:
            shared = [min(line.box.right, r) - max(line.box.left, x) for x, r in columns]
            place = max(range(len(columns)), key=shared.__getitem__)
            row[place] = f"{row[place]} {line.text}".strip()
    return tuple(map(tuple, grid))


def _rows(lines: Sequence[Line]) -> list[list[Line]]:
    rows: list[list[Line]] = []
    middle = 0.0
    for line in sorted(lines, key=lambda line: line.box.centre[1]):
        if rows and line.box.centre[1] - middle < line.box.height / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
        middle = sum(one.box.centre[1] for one in rows[-1]) / len(rows[-1])
    return [sorted(row, key=lambda line: line.box.left) for row in rows]


def _columns(rows: Sequence[Sequence[Line]]) -> list[tuple[float, float]]:
    """Left and right edges of the columns, left to right."""
    widest = max(map(len, rows), default=0)
    spans = sorted(
        (line.box.left, line.box.right) for row in rows if len(row) * 2 > widest for line in row
    )
    columns: list[tuple[float, float]] = []
    for left, right in spans:
        if columns and left < columns[-1][1] - 0.2 * (right - left):
            columns[-1] = (columns[-1][0], max(columns[-1][1], right))
        else:
            columns.append((left, right))
    return columns
