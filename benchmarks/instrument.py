"""How finely accuracy is measured: on the development task, over source models, over adaptation seeds, and repeated.

    python -m benchmarks.instrument --folder instrument    # goes on where it was stopped

Every source model is adapted with every adaptation seed, and the first run is done twice. In the pipeline one seed
names both, so that this alone tells which spread comes from where. Needs the shards and source models of digits
(`snakemake --cores all digits_pretrained`), and takes about two minutes of one core a run.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.report import Measurement, report
from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.params import load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.shards import read_labels
from dacsm.evaluation.metrics import measure
from dacsm.runtime.device import choose_compute
from dacsm.runtime.processor import hold_libraries
from dacsm.stages.adapt import adapt

PROJECT = Path(__file__).parents[1]
DATASET = "digits"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instrument", description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the runs are kept")
    parser.add_argument("--method", default="cdtrans")
    parser.add_argument("--sources", type=int, default=3, help="source models: seeds 0, 1, …")
    parser.add_argument("--seeds", type=int, default=3, help="adaptation seeds: 0, 1, …")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    dataset = load_dataset(DATASET)
    runs = [(f"source{source}", source, seed) for source, seed in product(range(options.sources), range(options.seeds))]
    work = [(options.folder / name, options.method, source, seed) for name, source, seed in runs]
    work.append((options.folder / "again", options.method, 0, 0))
    hold_libraries()  # of the processes, which load torch after it: the recipe of digits is portable
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        accuracies = list(pool.map(accuracy_of, *zip(*work, strict=True)))
    found = np.array(accuracies[:-1]).reshape(options.sources, options.seeds)
    for source, row in enumerate(found):
        print(f"source model {source}: {', '.join(f'{value:.2f}' for value in row)}")
    again = abs(accuracies[-1] - found[0, 0])
    return report(f"{options.method} on {dataset.development_tasks[0]}, points", spreads(found, again))


def accuracy_of(root: Path, method: str, source_seed: int, seed: int) -> float:
    """Mean per class in percent of the source model `source_seed` adapted with `seed`, at the selected epoch."""
    params, dataset = load_params(PROJECT / "params.yaml"), load_dataset(DATASET)
    paths, task = Paths(root), dataset.development_tasks[0]
    source, target = dataset.split_task(task)
    epochs = paths.adapted(DATASET, method, task, seed) / "epochs.npz"
    if not epochs.is_file():
        given = Paths(PROJECT)
        _link(paths.shards(DATASET, source).parent, given.shards(DATASET, source).parent)
        _link(paths.pretrained(DATASET, source, seed), given.pretrained(DATASET, source, source_seed))
        adapt(Project(params, dataset, paths), method, task, seed, choose_compute("cpu", 0))
    return _measured(dataset, paths.shards(DATASET, target), epochs)


def _link(place: Path, original: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(original.resolve(strict=True))


def _measured(dataset: DatasetSpec, shards: Path, epochs: Path) -> float:
    with np.load(epochs) as file:
        predicted = file["predicted"][file["kept"] - 1]
    return measure(read_labels(shards), predicted, dataset.classes)["mean_per_class"]


def spreads(found: np.ndarray, again: float) -> list[Measurement]:
    """Of accuracies (sources, seeds): standard deviations by a two-way analysis of variance without repeats."""
    seeds = found.shape[1]
    within = found.var(axis=1, ddof=1).mean()  # of an adaptation seed, given the source model
    between = max(0.0, found.mean(axis=1).var(ddof=1) - within / seeds)
    return [
        Measurement("mean", found.mean(), "%"),
        Measurement("spread over source models", between**0.5),
        Measurement("spread over adaptation seeds of one source model", within**0.5),
        Measurement("spread of one run", (between + within) ** 0.5),
        Measurement("the same run done twice, difference", again),
    ]


if __name__ == "__main__":
    sys.exit(main())
