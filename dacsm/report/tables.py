"""A table of text and numbers, and how it is written: as Markdown, as LaTeX, or number by number in a CSV."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tabulate import tabulate

LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
         "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "→": r"$\to$", "↓": r"$\downarrow$", "−": "$-$", "±": r"$\pm$"}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A mean over seeds with its standard deviation (NaN for one seed), or a published number; NaN for none."""

    mean: float
    spread: float = math.nan
    digits: int = 1  # decimals of the mean in a CSV; people are shown at least one


NONE = Number(math.nan)
Cell = str | Number


@dataclass(frozen=True)
class Table:
    """Rows under heads. The first `names` columns are set to the left, the others to the right."""

    title: str  # a task or a method; may be empty
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: int = 1


def decimal(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number for a CSV: without the sign of a zero, and empty where it is not known (None or NaN)."""
    return "" if value is None or math.isnan(value) else f"{round(float(value), digits) + 0.0:{sign}.{digits}f}"


def printed(value: float | None, digits: int = 2, sign: str = "") -> str:
    """A number for people: with the minus sign of print, and a dash where it is not known."""
    return decimal(value, digits, sign).replace("-", "−") or "–"


def markdown(table: Table) -> str:
    """The table under its title, if it has one."""
    heads, *rows = [[_in_markdown(cell) for cell in row] for row in (table.heads, *table.rows)]
    align = ["left"] * table.names + ["right"] * (len(heads) - table.names)
    text = tabulate(rows, heads, tablefmt="pipe", colalign=align, disable_numparse=True)
    return f"### {table.title}\n\n{text}" if table.title else text


def page(parts: Iterable[str | Table]) -> str:
    """A whole file of Markdown: paragraphs, headings and tables, one below the other."""
    return "\n\n".join(part if isinstance(part, str) else markdown(part) for part in parts) + "\n"


def _in_markdown(cell: Cell) -> str:
    """74.1 ± 0.8, with spaces that do not break; the mean alone where there is no deviation."""
    if isinstance(cell, str):
        return cell.replace("|", r"\|")
    mean = printed(cell.mean, max(1, cell.digits))
    return mean if math.isnan(cell.spread) else f"{mean}\u00a0±\u00a0{cell.spread:.1f}"


def escape(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(LATEX.get(character, character) for character in text)


def latex(table: Table, caption: str, label: str) -> str:
    """The table of booktabs; `caption` is LaTeX already, and comes after the title."""
    heads, *rows = [" & ".join(map(_in_latex, row)) + r" \\" for row in (table.heads, *table.rows)]
    title = f"{escape(table.title)}. " if table.title else ""
    return "\n".join([
        r"\begin{table}[tb]",
        r"\centering",
        rf"\caption{{{title}{caption}}}",
        rf"\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{'l' * table.names}{'r' * (len(table.heads) - table.names)}@{{}}}}",
        r"\toprule",
        heads,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ])  # fmt: skip


def _in_latex(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    if math.isnan(cell.mean):
        return "--"
    mean = f"{cell.mean:.{max(1, cell.digits)}f}"
    return mean if math.isnan(cell.spread) else rf"${mean} \pm {cell.spread:.1f}$"
