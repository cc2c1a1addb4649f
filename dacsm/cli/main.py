"""The command line: `dacsm ROOM …`, one command a stage. Each imports its stage only when it runs."""

import argparse
import errno
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn, TextIO

from dacsm import __version__
from dacsm.cli.aside import add_aside_commands
from dacsm.cli.checkpoint import add_checkpoint_commands
from dacsm.cli.ledger import add_ledger_commands
from dacsm.cli.options import add_device, add_params
from dacsm.cli.recorded import compute_of, read_settings, recorded, require_run, resumable
from dacsm.cli.tables import add_table_commands
from dacsm.runtime.errors import InputError

BAD_INPUT = 2  # exit code where the user can mend it
INTERRUPTED = 130

DESCRIPTION = """\
Unsupervised domain adaptation from a labelled source to an unlabelled target domain.
Usually `snakemake` calls these commands in order; each also runs by hand, from the project's folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Bad input ends in one sentence on stderr and exit code 2."""
    args = _parser().parse_args(arguments)
    try:
        with _logged(getattr(args, "log", None)):
            try:
                return args.command(args) or 0
            except KeyboardInterrupt:
                return _fail("interrupted.", INTERRUPTED)
            except Exception as error:
                sentence = _sentence(error)
                if sentence is None:
                    raise
                return _fail(sentence, BAD_INPUT)
    except InputError as error:  # the log itself cannot be written
        return _fail(str(error), BAD_INPUT)
    return 0


def _fail(sentence: str, code: int) -> int:
    print(f"dacsm: {sentence}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str | None:
    """What a user can do about an error, or None where it is a mistake of ours and its traceback should be seen."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'a file'} cannot be written: {error.strerror}; free the place and run again."
    # torch has its own classes for memory that ran out; naming them here would import torch.
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "can't allocate memory" in str(error):
        return "the memory ran out; run fewer jobs at once, or choose a smaller batch_size in params.yaml."
    return None


@contextmanager
def _logged(log: Path | None) -> Iterator[None]:
    """Copy what is printed to a log file as well."""
    if log is None:
        yield
        return
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("w", encoding="utf-8", buffering=1)  # a line at a time, so that it can be followed
    except OSError as error:
        raise InputError(f"--log {log} cannot be written: {error.strerror}; name another file.") from error
    with file, redirect_stdout(_Both(sys.stdout, file)), redirect_stderr(_Both(sys.stderr, file)):
        try:
            yield
        except Exception:
            file.write(traceback.format_exc())  # Python prints it to the terminal itself, after the log is closed
            raise


class _Both:
    """A text stream that writes to a terminal and to a file; in most else it is the terminal."""

    def __init__(self, terminal: TextIO, file: TextIO) -> None:
        self.terminal, self.file = terminal, file

    def write(self, text: str) -> int:
        self.file.write(text)
        return self.terminal.write(text)

    def isatty(self) -> bool:
        """No: a file takes no bar, and Snakemake's jobs, which all have a log, would draw theirs over another's."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one sentence, as all else."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_fail(f"{message}; see `{self.prog} --help`.", BAD_INPUT))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dacsm", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"dacsm {__version__}")
    stages = parser.add_subparsers(title="commands, in the order of the pipeline", metavar="COMMAND", required=True)

    def stage(name: str, command: Callable[[argparse.Namespace], None], summary: str, *positional: str) -> None:
        entry = stages.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        for argument in positional:
            entry.add_argument(argument, metavar=argument.upper(), help=ARGUMENTS[argument])
        if name in ("pretrain", "adapt", "evaluate", "rescale", "explain"):
            entry.add_argument("--seed", type=_seed, required=True, metavar="K", help="number of the run, from 0")
            add_device(entry)
            entry.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read images")
            entry.add_argument(
                "--features-folder",
                type=Path,
                default=os.environ.get("DACSM_FEATURES_FOLDER") or None,
                metavar="FOLDER",
                help="keep the features of whole domains on disk there; by default in memory",
            )
        if name == "shard":
            entry.add_argument("--workers", type=int, default=1, metavar="N", help="processes that encode images")
        if name != "schema":
            add_params(entry)
            entry.add_argument("--log", type=Path, metavar="FILE", help="copy all that is printed to this file")
        entry.set_defaults(command=command)

    stage("download", _download, "fetch or make an archive of a dataset", "dataset", "archive")
    stage("shard", _shard, "write a domain's images as WebDataset shards", "dataset", "domain")
    stage("pretrain", _pretrain, "train a classifier on a labelled source domain", "dataset", "source")
    stage("adapt", _adapt, "adapt a pretrained classifier to an unlabelled target", "dataset", "method", "task")
    stage("evaluate", _evaluate, "measure a model on its target, with labels", "dataset", "method", "task")
    stage("table", _table, "write an experiment's table of results", "experiment")
    add_aside_commands(stage)
    stage("schema", _schema, "print the JSON schema of params.yaml")
    add_table_commands(stages)
    add_checkpoint_commands(stages)
    add_ledger_commands(stages)
    return parser


ARGUMENTS = {
    "dataset": "a file of workflow/datasets, such as digits",
    "experiment": "an entry of experiments in params.yaml, such as digits",
    "archive": "an archive of the dataset",
    "domain": "a domain of the dataset",
    "source": "the labelled domain",
    "method": "source_only, or an entry of adapt.methods in params.yaml",
    "task": "source-target, such as synthetic-mnist",
}


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _download(args: argparse.Namespace) -> None:
    _params, dataset, paths = read = read_settings(args)
    from dacsm.stages.download import download

    with recorded(args, read, "download"):
        download(dataset, args.archive, paths)


def _shard(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    dataset.require_domain(args.domain)
    from dacsm.stages.shard import shard

    with recorded(args, read, "shard"):
        shard(params, dataset, args.domain, paths, args.workers)


def _pretrain(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    dataset.require_domain(args.source)
    params.recipe("pretrain", dataset.name)
    from dacsm.stages.pretrain import pretrain

    compute = compute_of(args)
    with resumable(args, read, "pretrain", compute) as (measured, resume):
        measured.update(pretrain(params, dataset, args.source, args.seed, paths, compute, resume))


def _adapt(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    require_run(args, read)
    from dacsm.config.params import SOURCE_ONLY

    if args.method == SOURCE_ONLY:
        raise InputError(f"{SOURCE_ONLY} is the pretrained model itself, so there is nothing to adapt; evaluate it.")
    params.recipe("adapt", dataset.name)
    from dacsm.stages.adapt import adapt

    compute = compute_of(args)
    with resumable(args, read, "adapt", compute) as (measured, resume):
        measured.update(adapt(params, dataset, args.method, args.task, args.seed, paths, compute, resume))


def _evaluate(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    require_run(args, read)
    from dacsm.stages.evaluate import evaluate

    compute = compute_of(args)
    with recorded(args, read, "evaluate", compute) as measured:
        measured.update(evaluate(params, dataset, args.method, args.task, args.seed, paths, compute))


def _table(args: argparse.Namespace) -> None:
    params, dataset, paths = read = read_settings(args)
    from dacsm.stages.table import table

    with recorded(args, read, "table"):
        table(dataset, params.experiment(args.experiment), paths)


def _schema(_args: argparse.Namespace) -> None:
    from dacsm.config.schema import params_schema

    print(json.dumps(params_schema(), indent=2, ensure_ascii=False))
