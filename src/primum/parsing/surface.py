"""How a target writes what a drafter found, and how what it wrote becomes Markdown.

A draft that says the right words in the wrong form is rejected token by token, so this matters more
than anything in the matcher.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from primum.parsing.regions import FURNITURE, Kind, Region


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

    def on(self, size: tuple[int, int]) -> "Surface":
        """These habits on a page of so many pixels, for targets that write where things stand."""
        return self

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

    def rewritten(self, region: Region, text: str) -> str:
        """What the target wrote of a region's crop, as it would write it of the page."""
        return text

    def pieces(self, regions: Sequence[Region]) -> list[str]:
        """A page's draft: what the target would write of each region, in order."""
        return [self.write(region) for region in regions]

    def markdown(self, text: str, kind: Kind | None = None) -> str:
        """What the target wrote, as Markdown with HTML tables.

        Args:
            kind: Of the crop it was written of; None for a page.
        """
        return text

    def found(self, text: str) -> list[Region]:
        """The regions that the target's own output of a page names; [] where it names none."""
        return []

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
