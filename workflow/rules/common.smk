# What the rules need: the settings, checked, and what a stage's runs read, write and need.
import atexit
import gc
import inspect
import os
import sys
import time
from functools import lru_cache
from pathlib import Path

import yaml
from snakemake.utils import update_config

sys.path.insert(0, workflow.basedir)  # the code beside this Snakefile, which is what the jobs run too

from dacsm.config.datasets import dataset_names
from dacsm.config.params import parse_params
from dacsm.config.paths import Paths
from dacsm.config.project import PARAMS_FILE, Project
from dacsm.config.yaml_file import read_yaml
from dacsm.data.raw.describe import describe_folders
from dacsm.ledger.pipeline import PHASES, STAGES, recipe_behind
from dacsm.ledger.provenance import chosen_by, code_of, require_records, settings_of
from dacsm.ledger.runs import runs_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_text
from dacsm.runtime.hashes import digest

STARTED = time.time()
# A graph of jobs is millions of objects that stay, and a tenth of the time would go into looking through them for
# garbage. Snakefile switches it on again when jobs start.
gc.disable()
# `.venv/bin/snakemake` finds `python` without the environment being activated.
os.environ.update(PATH=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


def stop(sentence):
    """End with one sentence, and without the traceback that Snakemake would add to an exception."""
    sys.exit(f"dacsm: {sentence}")


def last_word(sentence):
    """Say it once Snakemake has said all that it has to say."""
    atexit.register(print, f"dacsm: {sentence}", file=sys.stderr)


def merged_params():
    """The settings with what --config and --configfile change, and the file from which the commands read the same.

    Under the root of params.yaml, results are what params.yaml says: DVC and the next reader look nowhere else.
    """
    content = read_yaml(PARAMS_FILE)
    describe_folders(content, PARAMS_FILE)
    written = parse_params(content, PARAMS_FILE)
    if not config:
        return written, PARAMS_FILE
    update_config(content, config)
    describe_folders(content, "--config or --configfile")
    params = parse_params(content, "--config or --configfile")
    if params == written:
        return params, PARAMS_FILE
    if Path(params.root) == Path(written.root):
        stop(
            f"--config or --configfile changes settings of the results under root {params.root!r}, which {PARAMS_FILE} "
            "decides; edit it instead, or give the variant a root of its own with `--config root=runs/NAME`."
        )
    return params, Path(params.root) / PARAMS_FILE


def write_settings():
    if SETTINGS_FILE != PARAMS_FILE:
        text = yaml.safe_dump(PARAMS.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_text(SETTINGS_FILE, f"# Written by Snakemake: params.yaml with what --config changed.\n{text}")


def report_failures():
    """Let the sentences that failed commands left in their logs come last."""
    logs = [log for log in (PATHS.root / "logs").rglob("*.log") if log.stat().st_mtime >= STARTED]
    lines = [line for log in sorted(logs) for line in log.read_text(errors="replace").splitlines()]
    sentences = dict.fromkeys(line.removeprefix("dacsm: ") for line in lines if line.startswith("dacsm: "))
    for sentence in sentences or ["a job failed without a word of its own; its log is named above."]:
        last_word(sentence)


try:
    PARAMS, SETTINGS_FILE = merged_params()
    PATHS = Paths(Path(PARAMS.root))
    PROJECTS = {}  # by dataset
    for name in PARAMS.experiments:
        PROJECTS.setdefault(
            PARAMS.dataset_of(name), Project(PARAMS, PARAMS.load_dataset_of(name), PATHS, SETTINGS_FILE)
        )
    require_records(PATHS)
except InputError as error:
    stop(error)


SIGNATURE = inspect.signature(lambda wildcards: None)
CODE = lru_cache(None)(lambda stage, chosen: digest(code_of(stage, chosen)))


def project_of(arguments):
    """The project of a run, by its wildcards: of a dataset that has settings, or of an experiment's."""
    dataset, experiment = (arguments.get(name) for name in ("dataset", "experiment"))
    if experiment is not None:
        return PROJECTS[PARAMS.dataset_of(experiment)]
    if dataset not in PROJECTS:
        raise InputError(
            f"{dataset} has no settings; add it to experiments, shard, pretrain and adapt.recipes in params.yaml."
        )
    return PROJECTS[dataset]


def of_wildcards(function):
    """The function, with its signature beside it: Snakemake asks for that two dozen times a job."""
    function.__signature__ = SIGNATURE
    return function


def told(function):
    """A function of wildcards whose mistakes of the user come as the last word."""

    def of_run(wildcards):
        try:
            return function(wildcards)
        except InputError as error:
            last_word(error)
            raise

    return of_wildcards(of_run)


# What `snakemake --report` shows of an experiment, by how a file's name ends: its caption, and what it is called there.
REPORTED = {
    "report.html": ("page.rst", "the page"),
    "_table.csv": ("table.rst", "the table"),
    "_differences.csv": ("differences.rst", "differences"),
    "_validators.csv": ("validators.rst", "validators"),
    "accuracy.png": ("accuracy.rst", "accuracy"),
    "_scales.csv": ("scales.rst", "accuracy by object scale"),
    "_scales.png": ("scales.rst", "accuracy by object scale, as curves"),
}


def patterns(stage, labelled):
    """The outputs of a stage's runs, for any arguments; some with a caption for Snakemake's report."""
    files = stage.outputs_of(PATHS, {name: f"{{{name}}}" for name in stage.arguments}, labelled)
    return [reported(file, labelled) for file in files]


def reported(file, labelled):
    """The file, marked for the report where it belongs there."""
    for end, (caption, name) in REPORTED.items():
        if str(file).endswith(end):
            caption = Path(workflow.basedir, "workflow/report", caption if labelled else "unlabelled.rst")
            return report(str(file), caption=caption, category="{experiment}", labels={"content": name})
    return file


def rules_of(stage):
    """The name of each rule of a stage, and whether it is for targets with labels.

    Tables without labels have a rule of their own, since a rule's outputs cannot depend on its wildcards.
    """
    return {stage.name: True} | ({f"{stage.name}_unlabelled": False} if stage.of_labels else {})


def experiments_of(labelled):
    """What the wildcard of a rule may stand for; a name that is no experiment is refused by a rule with labels."""
    shown = PARAMS.experiments.items()
    without = [name for name, one in shown if not one.has_labels(PROJECTS[PARAMS.dataset_of(name)].dataset)]
    return r"\w+" if labelled else "|".join(without) or "(?!)"


def log_of(stage):
    """logs/ mirrors data/ and results/."""
    place = stage.place_of(PATHS, {name: f"{{{name}}}" for name in stage.arguments}).relative_to(PATHS.root)
    return PATHS.root / "logs" / place.parent / f"{place.name}.log"


def inputs(stage):
    def of_run(wildcards):
        given = {name: value for name, value in wildcards.items() if name != "dataset"}
        return stage.inputs(project_of(wildcards), **given)

    return told(of_run)


def made_with(stage):
    """What a run is made with besides its inputs: where that changes, Snakemake does it again."""

    @lru_cache(None)
    def of_any_seed(**arguments):
        project = project_of(arguments)
        code = CODE(stage.name, chosen_by(project, arguments))
        return {"settings": settings_of(project, stage.name, arguments), "code": code}

    def of_run(wildcards):
        return of_any_seed(**{name: value for name, value in wildcards.items() if name != "seed"})

    return of_wildcards(of_run)


@lru_cache(None)
def needed(stage, dataset, recipe):
    """What the jobs of a stage need of a machine; it changes no number. Threads, which do, are a setting of the recipe."""
    resources, stage = PARAMS.resources_of(dataset), STAGES[stage]
    if "compute" not in stage.takes:
        workers = resources.workers if "workers" in stage.takes else 0
        return {"threads": max(1, workers), "mem_mb": 4000, "runtime": stage.minutes, "gpu": 0}
    gpus = resources.gpus if "resume" in stage.takes else min(resources.gpus, 1)  # the others are of one process
    threads = PARAMS.recipe(recipe, dataset).threads
    return {"threads": threads, "mem_mb": resources.memory_mb, "runtime": resources.minutes, "gpu": gpus}


def needs(stage, name):
    """One of the things that a job needs."""

    def of_run(wildcards):
        return needed(stage.name, project_of(wildcards).dataset.name, recipe_behind(wildcards))[name]

    return told(of_run)


# A process for each GPU of a run. In the shell, since a params function would make a run anew where only its GPUs changed.
# `--` keeps torchrun from reading --log as its own.
START = (
    "gpus={resources.gpu}; "
    "$([ $gpus -gt 1 ] && echo python -m torch.distributed.run --standalone --nproc-per-node $gpus -m -- "
    "|| echo python -m) "
)


def command(stage):
    """The command of a stage's runs, but for its log."""

    def of_run(wildcards):
        words = [f"--seed {value}" if name == "seed" else value for name, value in wildcards.items()]
        return " ".join(["dacsm", stage.name, *words, "--params", str(SETTINGS_FILE)])

    return of_wildcards(of_run)


def phase_targets(project, stage):
    """The files that stand for all runs of a stage in the dataset's experiments, those in common once.

    A function, since they are many and seldom asked for.
    """

    def of_phase(wildcards):
        runs = [run for experiment in project.experiments() for run in runs_of(project, experiment, [stage.name])]
        return list(dict.fromkeys(run.outputs[0] for run in runs))

    return told(of_phase)
