"""Stage: the page of an experiment, one HTML file with its table, its pictures and what it rests on.

It computes no number of its own: what it shows is what the table, the evaluations and the logs of training say.
"""

from itertools import chain

from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.report.differences import compare_methods, difference_section
from dacsm.report.html.about import about_section, glance_section, one_sentence
from dacsm.report.html.content import Section, section
from dacsm.report.html.examples import example_section, pair_section
from dacsm.report.html.origin import cost_section, origin_section
from dacsm.report.html.page import page
from dacsm.report.html.pictures import accuracy_section, confusion_section, difference_picture, predicted_pictures
from dacsm.report.html.training import training_section
from dacsm.report.measured import Runs, collect
from dacsm.report.pages import measured_section, published_section
from dacsm.report.published import read_published
from dacsm.report.records import grouped_records
from dacsm.report.unlabelled import UnlabelledRuns, collect_unlabelled
from dacsm.report.unlabelled_pages import described_section
from dacsm.report.validators import judge_validators, validator_section
from dacsm.runtime.files import write_text


def summarise(project: Project, experiment: str) -> None:
    """Write results/<experiment>/report.html.

    Raises InputError where a run is missing, or a file of it cannot be read.
    """
    dataset, paths, shown = project.dataset, project.paths, project.params.experiment(experiment)
    runs = (collect if shown.has_labels(dataset) else collect_unlabelled)(dataset, shown, paths)
    text = page(runs.title, one_sentence(runs), sections(project, runs))
    write_text(paths.report(experiment), text)


def sections(project: Project, runs: Runs | UnlabelledRuns) -> list[Section]:
    """All that has something to show, in the order in which it is read."""
    params, paths = project.params, project.paths
    records = grouped_records(runs, paths)
    results, judged = _measured(runs, paths) if isinstance(runs, Runs) else _described(runs, paths)
    return [
        *section("What this is", about_section(runs, params)),
        *results,
        *section("Training", training_section(runs, paths)),
        *judged,
        *section("Images of the target", example_section(runs, paths)),
        *section("Pairs of source and target images", pair_section(runs, project)),
        *section("Time and memory", cost_section(runs, records)),
        *section("What it was made from", origin_section(runs, records, project)),
    ]


def _measured(runs: Runs, paths: Paths) -> tuple[list[Section], list[Section]]:
    """What target labels measure; and the validators, judged with them."""
    comparisons = compare_methods(runs)
    results = [
        *section("At a glance", glance_section(runs, comparisons)),
        *section("Accuracy", measured_section(runs)),
        *section("", published_section(runs, read_published(runs.dataset))),
        *section("", chain(difference_section(runs, comparisons), difference_picture(runs, paths))),
        *section("Accuracy as a picture", accuracy_section(runs, paths)),
        *section("Confusions", confusion_section(runs, paths)),
    ]
    return results, section("", validator_section(runs, judge_validators(runs)))


def _described(runs: UnlabelledRuns, paths: Paths) -> tuple[list[Section], list[Section]]:
    """What was predicted of targets without labels; nothing judges a validator there."""
    return section("Predictions", chain(described_section(runs), predicted_pictures(runs, paths))), []
