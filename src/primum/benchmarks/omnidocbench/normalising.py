"""What counts as the same: spelling, spaces and markup that scores look through."""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache
from typing import Any

from primum.extras import require

INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
#: commands that change how a formula looks but not what it says, dropped in this order
STYLE = (
    r"\mathbf", r"\mathrm", r"\mathnormal", r"\mathit", r"\mathbb", r"\mathcal", r"\mathscr",
    r"\mathfrak", r"\mathsf", r"\mathtt", r"\textbf", r"\text", r"\boldmath", r"\boldsymbol",
    r"\operatorname", r"\bm", r"\symbfit", r"\mathbfcal", r"\symbf", r"\scriptscriptstyle",
    r"\notag", r"\setlength", r"\coloneqq", r"\space", r"\thickspace", r"\thinspace", r"\medspace",
    r"\nobreakspace", r"\negmedspace", r"\quad", r"\qquad", r"\enspace", r"\substackw", " ",
)  # fmt: skip
STYLE_1_5 = (*STYLE, "$$", r"\left", r"\right", r"\displaystyle", r"\text")
BRACKETED = re.compile(r"\\\[(.+?)(?<!\\)\\\]")
DROPPED = [
    re.compile(pattern)
    for pattern in (
        r"\\tag\{.*?\}", r"\\hspace\{.*?\}", r"\\begin\{.*?\}", r"\\end\{.*?\}",
        r"\\arraycolsep.*?\}",
    )
]  # fmt: skip
LOOKS = ("style", "height", "width", "align", "class")
WRAPPERS = re.compile(r"</?(?:sup|sub|span|div|p)>")


@cache
def latex_reader() -> Any:
    """pylatexenc's converter; its tables take a while to build."""
    require("pylatexenc", "parsing")
    from pylatexenc.latex2text import LatexNodes2Text

    return LatexNodes2Text()


def plain(latex: str) -> str:
    """LaTeX as Unicode text, as far as that goes.

    >>> plain(r"x_1 \\leq \\alpha")
    'x_1 ≤α'
    """
    return latex_reader().latex_to_text(latex)


def normal_text(text: str, *, compat: bool = True) -> str:
    """Word characters alone, inline formulas spelt in Unicode.

    Args:
        text: A block's text.
        compat: Also delete `\\t`, `\\n`, `/t` and `/n`, as the published scorer does inside words.

    >>> normal_text("Dose: 5 mg/kg, $x^2$!")
    'Dose5mgkgx2'
    >>> normal_text("in/out/nothing"), normal_text("in/out/nothing", compat=False)
    ('inoutothing', 'inoutnothing')
    """
    for match in reversed(list(INLINE.finditer(text))):
        formula = match[1] if match[1] is not None else match[2]
        formula = re.sub(r"\\([\\_&%^])", "", formula)
        if not set(formula) & set(r"\^_"):
            continue
        try:
            # a backslash at the very end would escape nothing
            spelt = plain(formula + " " if formula.endswith("\\") else formula)
        except Exception:  # pylatexenc raises whatever its macros raise
            continue
        text = text[: match.start()] + spelt.strip() + text[match.end() :]
    return words(text, compat=compat)


def words(text: str, *, compat: bool = True) -> str:
    """Letters, digits and underscores."""
    if compat:
        for escape in ("\\t", "\\n", "\t", "\n", "/t", "/n"):
            text = text.replace(escape, "")
    return re.sub(r"\W", "", text)


def normal_formula(latex: str, *, version: str = "1.5") -> str:
    r"""A formula without delimiters, tags, environments and style, in lower case.

    >>> normal_formula(r"\[ \mathrm{E} = mc^{2} \tag{1} \]")
    '{e}=mc^{2}'
    """
    newer = version != "1.0"
    if newer:
        latex = latex.strip().strip("$").strip("\n")
    if match := BRACKETED.search(latex):
        latex = match[1].strip()
    for pattern in DROPPED:
        latex = pattern.sub("", latex)
    latex = latex.strip(".")
    for command in STYLE_1_5 if newer else STYLE:
        latex = latex.replace(command, "")
    return latex.lower()


def normal_table(markup: str) -> str:
    """The tables of some HTML as one, without headers, formatting and needless spaces.

    >>> normal_table("<table><tr><th align='left'>a</th></tr></table>")
    '<html><body><table border="1" ><tr><td>a</td></tr></table></body></html>'
    >>> normal_table("no table")
    ''
    """
    if "<table" not in markup.replace(" ", ""):
        return ""
    require("bs4", "parsing")
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(markup, "html.parser")
    for cell in soup.find_all("th"):
        cell.name = "td"
    for head in soup.find_all("thead"):
        head.unwrap()
    for formula in soup.find_all("math"):
        formula.replace_with(f"${formula.get('alttext', '')}$")
    for span in soup.find_all("span"):
        span.unwrap()
    text = html.unescape(str(soup)).replace("\n", "")
    text = unicodedata.normalize("NFKC", text).strip()
    inside = re.findall(r"<table\b[^>]*>(.*)</table>", text, re.DOTALL | re.IGNORECASE)
    text = "".join(inside)
    for look in LOOKS:
        text = re.sub(f' {look}=".*?"', "", text)
    text = re.sub(r"</?tbody>", "", text)
    text = re.sub(r"\s+", " ", text)
    text = f'<html><body><table border="1" >{text}</table></body></html>'
    text = WRAPPERS.sub("", text).replace('<spandata-span-identity="">', "")
    return re.sub("<colgroup>.*?</colgroup>", "", text)
