"""The commands of the stages beside the way to the table: `dacsm rescale`, `dacsm scales` and `dacsm explain`."""

import argparse
from collections.abc import Callable

from dacsm.cli.recorded import compute_of, read_settings, recorded, require_run
from dacsm.runtime.errors import InputError


def add_aside_commands(stage: Callable[..., None]) -> None:
    """Add the three, with what adds a stage's command to the command line's."""
    stage("rescale", _rescale, "measure a model on its target at several object scales", "dataset", "method", "task")
    stage("scales", _scales, "write an experiment's table and picture of accuracy against object scale", "experiment")
    stage("explain", _explain, "draw what an adapted model looks at and matches", "dataset", "method", "task")


def _rescale(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    require_run(args, read)
    from dacsm.stages.rescale import rescale

    compute = compute_of(args)
    with recorded(args, read, "rescale", compute) as measured:
        measured.update(rescale(params, dataset, args.method, args.task, args.seed, paths, compute))


def _scales(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    from dacsm.stages.scales import scales

    with recorded(args, read, "scales"):
        scales(dataset, params.experiment(args.experiment), params.rescale.scales, paths)


def _explain(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    require_run(args, read)
    from dacsm.config.params import SOURCE_ONLY

    if args.method == SOURCE_ONLY:
        raise InputError(f"{SOURCE_ONLY} is never adapted, so there are no pairs to explain; name an adapted method.")
    from dacsm.stages.explain import explain

    compute = compute_of(args)
    with recorded(args, read, "explain", compute):
        explain(params, dataset, args.method, args.task, args.seed, paths, compute)
