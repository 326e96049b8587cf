"""Markdown's pipe tables as HTML: as the published scorer reads them, and as they are meant."""

from __future__ import annotations

import re

ROW = re.compile(r"\|\s*.*?\s*\|\n", re.DOTALL)
RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
#: what the published scorer takes for the rule under a header: any line with a colon as well
RULE_AS_PUBLISHED = re.compile(r":|---")
WRAPPER = re.compile(r"</?t(able|head|body)>")
TABLE = re.compile(r"<table>[\s\S]*?</table>")


def pipe_rows(text: str) -> list[str]:
    """Spans from a bar to the next bar at the end of a line."""
    return ROW.findall(text + "\n")


def pipe_tables_as_html(text: str, *, compat: bool = True) -> str:
    """The text with its pipe tables replaced by HTML tables.

    Args:
        text: Markdown.
        compat: Read them as the published scorer does: cells with a colon or three dashes are
            lost, and so is the line right above a table.

    >>> pipe_tables_as_html("| a | b |\\n|---|---|\\n| 1 | x: 2 |\\n", compat=False)
    '<table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>x: 2</td></tr></table>\\n'
    """
    return as_published(text) if compat else as_meant(text)


def as_meant(text: str) -> str:
    """Runs of at least two lines that begin and end with a bar become tables."""
    found: list[str] = []
    run: list[str] = []
    for line in [*text.split("\n"), ""]:
        bare = line.strip()
        if len(bare) > 1 and bare[0] == bare[-1] == "|":
            run.append(bare)
            continue
        if len(run) >= 2:
            rows = [
                "<tr>" + "".join(f"<td>{cell.strip()}</td>" for cell in cells(row)) + "</tr>"
                for row in run
                if not RULE.match(row)
            ]
            run = [f"<table>{''.join(rows)}</table>"]
        found += [*run, line]
        run = []
    return "\n".join(found[:-1])


def cells(row: str) -> list[str]:
    """What stands between the bars of a row; a bar after a backslash is text."""
    return [cell.replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def as_published(text: str) -> str:
    """Every row a table of its own first, then neighbours joined line by line."""
    text = text.replace("\r", "") + "\n"
    for row in ROW.findall(text):
        text = text.replace(row, one_row_table(row), 1)
    text = joined_tables(text)
    text = text.replace("<table>", '<table border="1" >')
    return text.replace("<td>", '<td colspan="1" rowspan="1">')


def one_row_table(matched: str) -> str:
    """A match with its first line as header and all lines but the second below it."""
    rows = [row.strip() for row in matched.strip().split("\n")]
    lines = ["<table>", "  <thead>", "    <tr>"]
    lines += [f"      <th>{cell.strip()}</th>" for cell in rows[0].split("|")[1:-1]]
    lines += ["    </tr>", "  </thead>", "  <tbody>"]
    for row in rows[2:]:
        lines.append("    <tr>")
        lines += [f"      <td>{cell.strip()}</td>" for cell in row.split("|")[1:-1]]
        lines.append("    </tr>")
    return "\n".join([*lines, "  </tbody>", "</table>", ""])


def joined_tables(text: str) -> str:
    """Tables on adjoining lines made one; it looks one line back, as the original does."""
    found: list[str] = []
    inside, block, before = False, "", ""
    for line in text.split("\n"):
        if "<table>" in line:
            inside = True
            block += before
        elif inside:
            if not RULE_AS_PUBLISHED.search(before) and "</thead>" not in before:
                block += "\n" + before
            if "</table>" in before:
                inside = False
                found.append(one_table(block))
                block = ""
        else:
            found.append(before)
        before = line
    if before:
        if inside or "</table>" in before:
            found.append(one_table(block + "\n" + before))
        else:
            found.append(before)
    return "\n".join(found)


def one_table(block: str) -> str:
    """The rows of all tables of a block that have any cells, in one table."""
    lines: list[str] = []
    for table in TABLE.findall(re.sub(r"<!--[\s\S]*?-->", "", block)):
        rows = [
            line.replace("<th>", "<td>").replace("</th>", "</td>") if "<th>" in line else line
            for line in table.split("\n")
        ]
        rows = [row for row in rows if not WRAPPER.search(row)]
        if len(rows) > 2:
            lines += rows
    return "\n\n<table>\n" + "\n".join(lines) + "\n</table>\n\n"
