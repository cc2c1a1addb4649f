"""The commands about a table as a whole: `dacsm plan`, `dacsm cell` and `dacsm recommend`."""

import argparse

from dacsm.cli.options import Commands, add_arguments, add_compute, add_params, add_workers, compute_of


def add_table_commands(commands: Commands) -> None:
    """Add these commands."""
    entry = commands.add_parser(
        "plan",
        help="say what a table would take, before anything starts",
        description="Say what a table would take: runs, downloads, disk, and hours on this device.",
    )
    add_arguments(entry, "experiment")
    add_compute(entry)
    add_workers(entry)
    add_params(entry)
    entry.set_defaults(command=_plan)

    summary = "say what one number of a table rests on, and how to make it again"
    entry = commands.add_parser("cell", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    add_arguments(entry, "experiment", "method")
    entry.add_argument(
        "cell", metavar="CELL", help="a class, mean_per_class, overall, a task such as art-clipart, average"
    )
    entry.add_argument("--task", metavar="TASK", help="source-target, for a class of a table of tasks")
    add_params(entry)
    entry.set_defaults(command=_cell)

    summary = "say which finished method label-free criteria would choose, and how far to trust them"
    entry = commands.add_parser("recommend", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    add_arguments(entry, "experiment")
    add_params(entry)
    entry.set_defaults(command=_recommend)


def _cell(args: argparse.Namespace) -> None:
    from dacsm.config.project import open_project
    from dacsm.ledger.cell import describe_cell

    project = open_project(args.params, experiment=args.experiment)
    for line in list(describe_cell(project, args.experiment, args.method, args.cell, args.task)):
        print(line)


def _plan(args: argparse.Namespace) -> None:
    from dacsm.config.project import open_project
    from dacsm.ledger.plan import describe_plan

    project = open_project(args.params, experiment=args.experiment)
    for line in describe_plan(
        project, args.experiment, compute_of(args, project.params.resources_of(project.dataset.name).gpus)
    ):
        print(line, flush=True)


def _recommend(args: argparse.Namespace) -> None:
    from dacsm.config.project import open_project
    from dacsm.ledger.recommend import describe_recommendation

    project = open_project(args.params, experiment=args.experiment)
    for line in list(describe_recommendation(project, args.experiment)):
        print(line)
