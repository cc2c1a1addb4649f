"""The commands of the rooms beside the way to the table: `dacsm rescale`, `dacsm scales` and `dacsm explain`."""

import argparse
from collections.abc import Callable

from dacsm.commands.carded import carded, compute_of, read_settings, require_run
from dacsm.errors import InputError


def add_aside_commands(room: Callable[..., None]) -> None:
    """Add the three, with what adds a room's command to the command line's."""
    room("rescale", _rescale, "measure a model on its target at several object scales", "dataset", "method", "task")
    room("scales", _scales, "write an experiment's table and picture of accuracy against object scale", "experiment")
    room("explain", _explain, "draw what an adapted model looks at and matches", "dataset", "method", "task")


def _rescale(args: argparse.Namespace) -> None:
    params, dataset, layout = read = read_settings(args)
    require_run(args, read)
    from dacsm.rescale import rescale

    compute = compute_of(args)
    with carded(args, read, "rescale", compute) as measured:
        measured.update(rescale(params, dataset, args.method, args.task, args.seed, layout, compute))


def _scales(args: argparse.Namespace) -> None:
    params, dataset, layout = read = read_settings(args)
    from dacsm.scales import scales

    with carded(args, read, "scales"):
        scales(dataset, params.experiment(args.experiment), params.rescale.scales, layout)


def _explain(args: argparse.Namespace) -> None:
    params, dataset, layout = read = read_settings(args)
    require_run(args, read)
    from dacsm.params import SOURCE_ONLY

    if args.method == SOURCE_ONLY:
        raise InputError(f"{SOURCE_ONLY} is never adapted, so there are no pairs to explain; name an adapted method.")
    from dacsm.explain import explain

    compute = compute_of(args)
    with carded(args, read, "explain", compute):
        explain(params, dataset, args.method, args.task, args.seed, layout, compute)
