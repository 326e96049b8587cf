"""LaTeX tables as HTML, for predictions that write them so."""

from __future__ import annotations

import html
import re

TABULAR = re.compile(
    r"\\begin\{tabular\*?\}(?:\{[^{}]*\})?\{(?:[^{}]|\{[^{}]*\})*\}(.*)\\end\{tabular\*?\}",
    re.DOTALL,
)
#: rules and spacing, which say nothing about cells
LINES = re.compile(
    r"\\(?:hline|toprule|midrule|bottomrule|centering)(?:\[[^\]]*\])?"
    r"|\\c(?:mid|)(?:rule|line)(?:\[[^\]]*\])?(?:\([^)]*\))?\{[^}]*\}"
    r"|\\(?:addlinespace(?:\[[^\]]*\])?|vspace\{[^}]*\}|hspace\{[^}]*\})"
)
SPAN = re.compile(r"^\\multi(column|row)\{\s*(\d+)\s*\}(?:\[[^\]]*\])?\{(?:[^{}]|\{[^{}]*\})*\}")
FACE = re.compile(r"\\(?:textbf|textit|text|emph|mathrm)\{((?:[^{}]|\{[^{}]*\})*)\}")


def latex_table_as_html(latex: str) -> str:
    r"""A `tabular` as a `<table>` with its column and row spans; empty where there is none.

    Cells that a `\multirow` above covers are left out, as HTML wants it.

    >>> latex_table_as_html(r"\begin{tabular}{ll} \multicolumn{2}{c}{a} \\ b & c \\ \end{tabular}")
    '<table><tr><td colspan="2">a</td></tr><tr><td>b</td><td>c</td></tr></table>'
    """
    match = TABULAR.search(latex)
    if match is None:
        return ""
    body = LINES.sub("", match[1])
    covered: dict[int, int] = {}  # column -> rows still covered from above
    rows = []
    for row in re.split(r"\\\\(?:\[[^\]]*\])?", body):
        if not row.strip():
            continue
        cells, column = [], 0
        for cell in re.split(r"(?<!\\)&", row):
            text, across, down = spans(cell.strip())
            hidden = covered.get(column, 0) > 0 and not text
            if not hidden:
                cells.append(f"<td{mark('colspan', across)}{mark('rowspan', down)}>{text}</td>")
            for place in range(column, column + across):
                covered[place] = down - 1 if down > 1 else max(0, covered.get(place, 0) - 1)
            column += across
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def spans(cell: str) -> tuple[str, int, int]:
    """A cell's text as HTML, and how many columns and rows it covers."""
    sizes = {"column": 1, "row": 1}
    while match := SPAN.match(cell):
        sizes[match[1]] = int(match[2])
        cell = inside_braces(cell[match.end() :])
    while FACE.search(cell):
        cell = FACE.sub(r"\1", cell)
    cell = re.sub(r"\\([%&#_$])", r"\1", cell)
    return html.escape(cell.strip(), quote=False), sizes["column"], sizes["row"]


def inside_braces(text: str) -> str:
    """What the outer braces of a text hold."""
    text = text.strip()
    return text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text


def mark(name: str, size: int) -> str:
    """An HTML attribute, where it says anything."""
    return f' {name}="{size}"' if size > 1 else ""
