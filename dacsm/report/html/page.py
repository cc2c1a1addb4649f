"""The sections as HTML. All that the template is given is escaped, so that names and titles are shown as text."""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from dacsm.report.html.content import Section
from dacsm.report.tables import Cell, shown

FOLDER = Path(__file__).parent
STRONG, CODE = ("strong", re.compile(r"\*\*(.+?)\*\*")), ("code", re.compile(r"`(.+?)`"))


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The whole file; `about` is a sentence for search engines and previews. The same sections give the same bytes."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"kind": lambda part: type(part).__name__, "words": _words, "cell": _cell}
    style = Markup((FOLDER / "page.css").read_text(encoding="utf-8"))
    return templates.get_template("page.html.j2").render(title=title, about=about, sections=sections, style=style)


def _words(text: str) -> Markup:
    """A text with the two marks of Markdown that our pages have: **strong** and `code`."""
    return _marked(text, STRONG, CODE)


def _cell(cell: Cell) -> Markup:
    """A cell as in Markdown."""
    return _marked(shown(cell), STRONG)


def _marked(text: str, *marks: tuple[str, re.Pattern[str]]) -> Markup:
    found = str(escape(text))
    for tag, pattern in marks:
        found = pattern.sub(rf"<{tag}>\1</{tag}>", found)
    return Markup(found)
