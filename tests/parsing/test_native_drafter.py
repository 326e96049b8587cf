"""PP-DocLayout and PP-OCR of transformers as drafters: real architectures, random weights."""

import pytest
import torch
import transformers
from PIL import Image, ImageDraw

from primum.errors import UserError
from primum.parsing.drafters.native import NativeDrafter
from primum.parsing.drafters.saved import kind
from primum.parsing.regions import Box, Line

LABELS = ["doc_title", "text", "table", "display_formula", "image", "number"]


@pytest.fixture(scope="module")
def drafter(tmp_path_factory):
    root = tmp_path_factory.mktemp("native")
    torch.manual_seed(0)
    config = transformers.PPOCRV5MobileDetConfig()
    transformers.PPOCRV5MobileDetForObjectDetection(config).save_pretrained(root / "det")
    transformers.PPOCRV5ServerDetImageProcessor().save_pretrained(root / "det")
    config = transformers.PPOCRV6SmallRecConfig()
    characters = [chr(0x4E00 + n) for n in range(config.head_out_channels)]
    transformers.PPOCRV6SmallRecForTextRecognition(config).save_pretrained(root / "rec")
    images = transformers.PPOCRV6SmallRecImageProcessor(character_list=characters)
    images.save_pretrained(root / "rec")
    config = transformers.PPDocLayoutV3Config(
        id2label=dict(enumerate(LABELS)), label2id={name: n for n, name in enumerate(LABELS)},
        num_queries=20, decoder_layers=1, d_model=64, encoder_hidden_dim=64, encoder_ffn_dim=64,
        decoder_ffn_dim=64, decoder_in_channels=[64, 64, 64], encoder_attention_heads=4,
        decoder_attention_heads=4,
    )  # fmt: skip
    transformers.PPDocLayoutV3ForObjectDetection(config).save_pretrained(root / "layout")
    images = transformers.PPDocLayoutV3ImageProcessor(size={"height": 160, "width": 160})
    images.save_pretrained(root / "layout")
    names = (str(root / name) for name in ("det", "rec", "layout"))
    return NativeDrafter(*names, batch=3, least_score=0.0, certain=0.0)


@pytest.fixture
def page():
    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).text((20, 20), "Words", fill="black")
    return image


BOXES = [
    Box(10, 10, 110, 30), Box(10, 40, 290, 60), Box(10, 70, 100, 90), Box(10, 100, 105, 120),
    Box(10, 130, 108, 150), Box(10, 160, 40, 190),
]  # fmt: skip


@pytest.mark.seconds
def test_lines_are_read_in_batches_of_like_shape_and_come_in_their_order(drafter, page):
    drafter._boxes = lambda picture: BOXES
    try:
        found = drafter.lines(page)
    finally:
        del drafter._boxes
    assert [line.box for line in found] == [box for box in BOXES if box in {f.box for f in found}]
    processor, model = drafter._loaded[1]
    for line in found[:2]:
        crop = page.crop(tuple(map(int, line.box)))
        with torch.inference_mode():
            output = model(**processor(images=[crop], return_tensors="pt"))
        (alone,) = processor.post_process_text_recognition(output)
        if line.box == BOXES[1]:  # alone in its batch
            assert alone["text"] == line.text and alone["score"] == pytest.approx(line.score)


def test_boxes_are_those_of_the_detector_on_the_page(drafter, page):
    drafter.load()
    _, model = drafter._loaded[0]
    noise = torch.rand(1, 1, 200, 300).mul(0.1)
    noise[0, 0, 40:60, 30:150] = 0.95
    real = model.forward
    model.forward = lambda pixel_values: transformers.modeling_outputs.BaseModelOutput(noise)
    try:
        (box,) = drafter._boxes(page)
    finally:
        model.forward = real
    assert Box(30, 40, 150, 60).overlap(box) > 0.95 and box.area < 3 * 120 * 20
    assert all(Box(0, 0, 300, 200).overlap(one) == 1 for one in drafter._boxes(page))


def test_a_page_comes_in_the_layouts_order(drafter, page):
    layout = drafter.layout(page)
    assert len(layout) == 20 and {one for _, one in layout} <= {kind(name) for name in LABELS}
    lines = [Line("first", Box(10, 150, 100, 170)), Line("second", Box(10, 10, 100, 30)),
             Line("left over", Box(200, 100, 260, 120))]  # fmt: skip
    drafter.lines = lambda image: lines
    drafter.layout = lambda image: [
        (Box(5, 145, 105, 175), "text"), (Box(5, 5, 105, 35), "title"),
    ]  # fmt: skip
    try:
        found = drafter(page)
    finally:
        del drafter.lines, drafter.layout
    assert [(one.text, one.kind) for one in found] == [
        ("first", "text"), ("second", "title"), ("left over", "text"),
    ]  # fmt: skip


def test_weights_that_are_not_there_are_one_clear_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        NativeDrafter(str(tmp_path / "empty"), layout=None).load()
