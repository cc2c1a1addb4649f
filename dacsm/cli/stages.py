"""The commands of the pipeline's stages: each does one run, and leaves its run record."""

import argparse
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dacsm.cli.options import Commands, add_arguments, add_compute, add_params, add_workers, compute_of
from dacsm.config import SOURCE_ONLY
from dacsm.ledger.pipeline import STAGES, Stage
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import remove_partials

if TYPE_CHECKING:
    from dacsm.config.project import Project
    from dacsm.ledger.runs import Run
    from dacsm.runtime.resume import Resume

NEVER = {"adapt": "nothing to adapt; evaluate it", "explain": "no pairs to explain; name an adapted method"}


def add_stage_commands(commands: Commands) -> None:
    """Add a command for each stage."""
    for stage in STAGES.values():
        entry = commands.add_parser(
            stage.name, help=stage.summary, description=f"{stage.summary[0].upper()}{stage.summary[1:]}."
        )
        add_arguments(entry, *stage.arguments)
        if "compute" in stage.takes:
            add_compute(entry)
        add_workers(entry)
        add_params(entry)
        entry.add_argument("--log", type=Path, metavar="FILE", help="copy all that is printed to this file")
        entry.set_defaults(command=lambda args, stage=stage: _do_run(stage, args))


def _do_run(stage: Stage, args: argparse.Namespace) -> None:
    """Do the run that the command line names."""
    from dacsm.config.project import open_project
    from dacsm.ledger.provenance import chosen_by, code_of, run_key, settings_of
    from dacsm.ledger.records import recorded
    from dacsm.ledger.runs import run_of

    place = {name: getattr(args, name) for name in ("dataset", "experiment") if name in args}
    project = open_project(args.params, **place)
    arguments = {name: getattr(args, name) for name in stage.arguments if name != "dataset"}
    if stage.name in NEVER and args.method == SOURCE_ONLY:
        raise InputError(f"{SOURCE_ONLY} is the pretrained model itself, so that there is {NEVER[stage.name]}.")
    run = run_of(project, stage.name, **arguments)
    settings = settings_of(project, stage.name, run.arguments)
    code = code_of(stage.name, chosen_by(project, run.arguments))
    given = {"workers": args.workers or 0} if "workers" in stage.takes else {}
    if "compute" in stage.takes:
        given["compute"] = compute_of(args, project.params.resources_of(project.dataset.name).gpus)
    device = given["compute"].device if "compute" in given else None
    with ExitStack() as after, recorded(run, settings, code, device) as measured:
        if "resume" in stage.takes:
            given["resume"] = _resume(project, run, run_key(run, settings, code, device.type))
        work = getattr(import_module(f"dacsm.stages.{stage.name}"), stage.name)
        measured.update(work(project, **arguments, **given) or {})
        if "resume" in given:
            after.callback(given["resume"].finish)  # only once the run record is written


def _resume(project: "Project", run: "Run", key: str) -> "Resume":
    from dacsm.runtime.resume import Resume

    remove_partials(run.place)
    return Resume(project.paths.resume(run.place), key)
