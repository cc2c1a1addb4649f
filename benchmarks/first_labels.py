"""How right the first pseudo labels of a development task are, by transport or not, and what reverse validation says.

    python -m benchmarks.first_labels pacs_160 photo-art_painting --seeds 0

On the whole target, and on targets whose classes were thinned at random: a third of the classes keeps all its images,
a third half of them, and the rest 15 %.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from dacsm.config.kinds.cdtrans import Matching
from dacsm.config.project import PARAMS_FILE, Project, open_project
from dacsm.data.seeding import numpy_generator
from dacsm.data.shards import ShardedImages, read_labels
from dacsm.evaluation.metrics import class_recalls
from dacsm.evaluation.predictions import Predictions, predict
from dacsm.methods.cdtrans.parts.matching import match_scales
from dacsm.models.classifier import load_checkpoint
from dacsm.runtime.device import choose_compute

KEPT = (1.0, 0.5, 0.15)  # of a class's images, for a third of the classes each
COLUMNS = ("target", "nearest centre", "transport", "source brought back by centre", "by transport")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_labels", description=__doc__.split("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--thinned", type=int, default=10, help="targets with thinned classes")
    parser.add_argument("--relaxation", type=float, default=0.3)
    options = parser.parse_args()
    project = open_project(PARAMS_FILE, dataset=options.dataset)
    if options.task not in project.dataset.development_tasks:
        sys.exit(f"first_labels: {options.task} is no development task of {options.dataset}, and this reads labels.")
    by_seed = [list(_targets(project, options, seed)) for seed in options.seeds]  # (seeds, targets, columns)
    whole, thinned = np.mean([found[0] for found in by_seed], axis=0), np.array([found[1:] for found in by_seed])
    rows = [["whole", *whole], [f"{options.thinned} thinned", *thinned.mean(axis=(0, 1))]]
    print(tabulate(rows, COLUMNS, floatfmt=".1f"))
    return 0


def _targets(project: Project, options: argparse.Namespace, seed: int) -> Iterator[list[float]]:
    """For the whole target, then for thinned ones: mean per-class accuracies of labels, and those on the source."""
    domains = project.dataset.split_task(options.task)
    folder = project.paths.pretrained(options.dataset, domains[0], seed)
    classes, compute = len(project.dataset.classes), choose_compute("auto", workers=0)
    classifier = load_checkpoint(folder / "model.safetensors", compute.device).eval()
    shards = [project.paths.shards(options.dataset, domain) for domain in domains]
    source, target = (predict(classifier, ShardedImages(path), compute) for path in shards)
    source_labels, labels = (torch.from_numpy(read_labels(path)) for path in shards)
    rules = (Matching(), Matching(marginal_relaxation=options.relaxation))
    for index in range(1 + options.thinned):
        kept = _thinned(labels, classes, seed, index) if index else slice(None)
        seen = Predictions(target.features[kept], target.logits[kept])
        match = partial(match_scales, seen, predict, source, source_labels, epoch=1, device=compute.device)
        found = [match(settings=rule) for rule in rules]
        recalls = [class_recalls(labels[kept].numpy(), of.pseudo_labels.numpy(), classes) for of in found]
        yield [100 * value for value in (*np.nanmean(recalls, axis=1).tolist(), *found[-1].reverse.values())]


def _thinned(labels: Tensor, classes: int, seed: int, index: int) -> np.ndarray:
    """The images (T′,) that a target keeps: which, and of which classes how many, is drawn."""
    generator = numpy_generator("thinned", seed, index)
    kept = np.repeat(KEPT, -(-classes // len(KEPT)))[:classes][generator.permutation(classes)]
    members = [generator.permutation(np.flatnonzero(labels.numpy() == label)) for label in range(classes)]
    return np.sort(np.concatenate([of[: round(part * len(of))] for part, of in zip(kept, members, strict=True)]))


if __name__ == "__main__":
    sys.exit(main())
