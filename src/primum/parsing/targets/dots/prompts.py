"""The prompts dots.ocr was trained on, word for word: it does not know others.

From the release's `dict_promptmode_to_prompt` (rednote-hilab/dots.ocr, MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from primum.parsing.targets.dots.output import CATEGORIES

Mode = Literal[
    "layout_all", "layout_only", "ocr", "grounding", "web", "scene_spotting", "svg", "general"
]
CELL_MODES = frozenset({"layout_all", "layout_only"})

_KINDS = "[" + ", ".join(f"'{name}'" for name in CATEGORIES) + "]"
_LAYOUT_ALL = f"""\
Please output the layout information from the PDF image, including each layout element's bbox, its \
category, and the corresponding text content within the bbox.

1. Bbox format: [x1, y1, x2, y2]

2. Layout Categories: The possible categories are {_KINDS}.

3. Text Extraction & Formatting Rules:
    - Picture: For the 'Picture' category, the text field should be omitted.
    - Formula: Format its text as LaTeX.
    - Table: Format its text as HTML.
    - All Others (Text, Title, etc.): Format their text as Markdown.

4. Constraints:
    - The output text must be the original text from the image, with no translation.
    - All layout elements must be sorted according to human reading order.

5. Final Output: The entire output must be a single JSON object.
"""
_LAYOUT_ONLY = (
    "Please output the layout information from this PDF image, including each layout's bbox and its"
    " category. The bbox should be in the format [x1, y1, x2, y2]. The layout categories for the"
    f" PDF document include {_KINDS}. Do not output the corresponding text. The layout result"
    " should be in JSON format."
)
PROMPTS: dict[Mode, str] = {
    "layout_all": _LAYOUT_ALL,
    "layout_only": _LAYOUT_ONLY,
    "ocr": "Extract the text content from this image.",
    "grounding": "Extract text from the given bounding box on the image (format: [x1, y1, x2, y2])."
    "\nBounding Box:\n",
    # only dots.mocr (also called dots.ocr-1.5) knows these
    "web": "Parsing the layout info of this webpage image with format json:\n",
    "scene_spotting": "Detect and recognize the text in the image.",
    "svg": 'Please generate the SVG code based on the image.viewBox="0 0 {width} {height}"',
    "general": " ",
}


def prompt(mode: Mode, size: tuple[int, int], box: Sequence[int] | None = None) -> str:
    """What the model is asked.

    Args:
        size: Width and height of the model's input in pixels.
        box: For `grounding`, in pixels of the model's input.
    """
    text = PROMPTS[mode]
    if mode == "grounding":
        assert box is not None
        return text + str([int(edge) for edge in box])
    return text.format(width=size[0], height=size[1]) if mode == "svg" else text
