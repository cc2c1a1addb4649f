"""The table as LaTeX, to be read in with \\input: tables of booktabs, published numbers in tables of their own."""

from collections.abc import Sequence

from dacsm.report.measured import Runs
from dacsm.report.published import published_tables
from dacsm.report.shapes import Line
from dacsm.report.tables import escape, latex

HEAD = "% Made by dacsm; wants \\usepackage{booktabs} and \\usepackage{graphicx}."


def table_in_latex(runs: Runs, published: Sequence[Line]) -> str:
    """The whole file: the numbers selected without target labels, then the published ones."""
    title, protocol = escape(runs.title), f"Protocol: {escape(runs.dataset.protocol)}."
    seeds = runs.experiment.seeds
    spread = "mean $\\pm$ sample standard deviation over seeds" if len(seeds) > 1 else "seed"
    measure = "accuracy of each class" if runs.dataset.table_form == "classes" else f"{runs.measure} accuracy"
    measured = (
        f"{title}, measured: {measure} on the target in percent, {spread} {', '.join(map(str, seeds))}; "
        f"{escape(runs.backbone)}; checkpoints chosen without target labels. {protocol}"
    )
    of_others = f"{title}, published numbers, as their sources print them; none was measured here. {protocol}"
    parts = [HEAD]
    for kind, caption, tables in (
        ("measured", measured, runs.tables()),
        ("published", of_others, published_tables(runs.dataset, published)),
    ):
        label = f"{runs.experiment.name}-{kind}"
        parts += [latex(table, caption, f"{label}-{place}") for place, table in enumerate(tables, start=1)]
    return "\n\n".join(parts) + "\n"
