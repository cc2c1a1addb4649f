"""The commands about a table as a whole, outside the pipeline: `dacsm plan` and `dacsm cell`."""

import argparse

from dacsm.cli.options import add_device, add_params
from dacsm.cli.recorded import read_settings


def add_table_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands to the command line's."""
    entry = commands.add_parser(
        "plan",
        help="say what a table would take, before anything starts",
        description="Say what a table would take: runs, downloads, disk, and hours on this device.",
    )
    entry.add_argument("experiment", metavar="EXPERIMENT", help="an entry of experiments in params.yaml, such as visda")
    add_device(entry)
    add_params(entry)
    entry.set_defaults(command=_plan)

    entry = commands.add_parser(
        "cell",
        help="say what one number of a table rests on, and how to make it again",
        description="Say what one number of a table rests on, and how to make it again.",
    )
    entry.add_argument("experiment", metavar="EXPERIMENT", help="an entry of experiments in params.yaml, such as visda")
    entry.add_argument("method", metavar="METHOD", help="source_only, or an entry of adapt.methods in params.yaml")
    entry.add_argument(
        "cell", metavar="CELL", help="a class, mean_per_class, overall, a task such as art-clipart, average"
    )
    entry.add_argument("--task", metavar="TASK", help="source-target, for a class of a table of tasks")
    add_params(entry)
    entry.set_defaults(command=_cell)


def _cell(args: argparse.Namespace) -> None:
    from dacsm.ledger.cell import describe_cell

    params, dataset, paths = read_settings(args)
    experiment = params.experiment(args.experiment)
    for line in list(describe_cell(dataset, experiment, args.method, args.cell, args.task, paths, args.params)):
        print(line)


def _plan(args: argparse.Namespace) -> None:
    from dacsm.ledger.plan import describe_plan
    from dacsm.runtime.device import choose_compute

    params, dataset, paths = read_settings(args)
    experiment, compute = params.experiment(args.experiment), choose_compute(args.device)
    for line in describe_plan(params, dataset, experiment, paths, compute, args.params):
        print(line, flush=True)
