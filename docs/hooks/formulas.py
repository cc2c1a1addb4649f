"""Formulas as pictures in the page itself: the site needs no script for them, and nothing from elsewhere.

arithmatex marks what stands between dollar signs, in pages and docstrings. Matplotlib's own TeX sets it, as outlines.
"""

import re
from html import escape, unescape

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextToPath
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

MARKED = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', flags=re.DOTALL)
SIZE = 100  # units of a picture that make one em of the page
EM = 1.06  # of the text's size: STIX is a small face
FONT = FontProperties(math_fontfamily="stix", size=SIZE)
LETTER = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


def on_page_content(html: str, page: Page, **_: object) -> str:
    """Set every formula of a page; raises PluginError, which stops the build, where one cannot be set."""

    def picture(found: re.Match[str]) -> str:
        formula = " ".join(unescape(found[3]).split())
        try:
            return _set(formula, display=found[2] == "[")
        except ValueError as error:
            raise PluginError(f"{page.file.src_uri}: the formula {formula} cannot be set: {error}") from error

    return MARKED.sub(picture, html)


def _set(formula: str, display: bool) -> str:
    """A formula as SVG on the text's baseline, in the text's colour; raises ValueError where it cannot be set."""
    text = "$" + (formula.replace(r"\frac", r"\dfrac") if display else formula) + "$"
    width, height, depth = TextToPath().get_text_width_height_descent(text, FONT, ismath=True)
    vertices, codes = TextToPath().get_text_path(FONT, text, ismath=True)
    segments = Path(np.array(vertices) * (1, -1), codes).iter_segments(simplify=False)
    outline = "".join(
        LETTER[code] + ("" if code == Path.CLOSEPOLY else " ".join(f"{number:.1f}" for number in numbers))
        for numbers, code in segments
    )
    wide, high, low = (f"{EM * length / SIZE:.3f}em" for length in (width, height, -depth))
    style = f"width: {wide}; height: {high}; vertical-align: {low}"
    box = f"0 {depth - height:.1f} {width:.1f} {height:.1f}"
    picture = (
        f'<svg class="formula" role="img" aria-label="{escape(formula)}" viewBox="{box}" style="{style}">'
        f'<path d="{outline}"/></svg>'
    )
    return f'<div class="formula">{picture}</div>' if display else picture
