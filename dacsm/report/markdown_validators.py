"""The page's section on validators: what each would have chosen without labels, judged with them."""

from collections.abc import Iterator, Sequence

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY, Experiment
from dacsm.report.markdown_grid import grid_of, known
from dacsm.report.shapes import MEASURES
from dacsm.report.statistics import FEWEST_RANKED
from dacsm.report.validators import ALL, Judged


def validator_section(dataset: DatasetSpec, experiment: Experiment, judged: Sequence[Judged]) -> Iterator[str]:
    """Nothing where no run was adapted."""
    if all(method == SOURCE_ONLY for method in experiment.methods):
        return
    elsewhere = any(dataset.evaluation_domain(target) != target for target in _targets(dataset, experiment))
    if not judged and not elsewhere:
        return
    yield "## Choosing without labels"
    if not judged:
        yield (
            "The images that are evaluated on are not those that were adapted on, so that the accuracy of each epoch "
            "is not known, and no validator can be judged."
        )
        return
    together = [one for one in judged if (one.task, one.method) == (ALL, ALL)]
    yield from _introduction(dataset, experiment, together)
    header = ["validator", "runs", "accuracy", "mean gap", "worst gap", "rank correlation over epochs", "over runs"]
    yield grid_of(header, [_cells(one) for one in together])
    yield from _without_scores(together)
    methods = [method for method in experiment.methods if any(one.method == method for one in judged)]
    if len(methods) > 1:
        yield "Method by method: the mean gap, and in brackets the worst."
        gaps = {(one.validator, one.method): one for one in judged if one.task == ALL}
        cells = [[_name(one), *(_gap(gaps[one.validator, method]) for method in methods)] for one in together]
        yield grid_of(["validator", *methods], cells)


def _targets(dataset: DatasetSpec, experiment: Experiment) -> set[str]:
    return {dataset.split_task(task)[1] for task in experiment.tasks}


def _introduction(dataset: DatasetSpec, experiment: Experiment, together: Sequence[Judged]) -> Iterator[str]:
    default = ", ".join(one.validator for one in together if one.default)
    yield (
        "Each validator scores the epochs of a run without the target's labels, and would choose the epoch with the "
        f"highest score. **Target labels were used here to judge the validators, and not to choose an epoch**: what "
        f"stands above was measured at the epochs that the default, {default}, had chosen."
    )
    yield (
        f"Accuracy is {MEASURES[dataset.headline]}, in percent, at the epoch that the validator would choose; the gap "
        "is what the best epoch of the same run (the oracle's) has above it, in points. Rank correlations are "
        "Spearman's, of score and accuracy: over the epochs of a run, averaged over runs; and over the runs of a task, "
        "all methods and seeds together, each at the epoch that the validator would choose"
        f"{', averaged over tasks' if len(experiment.tasks) > 1 else ''}. Epochs without a score are passed over; “–” "
        f"stands where fewer than {FEWEST_RANKED} scores are left, or all are equal."
    )


def _name(one: Judged) -> str:
    return f"**{one.validator}** (default)" if one.default else one.validator


def _cells(one: Judged) -> list[str]:
    percent = [known(value) for value in (one.accuracy, one.gap, one.worst_gap)]
    return [_name(one), str(one.runs), *percent, known(one.within_runs), known(one.across_runs)]


def _gap(one: Judged) -> str:
    return f"{known(one.gap)} ({known(one.worst_gap)})" if one.runs else "–"


def _without_scores(together: Sequence[Judged]) -> Iterator[str]:
    lacking = [f"{one.validator} in {one.without} of {one.runs + one.without}" for one in together if one.without]
    if lacking:
        yield (
            f"Runs in which a validator has no score at all are not in its row: {', '.join(lacking)}. It cannot be "
            "computed where no part of the source was held out (source_accuracy), or where training diverged."
        )
