"""Options that several commands have."""

import argparse
from pathlib import Path


def add_params(entry: argparse.ArgumentParser) -> None:
    """`--params`, the file of settings."""
    entry.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="the settings")


def add_device(entry: argparse.ArgumentParser) -> None:
    """`--device`, where a model runs."""
    entry.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:1, …")
