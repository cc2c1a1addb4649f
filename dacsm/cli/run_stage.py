"""What each stage's command does: one run, which leaves its run record."""

import argparse
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dacsm.config import SOURCE_ONLY
from dacsm.ledger.pipeline import Stage, recipe_behind
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import remove_partials, require_writable
from dacsm.runtime.processes import count, first
from dacsm.runtime.processor import hold_libraries

if TYPE_CHECKING:
    from dacsm.config.project import Project
    from dacsm.runtime.device import Compute

NEVER = {"adapt": "nothing to adapt; evaluate it", "explain": "no pairs to explain; name an adapted method"}


def run_stage(stage: Stage, args: argparse.Namespace) -> None:
    """Do the run that the command line names."""
    from dacsm.config.project import open_project
    from dacsm.ledger.provenance import chosen_by, code_of, settings_of
    from dacsm.ledger.runs import recorded, run_key, run_of

    place = {name: getattr(args, name) for name in ("dataset", "experiment") if name in args}
    if count() > 1 and "resume" not in stage.takes:
        raise InputError(f"dacsm {stage.name} is the work of one process; start it without torchrun.")
    project = open_project(args.params, **place)
    arguments = {name: getattr(args, name) for name in stage.arguments if name != "dataset"}
    if stage.name in NEVER and args.method == SOURCE_ONLY:
        raise InputError(f"{SOURCE_ONLY} is the pretrained model itself, so that there is {NEVER[stage.name]}.")
    run = run_of(project, stage.name, **arguments)
    for file in (run.outputs[0], run.record):
        require_writable(file.parent)  # else it would be found after hours of training
    settings = settings_of(project, stage.name, run.arguments)
    code = code_of(stage.name, chosen_by(project, run.arguments))
    given: dict[str, Any] = {"workers": workers_of(args, project)} if "workers" in stage.takes else {}
    if "compute" in stage.takes:
        recipe = project.params.recipe(recipe_behind(run.arguments), project.dataset.name)
        if recipe.arithmetic == "portable":
            hold_libraries()  # before torch is loaded
        given["compute"] = compute_of(args, project)
    device = given["compute"].device if "compute" in given else None
    record: AbstractContextManager[dict[str, Any]] = nullcontext({})
    if first():
        record = recorded(run, settings, code, device)
    with ExitStack() as inside, record as measured:
        if "resume" in stage.takes:
            from dacsm.runtime.resume import Resume
            from dacsm.runtime.together import joined

            inside.enter_context(joined(device))
            remove_partials(run.place)
            given["resume"] = Resume(
                project.paths.resume(run.place), run_key(run, settings, code, given["compute"].device.type)
            )
        work = getattr(import_module(f"dacsm.stages.{stage.name}"), stage.name)
        measured.update(work(project, **arguments, **given) or {})
    if "resume" in given:
        given["resume"].finish()  # only once the run record is written


def compute_of(args: argparse.Namespace, project: "Project | None" = None) -> "Compute":
    """The device and the workers that the command line asks for; `auto` is a CPU where a project asks for no GPU."""
    from dacsm.runtime.device import choose_compute

    wanted = project is None or project.params.resources_of(project.dataset.name).gpus
    device = args.device if wanted or args.device != "auto" else "cpu"
    return choose_compute(device, workers_of(args, project), args.features_folder)


def workers_of(args: argparse.Namespace, project: "Project | None") -> int | None:
    """The workers that the command line asks for, else those that a project's resources name."""
    if args.workers is not None or project is None:
        return args.workers
    return project.params.resources_of(project.dataset.name).workers
