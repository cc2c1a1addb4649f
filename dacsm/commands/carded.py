"""What a room's command reads, and its card: what it is made from is noted as it starts, what it wrote at its end."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dacsm.catalog import DatasetSpec
    from dacsm.compute import Compute
    from dacsm.layout import Layout
    from dacsm.params import Params
    from dacsm.runs import Run
    from dacsm.training.resume import Resume

    Read = tuple[Params, DatasetSpec, Layout]


def read_settings(args: argparse.Namespace) -> "Read":
    """The settings, the dataset, or that of the experiment, and the places of files."""
    from dacsm.catalog import load_dataset
    from dacsm.layout import Layout
    from dacsm.params import load_params

    params = load_params(args.params)
    dataset = params.load_dataset_of(args.experiment) if "experiment" in args else load_dataset(args.dataset)
    return params, dataset, Layout(Path(params.root))


def require_run(args: argparse.Namespace, read: "Read") -> None:
    """Raise InputError where the dataset has no such task, or params.yaml no such method."""
    from dacsm.params import SOURCE_ONLY

    params, dataset, _layout = read
    dataset.split_task(args.task)
    if args.method != SOURCE_ONLY:
        params.method(args.method)


def compute_of(args: argparse.Namespace) -> "Compute":
    """The device and the workers that the command line asks for."""
    from dacsm.compute import choose_compute

    return choose_compute(args.device, args.workers, args.features_folder)


@contextmanager
def resumable(
    args: argparse.Namespace, read: "Read", room: str, compute: "Compute"
) -> Iterator[tuple[dict[str, float], "Resume"]]:
    """As `carded`, for a run that goes on where it was killed."""
    from dacsm.files import remove_partials
    from dacsm.training.resume import Resume, run_key

    run, settings = _described(args, read, room)
    remove_partials(run.place)
    with carded(args, read, room, compute) as measured:
        key = run_key(room, run.arguments, settings, run.inputs, compute.device)
        resume = Resume(read[2].resume(run.place), key)
        yield measured, resume
    resume.finish()  # only now that the card is written


@contextmanager
def carded(
    args: argparse.Namespace, read: "Read", room: str, compute: "Compute | None" = None
) -> Iterator[dict[str, float]]:
    """Leave the run's card behind, once it has succeeded."""
    from dacsm.cards import card
    from dacsm.provenance import code_of

    run, settings = _described(args, read, room)
    device = None if compute is None else compute.device
    with card(run, settings, code_of(room, read[1].maker), device) as measured:
        yield measured


def _described(args: argparse.Namespace, read: "Read", room: str) -> tuple["Run", dict[str, Any]]:
    """A run, and the settings that it takes: from what was read at first, as the file may change since."""
    from dacsm.provenance import settings_of
    from dacsm.runs import run_of

    params, dataset, layout = read
    names = ("archive", "domain", "source", "method", "task", "seed", "experiment")
    run = run_of(room, params, dataset, layout, **{name: getattr(args, name) for name in names if name in args})
    return run, settings_of(room, params, dataset, run.arguments)
