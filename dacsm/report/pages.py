"""The table as text: Markdown for people, with what is needed to trust it; CSV to compute with; LaTeX to be read in.

Published numbers stand in rows, and in tables, of their own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dacsm.config.datasets import DatasetSpec
from dacsm.config.experiments import Experiment
from dacsm.config.params import SOURCE_ONLY
from dacsm.report.differences import Comparisons, difference_section
from dacsm.report.measured import KINDS, Runs
from dacsm.report.published import published_tables
from dacsm.report.tables import AVERAGE, MEASURES, MOST_CLASSES, NONE, Cell, Line, Table, arrow, decimal, matrix, page
from dacsm.report.validators import validator_section

LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
         "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "→": r"$\to$", "↓": r"$\downarrow$", "−": "$-$", "±": r"$\pm$"}  # fmt: skip
ORIGIN = ("origin", "backbone", "protocol", "found_in")  # only where some rows are published
HEAD = "% Made by dacsm; wants \\usepackage{booktabs} and \\usepackage{graphicx}."


def table_page(runs: Runs, published: Sequence[Line], comparisons: Comparisons, judged: list[dict[str, Any]]) -> str:
    """The whole text."""
    sections = (measured_section(runs), difference_section(runs, comparisons), validator_section(runs, judged))
    parts = [part for section in sections for part in section]
    return page([*_introduction(runs), *parts, *published_section(runs, published)])


def _introduction(runs: Runs) -> Iterator[str]:
    yield f"# {runs.title}"
    yield f"Protocol: {runs.dataset.protocol}."
    yield about_numbers(runs)


def about_seeds(experiment: Experiment) -> str:
    """What the numbers of a table are, of its seeds."""
    if len(experiment.seeds) == 1:
        return f"those of seed {experiment.seeds[0]} alone, so that nothing is known of their spread"
    return f"means over seeds {', '.join(map(str, experiment.seeds))} ± sample standard deviation"


def about_numbers(runs: Runs) -> str:
    """What the numbers are, and how the checkpoints were selected."""
    return (
        f"Accuracy on the target in percent; numbers are {about_seeds(runs.experiment)}. A class's accuracy is its "
        "recall, “mean per class” is the mean of these, “overall” is the fraction of all images that are right. The "
        f"checkpoint of each run was selected without target labels; {SOURCE_ONLY} is the source model after its last "
        "epoch."
    )


def measured_section(runs: Runs) -> Iterator[str | Table]:
    """The table itself, how the checkpoints were chosen, and every seed: of each task, or of the average alone."""
    tasks, dataset = runs.experiment.tasks, runs.dataset
    by_class = dataset.table_form == "classes"
    if by_class:
        for task, table in zip(tasks, runs.tables(), strict=True):
            yield from _about_task(dataset, task)
            yield replace(table, title="")
            if len(dataset.classes) > MOST_CLASSES:
                yield f"The accuracies of the {len(dataset.classes)} classes are in the CSV beside this file."
            yield from _choices(runs, task)
            yield from _every_seed(runs, task)
    else:
        yield f"## Measured: {runs.measure} accuracy"
        yield from runs.tables()
    if runs.several:
        yield f"## Average over {len(tasks)} tasks"
        if by_class:
            heads = [f"{runs.measure} of", *map(arrow, tasks), AVERAGE]
            numbers = {method: runs.by_task(method).numbers for method in runs.experiment.methods}
            yield Table("", heads, [[name, *(of[task] for task in (*tasks, AVERAGE))] for name, of in numbers.items()])
        if seen := [arrow(task) for task in tasks if task in dataset.development_tasks]:
            yield f"The average includes tasks on which settings were chosen: {', '.join(seen)}."
        if not by_class:
            yield from _choices(runs, AVERAGE)
    if runs.several or not by_class:
        yield from _every_seed(runs, AVERAGE)


def _about_task(dataset: DatasetSpec, task: str) -> Iterator[str]:
    yield f"## {arrow(task)}"
    ends = (f"{domain} ({dataset.domains[domain].title})" for domain in dataset.split_task(task))
    yield f"Task: {' → '.join(ends)}."
    if task in dataset.development_tasks:
        yield (
            "This is a development task: settings were chosen with its target labels, so that its numbers are no "
            "evidence."
        )


def _choices(runs: Runs, task: str) -> Iterator[str | Table]:
    """What the label-free choice of an epoch cost, against the last epoch and against the oracle."""
    yield "### How the checkpoint was chosen"
    yield (
        f"The same runs under three choices of the epoch, {runs.measure}. The oracle sees the target's labels, so that "
        "it is a bound and no result."
    )
    heads = ["method", "selected without labels", "last epoch", "oracle (target labels)", "epochs selected"]
    rows = []
    for method in runs.experiment.methods:
        found = [runs.rows.get((kind, task, method)) for kind in KINDS]
        numbers = ["–" if row is None else row.numbers[runs.dataset.headline] for row in found]
        rows.append([method, *numbers, ", ".join(map(str, found[0].epochs if found[0] else ()))])
    shown = len(heads) - (task == AVERAGE)  # of an average there are no epochs
    yield Table("", heads[:shown], [row[:shown] for row in rows])


def _every_seed(runs: Runs, task: str) -> Iterator[str | Table]:
    yield "### Every seed"
    yield f"{runs.measure.capitalize()}, selected without labels."
    rows = []
    for method in runs.experiment.methods:
        values = runs.rows["selected", task, method].accuracy[runs.dataset.headline]
        rows.append([method, *(f"{value:.2f}" for value in values)])
    yield Table("", ["method", *(f"seed {seed}" for seed in runs.experiment.seeds)], rows)


def published_section(runs: Runs, published: Sequence[Line]) -> Iterator[str | Table]:
    """What others printed, in tables of its own; nothing where nothing is known."""
    if not published:
        return
    yield "## Published numbers"
    yield (
        "Printed by others, and not measured here: each with its backbone, how its checkpoint was chosen, and where it "
        "was found. The oracle chooses with the target's labels, so that such a number is a bound on what one would "
        f"get without them. What was measured above has the backbone {runs.backbone}. Protocol of all: "
        f"{runs.dataset.protocol}."
    )
    yield from published_tables(runs.dataset, published)


def table_csv(runs: Runs, published: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and rows. Label-free rows of all methods come first, and published rows last.

    Where columns are classes, a row is of a task; where they are targets, of a source.
    """
    dataset, tasks = runs.dataset, runs.experiment.tasks
    facts = ("method", "selection", "seeds")
    names, columns = {
        "classes": (("task", *facts), (*dataset.classes, *MEASURES)),
        "tasks": (facts, (*tasks, AVERAGE)),
        "matrix": ((*facts, "source"), tuple(matrix(dataset, tasks, {}))),
    }[dataset.table_form]
    header = [*names, *columns, *(f"{column}_std" for column in columns), *(ORIGIN if published else ())]
    origin = {"origin": "measured", "backbone": runs.backbone, "protocol": dataset.protocol}
    # A line that repeats the selected one, as source-only's last epoch does, is left out.
    measured: dict[tuple[str, ...], Line] = {}
    for line in (line for kind in KINDS for line in runs.lines(kind)):
        measured.setdefault(tuple(line.facts.values()), Line(line.facts | origin, line.cells))
    rows = []
    for line in (*measured.values(), *(Line(line.facts | {"origin": "published"}, line.cells) for line in published)):
        sources = matrix(dataset, tasks, line.cells) if dataset.table_form == "matrix" else {"": line.cells}
        for source, cells in sources.items():
            shown = {name: cells.get(name, NONE) for name in columns}
            row = {name: decimal(number.mean, number.digits) for name, number in shown.items()}
            if line.facts["origin"] == "measured" or any(row.values()):
                row |= {f"{name}_std": decimal(number.spread, 1) for name, number in shown.items()}
                row |= line.facts | {"source": source}
                rows.append([row.get(name, "") for name in header])
    return header, rows


def table_in_latex(runs: Runs, published: Sequence[Line]) -> str:
    """The whole file: the numbers selected without target labels, then the published ones."""
    title, protocol = escape_latex(runs.title), f"Protocol: {escape_latex(runs.dataset.protocol)}."
    measure = "accuracy of each class" if runs.dataset.table_form == "classes" else f"{runs.measure} accuracy"
    measured = (
        f"{title}, measured: {measure} on the target in percent, {latex_seeds(runs.experiment)}; "
        f"{escape_latex(runs.backbone)}; checkpoints chosen without target labels. {protocol}"
    )
    of_others = f"{title}, published numbers, as their sources print them; none was measured here. {protocol}"
    parts = [HEAD]
    for kind, caption, tables in (
        ("measured", measured, runs.tables()),
        ("published", of_others, published_tables(runs.dataset, published)),
    ):
        label = f"{runs.experiment.name}-{kind}"
        parts += [latex_table(table, caption, f"{label}-{place}") for place, table in enumerate(tables, start=1)]
    return "\n\n".join(parts) + "\n"


def latex_seeds(experiment: Experiment) -> str:
    """What the numbers of a table in LaTeX are, of its seeds."""
    of = "mean $\\pm$ sample standard deviation over seeds" if len(experiment.seeds) > 1 else "seed"
    return f"{of} {', '.join(map(str, experiment.seeds))}"


def latex_table(table: Table, caption: str, label: str) -> str:
    """The table of booktabs; `caption` is LaTeX already, and comes after the title."""
    heads, *rows = [" & ".join(map(_in_latex, row)) + r" \\" for row in (table.heads, *table.rows)]
    title = f"{escape_latex(table.title)}. " if table.title else ""
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
        return escape_latex(cell)
    if math.isnan(cell.mean):
        return "--"
    mean = f"{cell.mean:.{max(1, cell.digits)}f}"
    return mean if math.isnan(cell.spread) else rf"${mean} \pm {cell.spread:.1f}$"


def escape_latex(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(LATEX.get(character, character) for character in text)
