"""Stage: the table of an experiment, every method on every task over all seeds, with its figures and metrics for DVC.

Three ways to choose a run's checkpoint are kept apart. The primary one needs no target labels, and is the only one in
the metrics, the plots and the first rows of the table; the last epoch and the oracle stand beside it. Numbers that
others published have rows of their own. An experiment whose targets have no labels has the same files without accuracy.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.report import unlabelled
from dacsm.report.costs import costs_csv
from dacsm.report.differences import compare_methods, differences_csv
from dacsm.report.figures import draw_figures
from dacsm.report.measured import KINDS, Runs, collect
from dacsm.report.pages import table_csv, table_in_latex, table_page
from dacsm.report.published import read_published
from dacsm.report.tables import AVERAGE, MEASURES
from dacsm.report.unlabelled_pages import draw_unlabelled, unlabelled_latex, unlabelled_page
from dacsm.report.validators import HEADER, judge_validators, validators_csv
from dacsm.runtime.files import write_csv, write_json, write_text


def table(project: Project, experiment: str) -> None:
    """Collect the metrics.json files of an experiment's runs into its table, in three forms, its metrics and its plots.

    Raises InputError where a run is missing, or a published number is not of the dataset.
    """
    draw = write_numbers(project, experiment)
    draw(project.paths)


def write_numbers(project: Project, name: str) -> Callable[[Paths], None]:
    """Write all but the pictures, and return what draws these; raises as `table` does."""
    labelled = project.params.experiment(name).has_labels(project.dataset)
    return _write_measured(project, name) if labelled else _write_described(project, name)


def _write_measured(project: Project, name: str) -> Callable[[Paths], None]:
    dataset, paths = project.dataset, project.paths
    runs, published = collect(dataset, project.params.experiment(name), paths), read_published(dataset)
    comparisons = compare_methods(runs)
    judged = judge_validators(runs)
    write_csv(paths.table(name, "csv"), *table_csv(runs, published))
    write_csv(paths.differences(name), *differences_csv(runs, comparisons))
    write_csv(paths.validators(name), HEADER, validators_csv(judged))
    write_csv(paths.costs(name), *costs_csv(runs, paths))
    write_text(paths.table(name, "md"), table_page(runs, published, comparisons, judged))
    write_text(paths.table(name, "tex"), table_in_latex(runs, published))
    write_json(paths.metrics(name), _metrics(runs))
    return partial(draw_figures, runs, comparisons)


def _write_described(project: Project, name: str) -> Callable[[Paths], None]:
    """The same files for targets without labels, in which there is no accuracy."""
    paths = project.paths
    runs = unlabelled.collect_unlabelled(project.dataset, project.params.experiment(name), paths)
    write_csv(paths.table(name, "csv"), *unlabelled.table_csv(runs))
    write_csv(paths.differences(name), unlabelled.AGREEMENT_HEADER, unlabelled.agreement_csv(runs))
    write_csv(paths.validators(name), unlabelled.SCORES_HEADER, unlabelled.scores_csv(runs))
    write_csv(paths.costs(name), *costs_csv(runs, paths))
    write_text(paths.table(name, "md"), unlabelled_page(runs))
    write_text(paths.table(name, "tex"), unlabelled_latex(runs))
    write_json(paths.metrics(name), unlabelled.metrics_of(runs))
    return partial(draw_unlabelled, runs)


def _metrics(runs: Runs) -> dict[str, Any]:
    """Means over seeds for `dvc metrics diff`; `last` and `oracle` are the dataset's headline measure.

    Classes are only there where the table has them: thousands of lines would hide what changed.
    """
    by_class, headline = runs.dataset.table_form == "classes", runs.dataset.headline

    def of_run(task: str, method: str) -> dict[str, Any]:
        rows = {kind: row for kind in KINDS if (row := runs.rows.get((kind, task, method)))}
        means = {name: round(number.mean, 2) for name, number in rows["selected"].numbers.items()}
        found: dict[str, Any] = {name: means[name] for name in MEASURES}
        found |= {kind: round(rows[kind].numbers[headline].mean, 2) for kind in KINDS[1:] if kind in rows}
        per_class = {name: means[name] for name in runs.dataset.classes if not math.isnan(means[name])}
        return found | ({"per_class": per_class} if by_class else {})

    methods = runs.experiment.methods
    found = {task: {method: of_run(task, method) for method in methods} for task in runs.experiment.tasks}
    if not by_class:
        average = {method: runs.rows["selected", AVERAGE, method].numbers[headline].mean for method in methods}
        found[AVERAGE] = {method: {headline: round(mean, 2)} for method, mean in average.items()}
    return found
