"""The commands about results as a whole, `dacsm audit` and `dacsm compare`, and about files that are generated."""

import argparse
import json
from pathlib import Path

from dacsm.cli.options import Commands, add_params
from dacsm.config.paths import Paths
from dacsm.ledger.pipeline import PHASES
from dacsm.runtime.errors import InputError

FOUND = 1  # exit code of an audit that found something


def add_ledger_commands(commands: Commands) -> None:
    """Add all of them."""
    entry = commands.add_parser(
        "audit",
        help="check that results are what their run records and params.yaml say",
        description="Check every result of the experiments: files against run records, settings and code against those "
        "that are here now, numbers against the predictions. A line a finding; exit code 1 where there is one.",
    )
    entry.add_argument("experiments", metavar="EXPERIMENT", nargs="*", help="those in tables, where none is named")
    entry.add_argument("--dataset", metavar="DATASET", help="those in tables that are of this dataset")
    entry.add_argument("--phase", metavar="PHASE", help="downloaded, sharded, … tabled: results of that phase alone")
    entry.add_argument("--deep", action="store_true", help="read every byte again, whatever an earlier audit found")
    entry.add_argument("--json", action="store_true", help="one JSON object")
    add_params(entry)
    entry.set_defaults(command=_audit)

    entry = commands.add_parser(
        "compare",
        help="the cells that changed between two commits, and why",
        description="The cells that changed between two commits, with the settings, code and data that their runs were "
        "made with then and now, as their run records say.",
    )
    entry.add_argument("old", metavar="REV1", help="a commit, tag or branch")
    entry.add_argument("new", metavar="REV2", help="another")
    entry.add_argument("table", metavar="TABLE", nargs="*", help="such as digits; all, where none is named")
    entry.add_argument("--json", action="store_true", help="one JSON object")
    entry.set_defaults(command=_compare)

    for name, command, summary in (
        ("schema", _schema, "print the JSON schema of params.yaml"),
        ("dvc-file", _dvc_file, "print dvc.yaml, as the declaration of the pipeline and params.yaml have it"),
    ):
        entry = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        add_params(entry)
        entry.set_defaults(command=command)


def _audit(args: argparse.Namespace) -> int:
    from dacsm.config.params import load_params
    from dacsm.config.project import Project
    from dacsm.ledger.audit import audit, print_findings

    if args.phase not in (None, *PHASES):
        raise InputError(f"--phase is {args.phase!r}, expected one of {', '.join(PHASES)}; correct it.")
    params = load_params(args.params)
    names = args.experiments or (params.tables if args.dataset is None else ())
    if args.dataset is not None:
        names = (*names, *params.experiments_of(args.dataset))
    projects = {
        name: Project(params, params.load_dataset_of(name), Paths(Path(params.root)), args.params) for name in names
    }
    count, found = audit(projects, args.phase, args.deep)
    print_findings(count, found, args.json)
    return FOUND if found else 0


def _compare(args: argparse.Namespace) -> None:
    from dacsm.ledger.compare import compare, print_comparison

    names = [Path(table).stem.removesuffix("_table").removesuffix("_metrics") for table in args.table]
    print_comparison(compare(args.old, args.new, names), args.json)


def _schema(_args: argparse.Namespace) -> None:
    from dacsm.config.schema import params_schema

    print(json.dumps(params_schema(), indent=2, ensure_ascii=False))


def _dvc_file(args: argparse.Namespace) -> None:
    from dacsm.config.params import load_params
    from dacsm.ledger.dvc_file import dvc_file

    print(dvc_file(load_params(args.params)), end="")
