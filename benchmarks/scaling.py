"""Time and memory of sharding, reading, an epoch of pretraining and predicting, for more and more images.

python -m benchmarks.scaling                      # 1,000, 10,000 and 100,000 images: seven minutes
python -m benchmarks.scaling --images 1000 10000  # one minute

Images are made up, 28 × 28 pixels; settings are those of digits. Each step has a process of its own with one thread.
Times are the processor's, so that other programs count less; memory is what a step took at its height beyond that at
its start, with no decoded image kept, as for a domain that does not fit into memory.
"""

import argparse
import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from benchmarks.report import Measurement, in_fresh_process, peak_bytes, report, resident_bytes
from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data import shards
from dacsm.data.shards import ShardedImages
from dacsm.evaluation.predictions import predict
from dacsm.models.classifier import load_checkpoint
from dacsm.runtime.device import Compute
from dacsm.stages.download import download
from dacsm.stages.pretrain import pretrain
from dacsm.stages.shard import shard

COUNTS = (1000, 10_000, 100_000)
SIDE, CLASSES, DOMAIN = 28, 10, "made_up"
DIFFERENT = 500  # images; more would only be the same work again
SLOWER = 1.5  # times as long an image takes at the largest count, at most
KIBIBYTES = 1  # of memory for each further image, at most: its name, place, label, features and draws
FULL_BATCHES = 16  # MiB besides, where the fewest images do not fill a batch
CPU = Compute(torch.device("cpu"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=COUNTS, metavar="N", help="how many, rising")
    counts = parser.parse_args().images
    taken = {count: _measured(count) for count in counts}  # seconds and bytes of each step
    rows = [
        (step, *(f"{taken[n][step][0]:,.1f} s, {taken[n][step][1] / 2**20:,.0f} MiB" for n in counts)) for step in STEPS
    ]
    print(tabulate(rows, ("", *(f"{count:,} images" for count in counts)), tablefmt="pipe"), end="\n\n")
    lines, (first, last) = [], (counts[0], counts[-1])
    for step in STEPS:
        (seconds, memory), (most_seconds, most_memory) = taken[first][step], taken[last][step]
        slower = (most_seconds / last) / (seconds / first)
        lines.append(Measurement(f"{step}: time an image, {last:,} over {first:,} images", slower, "×", SLOWER))
        more, bound = (most_memory - memory) / 2**20, FULL_BATCHES + (last - first) * KIBIBYTES / 1024
        lines.append(Measurement(f"{step}: memory of {last - first:,} further images", more, "MiB", bound))
    return report("Scaling", lines)


def _measured(count: int) -> dict[str, tuple[float, int]]:
    with tempfile.TemporaryDirectory() as folder:
        _write_archive(Path(folder) / "made_up.tar", count)
        return {step: in_fresh_process(_taken, step, folder, count) for step in STEPS}


def _taken(step: str, folder: str, count: int) -> tuple[float, int]:
    """The seconds and bytes that a step takes."""
    torch.set_num_threads(1)
    shards.KEPT_BYTES = 0
    project = Project(_params(), _dataset(Path(folder), count), Paths(Path(folder)))
    memory, start = resident_bytes(), time.process_time()
    STEPS[step](project)
    return time.process_time() - start, peak_bytes() - memory


def _shard(project: Project) -> None:
    download(project, DOMAIN)
    shard(project, DOMAIN)


def _read(project: Project) -> None:
    images = ShardedImages(project.paths.shards(project.dataset.name, DOMAIN))
    for index in np.random.default_rng(0).permutation(len(images)):
        images[int(index)]


def _pretrain(project: Project) -> None:
    pretrain(project, DOMAIN, 0, CPU)


def _predict(project: Project) -> None:
    classifier = load_checkpoint(project.paths.pretrained(project.dataset.name, DOMAIN, 0) / "model.safetensors")
    predict(classifier, ShardedImages(project.paths.shards(project.dataset.name, DOMAIN)), CPU)


STEPS: dict[str, Callable[[Project], None]] = {
    "shard": _shard,
    "read by index": _read,
    "an epoch of pretraining": _pretrain,
    "predict": _predict,
}


def _write_archive(path: Path, count: int) -> None:
    """A tar of `count` images, <class>/<index>.png."""
    random, pictures = np.random.default_rng(0), []
    for _ in range(min(count, DIFFERENT)):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(file, "png")
        pictures.append(file.getvalue())
    with tarfile.open(path, "w") as tar:
        for index in range(count):
            content = pictures[index % len(pictures)]
            member = tarfile.TarInfo(f"images/class_{index % CLASSES}/{index:07d}.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            tar.members = []  # tarfile would keep a kilobyte a file


def _dataset(folder: Path, count: int) -> DatasetSpec:
    domain = {"images": count, "archives": [DOMAIN], "options": {"folder": "images"}}
    return DatasetSpec.model_validate(
        {
            "name": "digits",  # whose settings these are
            "title": "made-up images",
            "reader": "archives",
            "channels": 1,
            "archives": {DOMAIN: {"file": "images.tar", "urls": [(folder / "made_up.tar").as_uri()]}},
            "domains": {DOMAIN: domain | {"title": "made up"}, "same": domain | {"title": "the same"}},
            "classes": [f"class_{label}" for label in range(CLASSES)],
            "development_tasks": [],
            "protocol": "none",
            "headline": "overall",
            "licence": "none",
            "citation": "none",
        }
    )


def _params() -> Params:
    params = load_params(Path("params.yaml"))
    recipe = params.pretrain["digits"].model_copy(update={"epochs": 1, "arithmetic": "native"})
    return params.model_copy(update={"pretrain": {"digits": recipe}})


if __name__ == "__main__":
    sys.exit(main())
