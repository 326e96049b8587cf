"""How a target writes what a drafter found: heading marks, formula fences, table mark-up.

A draft that says the right words in the wrong form is rejected token by token, so this matters more
than anything in the matcher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from primum.parsing.regions import FURNITURE, Region


@dataclass(frozen=True)
class Surface:
    """One target's habits.

    Args:
        heading: Stands before a title.
        formula: Stand around a display formula.
        between: Stands between regions.
        table_head: Whether a table's first row is a `<thead>` of `<th>`.
        table_lines: Whether every table tag starts a line, cells indented by one space.
        furniture: Whether headers, footers and page numbers are written at all.
    """

    heading: str = "# "
    formula: tuple[str, str] = ("$$\n", "\n$$")
    between: str = "\n\n"
    table_head: bool = False
    table_lines: bool = False
    furniture: bool = False

    def write(self, region: Region) -> str:
        """One region as the target would write it; empty where the target writes nothing."""
        if region.kind == "figure" or (region.kind in FURNITURE and not self.furniture):
            return ""
        if region.kind == "table" and region.cells:
            return self.table(region.cells)
        text = region.text.strip()
        if region.kind == "title" and text:
            return self.heading + text
        if region.kind == "formula" and text:
            return text.join(self.formula)
        return text

    def page(self, regions: Sequence[Region]) -> str:
        """All regions in their order."""
        return self.between.join(filter(None, map(self.write, regions)))

    def table(self, rows: Sequence[Sequence[str]]) -> str:
        """Rows of cells as HTML.

        >>> Surface().table([["a", "b"], ["1", ""]])
        '<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td></td></tr></table>'
        """
        end, indent = ("\n", " ") if self.table_lines else ("", "")
        parts = ["<table>"]
        for number, row in enumerate(rows):
            head = self.table_head and number == 0
            if self.table_head and number == 1:
                parts.append("<tbody>")
            tag = "th" if head else "td"
            parts += ["<thead>"] * head + ["<tr>"]
            parts += [f"{indent}<{tag}>{escape(cell, quote=False)}</{tag}>" for cell in row]
            parts += ["</tr>"] + ["</thead>"] * head
        if self.table_head and len(rows) > 1:
            parts.append("</tbody>")
        return end.join([*parts, "</table>"])
