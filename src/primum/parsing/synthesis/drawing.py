"""A set page as a picture, and as the PDF it could have been printed from."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from primum.extras import require
from primum.parsing.synthesis.fonts import sized
from primum.parsing.synthesis.formulas import drawn, outlines
from primum.parsing.synthesis.layout import Placed, Run


def picture(placed: Sequence[Placed], size: tuple[int, int], ink: int, paper: int) -> Image.Image:
    """A page in grey, (width, height) pixels; `ink` and `paper` are grey values."""
    page = Image.new("L", size, paper)
    pen = ImageDraw.Draw(page)
    for one in placed:
        for rule in one.rules:
            pen.line(rule, fill=ink)
        for run in one.runs:
            if run.latex:
                paste_formula(page, run, ink, paper)
            else:
                font = sized(run.face, run.size)
                pen.text((run.box.left, run.box.top), run.text, fill=ink, font=font)
    return page


def paste_formula(page: Image.Image, run: Run, ink: int, paper: int) -> None:
    """Draw a formula in its box."""
    amount = drawn(run.text, run.size)
    grey = np.rint(paper + amount * (ink - paper)).astype(np.uint8)
    page.paste(Image.fromarray(grey), (round(run.box.left), round(run.box.top)))


def pdf(pages: Sequence[tuple[Sequence[Placed], tuple[int, int]]]) -> bytes:
    """Pages as a born-digital PDF, a pixel a point: text as text, formulas as outlines."""
    require("reportlab", "parsing")
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.pdfgen.canvas import Canvas

    stream = io.BytesIO()
    canvas = Canvas(stream, invariant=True)  # the same bytes each time
    known: dict[Path, str] = {}
    for placed, (width, height) in pages:
        canvas.setPageSize((width, height))
        for one in placed:
            for rule in one.rules:
                canvas.setLineWidth(0.8)
                canvas.line(rule.left, height - rule.top, rule.right, height - rule.bottom)
            for run in one.runs:
                if run.latex:
                    draw_outlines(canvas, run, height)
                    continue
                if run.face not in known:
                    known[run.face] = run.face.stem
                    pdfmetrics.registerFont(TTFont(run.face.stem, str(run.face)))
                canvas.setFont(known[run.face], run.size)
                ascent, _ = sized(run.face, run.size).getmetrics()
                canvas.drawString(run.box.left, height - run.box.top - ascent, run.text)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def draw_outlines(canvas: object, run: Run, height: int) -> None:
    """A formula's glyphs, filled; quadratic curves as the cubic ones that PDF has."""
    for vertices, codes in outlines(run.text, run.size):
        points = vertices + np.array([run.box.left, height - run.box.bottom])
        path = canvas.beginPath()  # type: ignore[attr-defined]
        at = 0
        while at < len(codes):
            code = codes[at]
            if code == 1:
                path.moveTo(*points[at])
            elif code == 2:
                path.lineTo(*points[at])
            elif code == 3:
                start, bend, end = points[at - 1], points[at], points[at + 1]
                path.curveTo(*(start + 2 * (bend - start) / 3), *(end + 2 * (bend - end) / 3), *end)
                at += 1
            elif code == 4:
                path.curveTo(*points[at], *points[at + 1], *points[at + 2])
                at += 2
            elif code == 79:
                path.close()
            at += 1
        canvas.drawPath(path, stroke=0, fill=1, fillMode=1)  # type: ignore[attr-defined]
