"""The commands: what each takes and does. Each imports what it needs only when it runs, so that help is quick."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dacsm.cli.run_stage import compute_of, run_stage
from dacsm.config import PARAMS_FILE
from dacsm.config.paths import Paths
from dacsm.ledger.pipeline import PHASES, STAGES
from dacsm.runtime.errors import InputError

if TYPE_CHECKING:
    from dacsm.config.project import Project

FOUND = 1  # exit code of an audit that found something, and of a prediction that could not read every picture


def whole_from(least: int, most: int = 2**32 - 1) -> Callable[[str], int]:
    """A type of argument: a whole number within bounds; what is more than `most` is no seed, and no count either."""

    def whole(text: str) -> int:
        if not text.isdecimal() or len(text) > 4000 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from {least} to {most}")
        return int(text)

    return whole


Argument = tuple[str, dict[str, Any]]  # its name, and what argparse is told of it


def _positional(name: str, help: str, **options: Any) -> Argument:
    return name, {"metavar": name.upper(), "help": help, **options}


def _option(name: str, help: str, metavar: str | None = None, **options: Any) -> Argument:
    return name, {"help": help, **({"metavar": metavar} if metavar else {}), **options}


OF_RUNS = {
    "dataset": _positional("dataset", "a file of workflow/datasets, such as digits"),
    "experiment": _positional("experiment", "an entry of experiments in params.yaml, such as digits"),
    "archive": _positional("archive", "an archive of the dataset"),
    "domain": _positional("domain", "a domain of the dataset"),
    "source": _positional("source", "the labelled domain"),
    "method": _positional("method", "source_only, or an entry of adapt.methods in params.yaml"),
    "task": _positional("task", "source-target, such as synthetic-mnist"),
    "seed": _option("--seed", "of the run, from 0", "K", type=whole_from(0), required=True),
}
PARAMS = _option("--params", "the settings", "FILE", type=Path, default=PARAMS_FILE)
WORKERS = _option("--workers", "processes that read or encode images; by default those of resources", "N", type=int)
OWN_WORKERS = _option("--workers", "processes that read images; by default several for a GPU", "N", type=int)
LOG = _option("--log", "copy all that is printed to this file", "FILE", type=Path)
JSON = _option("--json", "one JSON object", action="store_true")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add every command, those of the stages first."""

    def add(name: str, work: Callable[..., int | None], summary: str, *arguments: Argument, about: str = "") -> None:
        about = about or f"{summary[0].upper()}{summary[1:]}."
        entry = commands.add_parser(name, help=summary, description=about)
        for argument, options in arguments:
            entry.add_argument(argument, **options)
        entry.set_defaults(command=work)

    folder = os.environ.get("DACSM_FEATURES_FOLDER") or None
    about_folder = "keep the features of whole domains on disk there; by default in memory"
    about_device = "auto (a GPU where there is one, and the dataset's resources ask for one), cpu, cuda, cuda:1, …"
    compute = (
        _option("--device", about_device, default="auto"),
        _option("--features-folder", about_folder, "FOLDER", type=Path, default=folder),
    )
    # fmt: off
    add("init", _init, "make settings for a folder of your own images",
        _positional("path", "a folder, tar, tar.gz or zip: <domain>/<class>/<image>, or <class>/<image> with --target",
                    type=Path),
        _option("--target", "the domain to adapt to; or another folder or archive, with or without classes", "TARGET"),
        _option("--source", "the domain to learn from; several: name the option for each", "DOMAIN", action="append"),
        _option("--name", "of the dataset; by default from the folder's", "NAME"),
        _option("--weights", "a file to start from in place of ImageNet weights that are downloaded", "FILE"),
        _option("--yes", "ask nothing, and take what is proposed", action="store_true"),
        _option("--device", "to train on: auto (a GPU where there is one), cpu, cuda, …", default="auto"), PARAMS,
        about="Look at a folder or an archive of images, propose domains and a recipe for this machine, and write "
        "them into params.yaml. Asks at most three questions; Enter takes what is proposed.")
    # fmt: on
    for stage in STAGES.values():
        of_run = [OF_RUNS[name] for name in stage.arguments]
        runs_on = compute if "compute" in stage.takes else ()
        reads = (WORKERS,) if runs_on or "workers" in stage.takes else ()
        add(stage.name, partial(run_stage, stage), stage.summary, *of_run, *runs_on, *reads, PARAMS, LOG)
    # fmt: off
    add("plan", _plan, "say what a table would take, before anything starts",
        OF_RUNS["experiment"], *compute, WORKERS, PARAMS,
        about="Say what a table would take: runs, downloads, disk, and hours on this device.")
    add("cell", _cell, "say what one number of a table rests on, and how to make it again",
        OF_RUNS["experiment"], OF_RUNS["method"],
        _positional("cell", "a class, mean_per_class, overall, a task such as art-clipart, average"),
        _option("--task", "source-target, for a class of a table of tasks", "TASK"),
        PARAMS)
    add("reproduce", _reproduce, "make a cell again in a folder of its own, and compare it with what was recorded",
        OF_RUNS["experiment"], OF_RUNS["method"],
        _positional("cell", "as `dacsm cell` takes it"),
        _option("--task", "source-target, for a class of a table of tasks", "TASK"),
        _option("--seed", "this one alone; by default all of the table's", "K", type=whole_from(0)),
        _option("--cores", "for Snakemake", "N", type=whole_from(1), default=1),
        PARAMS)
    add("verify", _verify, "make a part of the demo again, and say whether this machine gives the published bytes",
        _option("--cores", "for Snakemake", "N", type=whole_from(1), default=1),
        _option("--publish", "write the hashes of the finished demo instead", action="store_true"),
        PARAMS)
    add("recommend", _recommend, "say which finished method label-free criteria would choose, and how surely",
        OF_RUNS["experiment"], PARAMS)
    add("import-cdtrans", _import_cdtrans, "make a checkpoint of ours from one of the public CDTrans",
        _positional("file", "a .pth of CDTrans, source-only or adapted", type=Path),
        _option("--out", "such as model.safetensors", "FILE", type=Path, required=True),
        _option("--dataset", "a file of workflow/datasets, for the names of the classes", "NAME"),
        _option("--classes", "or a text file, a class name a line", "FILE", type=Path),
        _option("--model", "small, base or a timm model; else the DeiT of that width", "NAME"),
        _option("--heads", "attention heads, where the model does not tell", "N", type=whole_from(1)),
        PARAMS,
        about="Make a checkpoint of ours from one that the public CDTrans program wrote; nothing in it is run.")
    add("predict", _predict, "classify pictures with a trained model",
        _positional("checkpoint", "a model.safetensors of ours, or a folder of `dacsm export`", type=Path),
        _positional("paths", "a picture, or a folder with pictures", metavar="PATH", type=Path, nargs="+"),
        _option("--top", "how many classes to name, best first; by default one", "N", type=whole_from(1)),
        _option("--json", "a JSON object a line", action="store_true"),
        _option("--csv", "write a table instead: path, class, probability", "FILE", type=Path),
        _option("--probabilities", "with --csv: a column a class besides", action="store_true"),
        *compute, OWN_WORKERS,
        about="Classify pictures: a line each, with path, class and probability, and tabs between. Exit code 1 where "
        "pictures could not be read, which are named on stderr and left out; 2 where nothing could be done.")
    add("audit", _audit, "check that results are what their run records and params.yaml say",
        _positional("experiments", "those in tables, where none is named", metavar="EXPERIMENT", nargs="*"),
        _option("--dataset", "those in tables that are of this dataset", "DATASET"),
        _option("--phase", "downloaded, sharded, … summarised: results of that phase alone", "PHASE"),
        _option("--deep", "read every byte again, whatever an earlier audit found", action="store_true"),
        JSON, PARAMS,
        about="Check every result of the experiments: files against run records, settings and code against those "
        "that are here now, numbers against the predictions. A line a finding; exit code 1 where there is one.")
    add("compare", _compare, "the cells that changed between two commits, and why",
        _positional("old", "a commit, tag or branch", metavar="REV1"),
        _positional("new", "another", metavar="REV2"),
        _positional("table", "such as digits; all, where none is named", nargs="*"),
        JSON,
        about="The cells that changed between two commits, with the settings, code and data that their runs were "
        "made with then and now, as their run records say.")
    add("schema", _schema, "print the JSON schema of params.yaml", PARAMS)
    add("dvc-file", _dvc_file, "print dvc.yaml, as the declaration of the pipeline and params.yaml have it", PARAMS)
    # fmt: on


def _init(args: argparse.Namespace) -> None:
    from dacsm.cli.init import init

    init(args)


def _opened(args: argparse.Namespace, experiment: str) -> "Project":
    from dacsm.config.project import open_project

    return open_project(args.params, experiment=experiment)


def _plan(args: argparse.Namespace) -> None:
    from dacsm.ledger.plan import describe_plan

    project = _opened(args, args.experiment)
    for line in describe_plan(project, args.experiment, compute_of(args, project)):
        print(line, flush=True)


def _cell(args: argparse.Namespace) -> None:
    from dacsm.ledger.cell import describe_cell

    print(*describe_cell(_opened(args, args.experiment), args.experiment, args.method, args.cell, args.task), sep="\n")


def _reproduce(args: argparse.Namespace) -> None:
    from dacsm.ledger.reproduce import reproduce

    project = _opened(args, args.experiment)
    for line in reproduce(project, args.experiment, args.method, args.cell, args.task, args.seed, args.cores):
        print(line, flush=True)


def _verify(args: argparse.Namespace) -> None:
    from dacsm.ledger.verify import TABLE, publish, verify

    project = _opened(args, TABLE)
    for line in [publish(project)] if args.publish else verify(project, args.cores):
        print(line, flush=True)


def _recommend(args: argparse.Namespace) -> None:
    from dacsm.ledger.recommend import describe_recommendation

    print(*describe_recommendation(_opened(args, args.experiment), args.experiment), sep="\n")


def _import_cdtrans(args: argparse.Namespace) -> None:
    from dacsm.config.datasets import load_dataset
    from dacsm.config.params import load_params
    from dacsm.models.official import class_names, import_cdtrans

    dataset = None if args.dataset is None else load_dataset(args.dataset)
    settings = None if dataset is None else load_params(args.params).pretrain.get(dataset.name)
    description = import_cdtrans(
        args.file,
        args.out,
        dataset=dataset,
        model=args.model,
        heads=args.heads,
        classes=None if args.classes is None else class_names(args.classes),
        recipe=None if settings is None else settings.model,
    )
    model = description.model
    print(
        f"{args.out}: {model.name}, {model.dim} channels wide, {model.depth} blocks, {model.heads} heads, "
        f"images of {model.image_size} pixels, {len(description.classes)} classes"
    )


def _predict(args: argparse.Namespace) -> int:
    from dacsm.data.pictures import count_pictures
    from dacsm.evaluation.classify import classify, load_trained
    from dacsm.report.classified import print_classified, write_classified
    from dacsm.runtime.progress import counted

    to_file = args.csv is not None
    if to_file and (args.json or args.top is not None):
        raise InputError("--csv writes the best class of each picture; leave out --json and --top.")
    if args.probabilities and not to_file:
        raise InputError("--probabilities are columns of a file; name it with --csv.")
    compute, total = compute_of(args), count_pictures(args.paths)
    trained = load_trained(args.checkpoint)
    top = len(trained.classes) if args.probabilities else args.top or 1
    results = classify(trained, args.paths, top, compute)
    with counted("predict", total, wanted=to_file or not sys.stdout.isatty()) as passing:
        if to_file:
            unreadable = write_classified(args.csv, passing(results), trained.classes if args.probabilities else ())
        else:
            unreadable = print_classified(passing(results), args.json)
    if unreadable:
        sentence = f"{unreadable} of {total} pictures could not be read, as said above; mend or leave them out."
        print(f"dacsm: {sentence}", file=sys.stderr)
    return FOUND if unreadable else 0


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
    paths = Paths(Path(params.root))
    projects = {name: Project(params, params.load_dataset_of(name), paths, args.params) for name in names}
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
