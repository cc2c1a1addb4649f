"""The table as LaTeX, to be read in with \\input: tables of booktabs, published numbers in tables of their own."""

from collections.abc import Sequence

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment
from dacsm.report.published import Published
from dacsm.report.shapes import MEASURES, Grid, Rows, decimal, measured_grids, published_grids

HEAD = "% Made by dacsm; wants \\usepackage{booktabs} and \\usepackage{graphicx}."
SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
           "{": r"\{", "}": r"\}",
           "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "↓": r"$\downarrow$",
           "−": "$-$", "±": r"$\pm$"}  # fmt: skip


def latex(
    dataset: DatasetSpec, experiment: Experiment, backbone: str, selected: Rows, published: Sequence[Published]
) -> str:
    """The whole file: the numbers selected without target labels, then the published ones."""
    measured = measured_grids(dataset, experiment.tasks, experiment.methods, selected)
    seeds = ", ".join(map(str, experiment.seeds))
    spread = "mean $\\pm$ sample standard deviation over seeds" if len(experiment.seeds) > 1 else "seed"
    measure = "accuracy of each class" if dataset.table_form == "classes" else f"{MEASURES[dataset.headline]} accuracy"
    facts = (
        f"{escape(experiment.title(dataset))}, measured: {measure} on the target in percent, {spread} {seeds}; "
        f"{escape(backbone)}; checkpoints chosen without target labels. Protocol: {escape(dataset.protocol)}."
    )
    parts = [HEAD]
    parts += [
        _table(grid, facts, f"{experiment.name}-measured-{number}") for number, grid in enumerate(measured, start=1)
    ]
    facts = (
        f"{escape(experiment.title(dataset))}, published numbers, as their sources print them; none was measured here. "
        f"Protocol: {escape(dataset.protocol)}."
    )
    grids = published_grids(dataset, published) if published else []
    parts += [
        _table(grid, facts, f"{experiment.name}-published-{number}") for number, grid in enumerate(grids, start=1)
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text of ours as LaTeX shows it."""
    return "".join(SPECIAL.get(character, character) for character in text)


def _table(grid: Grid, facts: str, label: str) -> str:
    heads = [escape(head) for head in (*grid.names, *grid.columns)]
    lines = [
        _line([*map(escape, line.names), *(_number(grid, *cell) for cell in zip(line.mean, line.spread, strict=True))])
        for line in grid.lines
    ]
    title = f"{escape(grid.title)}. " if grid.title else ""
    return "\n".join([
        r"\begin{table}[tb]",
        r"\centering",
        rf"\caption{{{title}{facts}}}",
        rf"\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{'l' * len(grid.names)}{'r' * len(grid.columns)}@{{}}}}",
        r"\toprule",
        _line(heads),
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ])  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _number(grid: Grid, mean: float, spread: float) -> str:
    if np.isnan(mean):
        return "--"
    return decimal(grid, mean) if np.isnan(spread) else rf"${mean:.1f} \pm {spread:.1f}$"
