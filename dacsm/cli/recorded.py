"""What a stage's command reads, and its run record."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dacsm.config.datasets import DatasetSpec
    from dacsm.config.params import Params
    from dacsm.config.paths import Paths
    from dacsm.ledger.runs import Run
    from dacsm.runtime.device import Compute
    from dacsm.runtime.resume import Resume

    Read = tuple[Params, DatasetSpec, Paths]


def read_settings(args: argparse.Namespace) -> "Read":
    """The settings, the dataset, or that of the experiment, and the places of files."""
    from dacsm.config.datasets import load_dataset
    from dacsm.config.params import load_params
    from dacsm.config.paths import Paths

    params = load_params(args.params)
    dataset = params.load_dataset_of(args.experiment) if "experiment" in args else load_dataset(args.dataset)
    return params, dataset, Paths(Path(params.root))


def require_run(args: argparse.Namespace, read: "Read") -> None:
    """Raise InputError where the dataset has no such task, or params.yaml no such method."""
    from dacsm.config.params import SOURCE_ONLY

    params, dataset, _layout = read
    dataset.split_task(args.task)
    if args.method != SOURCE_ONLY:
        params.method(args.method)


def compute_of(args: argparse.Namespace) -> "Compute":
    """The device and the workers that the command line asks for."""
    from dacsm.runtime.device import choose_compute

    return choose_compute(args.device, args.workers, args.features_folder)


@contextmanager
def resumable(
    args: argparse.Namespace, read: "Read", stage: str, compute: "Compute"
) -> Iterator[tuple[dict[str, float], "Resume"]]:
    """As `recorded`, for a run that goes on where it was killed."""
    from dacsm.runtime.files import remove_partials
    from dacsm.runtime.resume import Resume, run_key

    run, settings = _described(args, read, stage)
    remove_partials(run.place)
    with recorded(args, read, stage, compute) as measured:
        key = run_key(stage, run.arguments, settings, run.inputs, compute.device)
        resume = Resume(read[2].resume(run.place), key)
        yield measured, resume
    resume.finish()  # only now that the record is written


@contextmanager
def recorded(
    args: argparse.Namespace, read: "Read", stage: str, compute: "Compute | None" = None
) -> Iterator[dict[str, float]]:
    """Leave the run's record behind, once it has succeeded."""
    from dacsm.ledger.provenance import code_of
    from dacsm.ledger.records import record

    run, settings = _described(args, read, stage)
    device = None if compute is None else compute.device
    with record(run, settings, code_of(stage, read[1].reader), device) as measured:
        yield measured


def _described(args: argparse.Namespace, read: "Read", stage: str) -> tuple["Run", dict[str, Any]]:
    """A run, and the settings that it takes: from what was read at first, as the file may change since."""
    from dacsm.ledger.provenance import settings_of
    from dacsm.ledger.runs import run_of

    params, dataset, paths = read
    names = ("archive", "domain", "source", "method", "task", "seed", "experiment")
    run = run_of(stage, params, dataset, paths, **{name: getattr(args, name) for name in names if name in args})
    return run, settings_of(stage, params, dataset, run.arguments)
