"""What a job leaves: blocks with boxes, figures, headers, exports, the report."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from primum.errors import UserError
from primum.jobs.index import Index
from primum.parsing.jobs.blocks import placed, split
from primum.parsing.jobs.docling import table_data
from primum.parsing.jobs.exports import export, natural
from primum.parsing.jobs.index import Entry
from primum.parsing.jobs.inputs import PageInput
from primum.parsing.jobs.output import Output
from primum.parsing.jobs.report import bars, write_report
from primum.parsing.regions import Box, Region

TABLE = "<table><tr><td colspan=2>dose</td></tr><tr><td>a</td><td>b</td></tr></table>"
TEXT = f"# Fever of a nurse\n\nThe patient takes 5 mg.\n\n- one\n- two\n\n{TABLE}\n\n$$x^2$$\n\n7"
REGIONS = [
    Region(Box(10, 10, 90, 20), "title", "Fever of a nurse"),
    Region(Box(10, 30, 90, 40), "text", "The patlent takes 5 mg"),
    Region(Box(10, 45, 90, 70), "figure"),
    Region(Box(10, 75, 90, 85), "table", cells=(("dose",), ("a", "b"))),
    Region(Box(45, 110, 55, 118), "page_number", "7"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image = Image.new("RGB", (100, 120), "white")
    image.paste("red", (10, 45, 90, 70))
    out = tmp_path / "out"
    image.save(tmp_path / "page.png")
    page = PageInput(tmp_path / "page.png", None, "page.png")
    decoding = {
        "mode": "page", "lossy": "", "tokens": 20, "pieces": [["model", "<b>"], ["region", "x"]],
        "steps": [[8, 4, 2.0], [0, 1, 1.0]], "seconds": {"draft": 0.1, "decode": 0.3},
        "verification": {"said": "every one of 20 tokens", "exact": True, "numeric": True},
    }  # fmt: skip
    Output(out, headers=False).write(page, image, TEXT, REGIONS, decoding)
    index = Index(out, Entry)
    index.append(Entry("k", "page.png", "ok", tokens=20, forwards=2, accepted=4, seconds=0.4))
    index.append(Entry("l", "bad.png", "failed", reason="<script>alert(1)</script>"))
    index.close()
    return out


def test_blocks_are_found_where_a_drafter_saw_them() -> None:
    blocks = placed(TEXT, REGIONS)
    assert [one.category for one in blocks] == [
        "title", "text", "list", "table", "formula", "page_number",
    ]  # fmt: skip
    assert blocks[0].box == REGIONS[0].box and blocks[1].box == REGIONS[1].box
    assert blocks[3].box == REGIONS[3].box and blocks[2].box is None
    assert "\n\n".join(one.text for one in placed(TEXT, [])) == TEXT
    assert split("<table>\n\n<tr></tr></table>\n\nx") == ["<table>\n\n<tr></tr></table>", "x"]


def test_figures_are_cut_out_and_headers_left_away(folder: Path) -> None:
    text = (folder / "page.png.md").read_text()
    assert "![figure](page.png.figures/1.png)" in text and not text.strip().endswith("7")
    assert text.index("takes 5 mg") < text.index("![figure]") < text.index("<table")
    with Image.open(folder / "page.png.figures" / "1.png") as figure:
        assert figure.size == (90, 35) and figure.getpixel((40, 15)) == (255, 0, 0)
    told = json.loads((folder / "page.png.json").read_text())
    assert told["markdown"] == TEXT  # as the model wrote it
    kinds = {one["category"]: one["box"] for one in told["blocks"]}
    assert kinds["figure"] == [10, 45, 90, 70] and "page_number" not in kinds


def test_rows_for_other_tools(folder: Path) -> None:
    (file,) = export(folder, "jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["name"] for row in rows] == ["bad.png", "page.png"]
    assert rows[1]["blocks"][0]["category"] == "title"
    assert len(export(folder, "parquet", size=1)) == 2
    (whole,) = export(folder, "parquet")
    assert pq.read_table(whole).to_pylist()[1]["markdown"] == TEXT
    assert len(list(folder.glob("pages-*.parquet"))) == 1
    assert sorted(["a/10", "a/9"], key=natural) == ["a/9", "a/10"]
    with pytest.raises(UserError, match="No pages"):
        export(folder / "nothing", "jsonl")


def test_docling_reads_what_is_written_for_it(folder: Path) -> None:
    (file,) = export(folder, "docling")
    made = json.loads(file.read_text())
    assert [made["texts"][0]["text"], made["texts"][0]["level"]] == ["Fever of a nurse", 1]
    assert made["pictures"] and made["pages"]["1"]["size"] == {"width": 100, "height": 120}
    data = table_data(TABLE)
    assert (data["num_rows"], data["num_cols"]) == (2, 2)
    assert data["table_cells"][0]["end_col_offset_idx"] == 2
    assert table_data("a | b\n--|--\nc | d")["num_rows"] == 2
    core = pytest.importorskip("docling_core.types.doc")
    document = core.DoclingDocument.model_validate(made)
    assert "takes 5 mg" in document.export_to_markdown()


def test_the_report_stands_alone_and_escapes(folder: Path, tmp_path: Path) -> None:
    page = PageInput(tmp_path / "page.png", None, "page.png")
    facts = {"model": "m<i>", "note": "", "device": "cpu", "command": "primum parse"}
    html = write_report(folder, [page], facts).read_text()
    assert "&lt;script&gt;" in html and "<script" not in html and "m&lt;i&gt;" in html
    assert "http" not in html.replace("http-equiv", "") and "data:image/jpeg" in html
    assert "1 of 1 pages proven token for token" in html
    assert 'class="t0" title="region">x<' in html and 'class="tmodel"' in html
    assert html.count("<rect") == 4  # title, text and table, and the figure
    assert sum(bar["width"] for bar in bars([[1, 2, 3.0]] * 1000)) == pytest.approx(100)
