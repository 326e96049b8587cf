"""Drafters: reading order, grouping, tables, a PDF's own text, other programs' results."""

import json
import time
from functools import partial

import pytest
from PIL import Image, ImageDraw, ImageFont

from primum.errors import UserError
from primum.parsing.drafters import saved
from primum.parsing.drafters.ahead import ahead
from primum.parsing.drafters.grouping import joined, paragraphs, regions_from
from primum.parsing.drafters.reading_order import reading_order
from primum.parsing.drafters.tables import cells
from primum.parsing.drafters.text_layer import TextLayer
from primum.parsing.regions import Box, Line, Region
from primum.parsing.surface import Surface


def line(text, x, y, width=80, height=10) -> Line:
    return Line(text, Box(x, y, x + width, y + height))


def test_two_columns_are_read_one_after_the_other_even_where_their_gaps_line_up():
    boxes = [Box(0, 0, 200, 10)]  # a heading over both
    for column in (0, 110):
        boxes += [Box(column, 20 + 30 * row, column + 90, 40 + 30 * row) for row in range(3)]
    boxes.append(Box(0, 120, 200, 130))  # a footer
    assert reading_order(boxes[::-1]) == [7, 6, 5, 4, 3, 2, 1, 0]


def test_no_boxes_and_one():
    assert reading_order([]) == []
    assert reading_order([Box(0, 0, 1, 1)]) == [0]


def test_paragraphs_part_where_the_space_grows():
    lines = [line(str(number), 0, y) for number, y in enumerate((0, 12, 24, 60, 72))]
    assert [[one.text for one in part] for part in paragraphs(lines)] == [
        ["0", "1", "2"],
        ["3", "4"],
    ]


def test_a_box_over_two_columns_is_not_believed():
    lines = [line(f"{side}{row}", x, 12 * row) for side, x in (("a", 0), ("b", 120))
             for row in range(3)]  # fmt: skip
    wrong = [(Box(0, 0, 220, 40), "text")]
    assert [one.text for one in regions_from(lines, wrong)] == ["a0 a1 a2", "b0 b1 b2"]


def test_lines_outside_every_box_are_kept_and_figures_hold_none():
    lines = [line("in a figure", 0, 0), line("in a title", 0, 50), line("nowhere", 0, 100)]
    layout = [(Box(0, 0, 90, 20), "figure"), (Box(0, 45, 90, 65), "title")]
    found = regions_from(lines, layout)
    assert [(one.kind, one.text) for one in found] == [
        ("text", "in a figure"),
        ("title", "in a title"),
        ("text", "nowhere"),
    ]
    assert [one.text for one in regions_from([], layout)] == []


def test_words_broken_at_line_ends_are_joined_and_others_are_not():
    assert joined([line("well-", 0, 0), line("Known", 0, 12)]) == "well- Known"
    assert joined([line("", 0, 0), line("a", 0, 12)]) == "a"


def test_a_table_with_an_empty_cell_and_a_wide_head():
    found = cells([
        line("name", 0, 0, 40), line("score", 100, 1, 40), line("n", 200, 0, 20),
        line("ours", 0, 20, 40), line("0.91", 100, 20, 40), line("12", 200, 21, 20),
        line("theirs", 0, 40, 40), line("7", 205, 40, 10),
    ])  # fmt: skip
    assert found == (("name", "score", "n"), ("ours", "0.91", "12"), ("theirs", "", "7"))
    assert cells([line("alone", 0, 0)]) == ()


def test_surfaces_write_what_the_target_would():
    box = Box(0, 0, 1, 1)
    regions = [
        Region(box, "title", "Heading"),
        Region(box, "figure", "never"),
        Region(box, "header", "running"),
        Region(box, "formula", "x^2"),
        Region(box, "table", "", (("a<b", "2"),)),
    ]
    surface = Surface(table_head=True, table_lines=True)
    assert surface.page(regions) == (
        "# Heading\n\n$$\nx^2\n$$\n\n"
        "<table>\n<thead>\n<tr>\n <th>a&lt;b</th>\n <th>2</th>\n</tr>\n</thead>\n</table>"
    )
    assert "running" in Surface(furniture=True).page(regions)


@pytest.fixture
def pdf(tmp_path):
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "page.pdf"
    canvas = Canvas(str(path), pagesize=(400, 300))
    canvas.setFont("Helvetica-Bold", 20)
    canvas.drawString(40, 250, "A heading")
    canvas.setFont("Helvetica", 10)
    for row, text in enumerate(("First line of a para-", "graph, and the second", "one.")):
        canvas.drawString(40, 220 - 12 * row, text)
    canvas.drawString(40, 150, "Another paragraph.")
    canvas.showPage()
    canvas.showPage()
    canvas.save()
    return path


def test_the_text_layer_is_read_with_headings_and_boxes_in_pixels(pdf):
    layer = TextLayer(pdf)
    assert len(layer) == 2
    found = layer.regions(0, dpi=144)
    assert [(one.kind, one.text) for one in found] == [
        ("title", "A heading"),
        ("text", "First line of a paragraph, and the second one."),
        ("text", "Another paragraph."),
    ]
    box = found[0].box
    assert 78 <= box.left <= 84 and 60 <= box.top <= 80 and box.bottom <= 110
    assert layer.image(0, dpi=144).size == (800, 600)
    assert layer.regions(1) == []
    layer.close()


def test_a_broken_or_missing_pdf_is_one_clear_error(tmp_path):
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7 no more")
    with pytest.raises(UserError, match="cannot be read"):
        TextLayer(tmp_path / "bad.pdf")
    with pytest.raises(UserError, match="no such PDF"):
        TextLayer(tmp_path / "absent.pdf")


def test_an_encrypted_pdf_says_so(tmp_path):
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "locked.pdf"
    canvas = Canvas(str(path), encrypt="secret")
    canvas.drawString(10, 10, "hidden")
    canvas.save()
    with pytest.raises(UserError, match="encrypted"):
        TextLayer(path)


SAVED = {
    "dots": [
        {"bbox": [1, 2, 3, 4], "category": "Section-header", "text": "## Heading"},
        {"bbox": [1, 5, 3, 9], "category": "Picture"},
        {"bbox": [1, 9, 3, 12], "category": "Formula", "text": "$$\nx\n$$"},
    ],
    "pp_structure": {
        "res": {
            "parsing_res_list": [
                {"block_bbox": [1, 2, 3, 4], "block_label": "doc_title",
                 "block_content": "Heading"},
                {"block_bbox": [1, 5, 3, 9], "block_label": "image", "block_content": ""},
                {"block_bbox": [1, 9, 3, 12], "block_label": "formula", "block_content": "x"},
            ]
        }
    },
    "mineru": {
        "pdf_info": [{
            "page_size": [100, 100],
            "para_blocks": [
                {"type": "title", "bbox": [1, 2, 3, 4],
                 "lines": [{"spans": [{"content": "Heading"}]}]},
                {"type": "image", "bbox": [1, 5, 3, 9], "blocks": [
                    {"type": "image_body", "bbox": [1, 5, 3, 9], "lines": []}]},
                {"type": "interline_equation", "bbox": [1, 9, 3, 12],
                 "lines": [{"spans": [{"content": "x"}]}]},
            ],
        }]
    },
    "omnidocbench": {
        "layout_dets": [
            {"category_type": "equation_isolated", "poly": [1, 9, 3, 9, 3, 12, 1, 12], "order": 3,
             "latex": "$$x$$"},
            {"category_type": "title", "poly": [1, 2, 3, 2, 3, 4, 1, 4], "order": 1,
             "text": "Heading"},
            {"category_type": "figure", "poly": [1, 5, 3, 5, 3, 9, 1, 9], "order": 2},
            {"category_type": "abandon", "poly": [0, 0, 1, 0, 1, 1, 0, 1]},
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SAVED)
def test_other_programs_results_say_the_same(name, tmp_path):
    path = tmp_path / "page.json"
    path.write_text(json.dumps(SAVED[name]))
    found = saved.read(path)
    assert [(one.kind, one.text) for one in found] == [
        ("title", "Heading"),
        ("figure", ""),
        ("formula", "x"),
    ]
    assert [one.box for one in found] == [Box(1, 2, 3, 4), Box(1, 5, 3, 9), Box(1, 9, 3, 12)]


def test_tables_are_taken_apart_unless_cells_are_merged():
    (plain, merged) = saved.dots([
        {"bbox": [0, 0, 1, 1], "category": "Table",
         "text": "<table><tr><th>a</th></tr><tr><td>1 &amp; 2</td></tr></table>"},
        {"bbox": [0, 0, 1, 1], "category": "Table",
         "text": '<table><tr><td colspan="2">a</td></tr></table>'},
    ])  # fmt: skip
    assert plain.cells == (("a",), ("1 & 2",))
    assert merged.cells == () and "colspan" in Surface().write(merged)


def test_pages_of_larger_files_are_found(tmp_path):
    content = [
        {"type": "text", "text": "Heading", "text_level": 1, "bbox": [100, 100, 500, 200],
         "page_idx": 1},
        {"type": "table", "table_body": "<table><tr><td>1</td></tr></table>", "page_idx": 1,
         "table_caption": ["Doses"], "bbox": [100, 300, 500, 400]},
        {"type": "equation", "text": "$$x$$", "bbox": [0, 0, 1, 1], "page_idx": 0},
    ]  # fmt: skip
    (tmp_path / "report" / "auto").mkdir(parents=True)
    file = tmp_path / "report" / "auto" / "report_content_list.json"
    file.write_text(json.dumps(content))
    assert saved.find(tmp_path, "papers/report.pdf", 1) == file
    assert saved.find(tmp_path, "papers/other.pdf") is None
    found = saved.read(file, 1, (1000, 2000))
    assert [(one.kind, one.text) for one in found][:2] == [
        ("title", "Heading"),
        ("caption", "Doses"),
    ]
    assert found[0].box == Box(100, 200, 500, 400) and found[2].cells == (("1",),)
    assert [one.text for one in saved.read(file, 0)] == ["x"]
    middle = tmp_path / "middle.json"
    middle.write_text(json.dumps({"pdf_info": [*SAVED["mineru"]["pdf_info"]] * 2}))
    assert len(saved.read(middle, 1)) == 3
    with pytest.raises(UserError, match="no page 3"):
        saved.read(middle, 2)
    pages = [SAVED["omnidocbench"] | {"page_info": {"image_path": f"images/{n}.png"}} for n in "ab"]
    pages[1] = pages[1] | {"layout_dets": pages[1]["layout_dets"][:1]}
    middle.write_text(json.dumps(pages))
    assert len(saved.read(middle, picture="b.png")) == 1 and len(saved.read(middle)) == 3


def test_pp_structure_comes_in_its_reading_order(tmp_path):
    blocks = [
        {"block_bbox": [0, 0, 1, 1], "block_label": "header", "block_content": "h",
         "block_order": None},
        {"block_bbox": [0, 0, 1, 1], "block_label": "text", "block_content": "two",
         "block_order": 2},
        {"block_bbox": [0, 0, 1, 1], "block_label": "display_formula", "block_content": "$$y$$",
         "block_order": 1},
    ]  # fmt: skip
    found = saved.pp_structure({"parsing_res_list": blocks})
    assert [one.text for one in found] == ["y", "two", "h"]


def test_a_truncated_answer_of_dots_still_drafts(tmp_path):
    file = tmp_path / "page.json"
    file.write_text(json.dumps(SAVED["dots"])[:-30])
    found = saved.read(file)
    assert [one.kind for one in found][:2] == ["title", "figure"]


@pytest.mark.parametrize("text", ["{", "[]", '{"other": 1}', '[{"bbox": [1, 2]}]'])
def test_a_draft_of_no_known_kind_is_one_clear_error(text, tmp_path):
    path = tmp_path / "page.json"
    path.write_text(text)
    with pytest.raises(UserError):
        saved.read(path)


class Slow:
    name = "slow"

    def __call__(self, image):
        if image == "crash":
            raise SystemExit
        if image == "raise":
            raise ValueError("a bad page")
        if image == "hang":
            time.sleep(600)
        return [Region(Box(0, 0, 1, 1), "text", str(image))]


@pytest.mark.process
def test_drafts_come_in_order_and_a_lost_worker_costs_its_page_alone():
    pages = ["one", "raise", "crash", "two", "hang", "three"]
    found = list(ahead(Slow, pages, workers=2, timeout=15))
    assert [one.regions[0].text if one.regions else "" for one in found] == [
        "one", "", "", "two", "", "three",
    ]  # fmt: skip
    assert ["bad page" in found[1].problem, "died" in found[2].problem] == [True, True]
    assert "too long" in found[4].problem


@pytest.mark.slow
def test_the_wheels_read_a_page():
    from primum.parsing.drafters.ocr import OcrDrafter

    image = Image.new("RGB", (900, 300), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(36)
    draw.text((40, 40), "Speculative decoding", fill="black", font=font)
    draw.text((40, 160), "keeps the output as it is.", fill="black", font=font)
    text = " ".join(one.text for one in OcrDrafter()(image))
    assert "Speculative decoding" in text and "output as it is" in text
    assert list(ahead(partial(OcrDrafter), [Image.new("RGB", (64, 64), "white")])) != []
