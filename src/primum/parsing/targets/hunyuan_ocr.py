"""HunyuanOCR: one Chinese prompt, Markdown with HTML tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from primum.parsing.regions import Kind
from primum.parsing.surface import Surface
from primum.parsing.targets.adapter import Adapter


class HunyuanOcr(Adapter):
    """HunyuanOCR, a billion weights; mind its licence: not for the EU, the UK and South Korea."""

    name = "hunyuan_ocr"
    hub = "tencent/HunyuanOCR"
    model_types = ("hunyuan_vl",)
    surface = Surface(formula=("$$\n", "\n$$"))
    page = (
        "提取文档图片中正文的所有信息用markdown格式表示，其中页眉、页脚部分忽略，"  # noqa: RUF001
        "表格用html格式表达，文档中公式用latex格式表示，按照阅读顺序组织进行解析。"  # noqa: RUF001
    )
    regions: ClassVar[Mapping[Kind, str]] = {
        "table": "把图中的表格解析为HTML。",
        "formula": "识别图片中的公式，用LaTeX格式表示。",  # noqa: RUF001
    }
