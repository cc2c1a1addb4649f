"""Stage: the page of an experiment, one HTML file with its table, its pictures and what it rests on.

It computes no number of its own: what it shows is what the table, the evaluations and the logs of training say.
"""

from itertools import chain

from dacsm.config.project import Project
from dacsm.report.differences import compare_methods, difference_section
from dacsm.report.html.about import about_section, glance_section, one_sentence
from dacsm.report.html.content import Section, section
from dacsm.report.html.examples import example_section, pair_section
from dacsm.report.html.origin import cost_section, grouped_records, origin_section
from dacsm.report.html.page import page
from dacsm.report.html.pictures import accuracy_section, confusion_section, difference_picture
from dacsm.report.html.training import training_section
from dacsm.report.measured import Runs, collect
from dacsm.report.pages import measured_section, published_section
from dacsm.report.published import read_published
from dacsm.report.validators import judge_validators, validator_section
from dacsm.runtime.files import write_text


def summarise(project: Project, experiment: str) -> None:
    """Write results/<experiment>/report.html.

    Raises InputError where a run is missing, or a file of it cannot be read.
    """
    runs = collect(project.dataset, project.params.experiment(experiment), project.paths)
    text = page(runs.title, one_sentence(runs), sections(project, runs))
    write_text(project.paths.report(experiment), text)


def sections(project: Project, runs: Runs) -> list[Section]:
    """All that has something to show, in the order in which it is read."""
    params, paths = project.params, project.paths
    comparisons, records = compare_methods(runs), grouped_records(runs, paths)
    every = (
        section("What this is", about_section(runs, params)),
        section("At a glance", glance_section(runs, comparisons)),
        section("Accuracy", measured_section(runs)),
        section("", published_section(runs, read_published(runs.dataset))),
        section("", chain(difference_section(runs, comparisons), difference_picture(runs, paths))),
        section("Accuracy as a picture", accuracy_section(runs, paths)),
        section("Confusions", confusion_section(runs, paths)),
        section("Training", training_section(runs, paths)),
        section("", validator_section(runs, judge_validators(runs))),
        section("Images right and wrong", example_section(runs, paths)),
        section("Pairs of source and target images", pair_section(runs, project)),
        section("Time and memory", cost_section(runs, records, paths)),
        section("What it was made from", origin_section(runs, records, project)),
    )
    return [one for found in every for one in found]
