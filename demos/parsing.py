"""Makes the sample PDF of the parsing demo, and says how well it was read."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from primum.metrics.page_edit_distance import line_edits
from primum.parsing.synthesis.page import Recipe, make_page, make_pdf

SEEDS = (4, 13, 22)  # a list, headings, a table; below the first seed that training uses
RECIPE = Recipe(chances={"heading": 0.5, "list": 0.25, "table": 0.25})
SAMPLE = Path(__file__).with_name("sample.pdf")


def main() -> None:
    """`make`: write the sample. Else: how many characters of a folder's pages are wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", help="that `primum parse` wrote")
    folder = parser.parse_args().folder
    pages = [make_page(seed, RECIPE) for seed in SEEDS]
    if folder is None:
        SAMPLE.write_bytes(make_pdf(pages))
        return
    read = [
        json.loads((Path(folder) / SAMPLE.name / f"{number:04d}.json").read_text())["markdown"]
        for number in range(1, len(pages) + 1)
    ]
    truth = [page.markdown for page in pages]
    edits = sum(line_edits([found], [true])[0] for found, true in zip(read, truth, strict=True))
    total = sum(map(len, truth))
    print(f"docvlm-tiny read {total} characters with {edits} errors: {100 * edits / total:.1f} %")


if __name__ == "__main__":
    main()
