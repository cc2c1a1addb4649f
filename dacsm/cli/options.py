"""Arguments and options that several commands have."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dacsm.config import PARAMS_FILE

if TYPE_CHECKING:
    from dacsm.runtime.device import Compute

Commands = argparse._SubParsersAction  # what a group of commands is added to
ARGUMENTS = {
    "dataset": "a file of workflow/datasets, such as digits",
    "experiment": "an entry of experiments in params.yaml, such as digits",
    "archive": "an archive of the dataset",
    "domain": "a domain of the dataset",
    "source": "the labelled domain",
    "method": "source_only, or an entry of adapt.methods in params.yaml",
    "task": "source-target, such as synthetic-mnist",
}


def add_arguments(entry: argparse.ArgumentParser, *names: str) -> None:
    """Positional arguments, and --seed."""
    for name in names:
        if name == "seed":
            entry.add_argument("--seed", type=whole_from(0), required=True, metavar="K", help="of the run, from 0")
        else:
            entry.add_argument(name, metavar=name.upper(), help=ARGUMENTS[name])


def add_params(entry: argparse.ArgumentParser) -> None:
    """`--params`, the file of settings."""
    entry.add_argument("--params", type=Path, default=PARAMS_FILE, metavar="FILE", help="the settings")


def add_compute(entry: argparse.ArgumentParser) -> None:
    """Where a model runs, and where features are kept: `--device`, `--features-folder`."""
    entry.add_argument(
        "--device",
        default="auto",
        help="auto (a GPU where there is one, and the dataset's resources ask for one), cpu, cuda, cuda:1, …",
    )
    entry.add_argument(
        "--features-folder",
        type=Path,
        default=os.environ.get("DACSM_FEATURES_FOLDER") or None,
        metavar="FOLDER",
        help="keep the features of whole domains on disk there; by default in memory",
    )


def add_workers(entry: argparse.ArgumentParser) -> None:
    """`--workers`; every stage's command has it, so that one rule serves all."""
    entry.add_argument(
        "--workers", type=int, metavar="N", help="processes that read or encode images; by default several for a GPU"
    )


def compute_of(args: argparse.Namespace, gpus: int = 1) -> "Compute":
    """The device and the workers that the command line asks for; `auto` is a CPU where no GPU is asked for."""
    from dacsm.runtime.device import choose_compute

    device = "cpu" if args.device == "auto" and not gpus else args.device
    return choose_compute(device, args.workers, args.features_folder)


def whole_from(least: int):
    """A type of argument: a whole number that is at least so much."""

    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return whole
