"""Images into shards and out of them: images a second against the bare decoder and against files, and memory.

python -m benchmarks.shards             # minutes
python -m benchmarks.shards --small     # a quick look

Pictures are parts of the photographs that come with scikit-learn, 500 × 375 pixels in JPEG. All that is compared runs
in turn, round by round, in one process with one thread; times out of shards are the processor's, so that other programs
count less, and each number is a median over rounds. Pillow is ImageFolder's decoder, simplejpeg that of the shards.
"""

import argparse
import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from simplejpeg import decode_jpeg

from benchmarks.report import Measurement, in_fresh_process, peak_bytes, report, resident_bytes
from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Augment, Model, Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data import shards as reading
from dacsm.data.shards import ShardedImages
from dacsm.data.stream import stream
from dacsm.data.transforms import train_views
from dacsm.stages.download import download
from dacsm.stages.shard import shard

SIZE, VIEW = 256, 224
ORIGINAL = (500, 375)
CLASSES = tuple("abcdefghijkl")
PILLOW, DECODER = "bare decoder, Pillow", "bare decoder, simplejpeg"
FILES = "ImageFolder on the originals"
BOUNDS = {PILLOW: 0.85, FILES: 2.0}  # the fraction of their speeds that is reached at least
MEMORY = 48  # MiB for 49,000 more images: less than a kilobyte for each, which is its name, place and label
SMALL_PICTURE = (40, 30)  # for memory, which the number of images could change, and not their size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer images and rounds")
    small = parser.parse_args().small
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lines = [*_speed(Path(folder), 120 if small else 600, 3 if small else 7)]
    counts = (500, 2000) if small else (1000, 50_000)
    for what, work in (("into shards", _memory_of_writing), ("out of shards", _memory_of_reading)):
        taken = []
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                taken.append(in_fresh_process(work, folder, count) / 2**20)
            lines.append(Measurement(f"memory beyond that at the start, {count:,} images {what}", taken[-1], "MiB"))
        lines.append(
            Measurement(f"what {counts[1] - counts[0]:,} more images took {what}", taken[1] - taken[0], "MiB", MEMORY)
        )
    return report("Shards", lines)


def _speed(folder: Path, count: int, rounds: int) -> Iterator[Measurement]:
    """Write `count` pictures as shards, and read them in each way."""
    pictures = list(_pictures(count, ORIGINAL))
    dataset, paths = _dataset(folder, pictures, count), Paths(folder)
    for workers in (1, 2):
        start = time.perf_counter()
        shard(Project(_params(SIZE), dataset, paths), "photos", workers)
        seconds = time.perf_counter() - start
        yield Measurement(f"into shards, {workers} process{'es' * (workers > 1)}", count / seconds, "images/s")
    shards = paths.shards(dataset.name, "photos")
    with patch.object(reading, "KEPT_BYTES", 0):  # as for a domain that does not fit into memory
        contenders = _contenders(shards, _files(folder, pictures), count)
        times = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, read in contenders.items():
                start = time.process_time()  # of the processor, so that other programs count less
                read()
                times[name].append(time.process_time() - start)
    for name, seconds in times.items():
        yield Measurement(name, count / median(seconds), "images/s")
    for name in ("by index", "by stream"):
        for other, fraction in BOUNDS.items():
            ratio = median(own / theirs for own, theirs in zip(times[name], times[other], strict=True))
            bound = round(1 / fraction, 3)
            yield Measurement(f"time of {name} over {other} (speed at least {fraction} ×)", ratio, "×", bound)


def _contenders(shards: Path, files: Path, count: int) -> dict[str, Callable[[], None]]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    images = ShardedImages(shards)
    encoded = [_encoded(images, index) for index in range(count)]
    views = train_views(_model(), _augment(), count, 0)
    steps = [v2.Resize((SIZE, SIZE)), v2.RandomCrop(VIEW), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    originals = ImageFolder(files, v2.Compose(steps))

    def pillow() -> None:
        for content in encoded:
            Image.open(io.BytesIO(content)).load()

    def decode() -> None:
        for content in encoded:
            decode_jpeg(content)

    def by_index() -> None:
        for index in np.random.default_rng(0).permutation(count):
            views(images[int(index)], int(index))

    def by_stream() -> None:
        for _ in stream(images, seed=0, epoch=1, batch_size=32, view=views):
            pass

    def from_files() -> None:
        for index in np.random.default_rng(0).permutation(count):
            originals[index]

    return {
        PILLOW: pillow,
        DECODER: decode,
        "by index": by_index,
        "by stream": by_stream,
        FILES: from_files,
    }


def _encoded(images: ShardedImages, index: int) -> bytes:
    """The bytes of an image as they lie in its shard."""
    shard, offset, size = (int(value) for value in images.offsets[index])
    with (images.folder / images.index.shards[shard].name).open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _memory_of_writing(folder: str, count: int) -> int:
    """The memory in bytes that sharding took at its height, in a process of its own."""
    dataset = _dataset(Path(folder), list(_pictures(20, SMALL_PICTURE)), count)
    start = resident_bytes()
    shard(Project(_params(32), dataset, Paths(Path(folder))), "photos")
    return peak_bytes() - start


def _memory_of_reading(folder: str, count: int) -> int:
    """The memory in bytes that an epoch by index and one by stream took at their height, in a process of its own."""
    paths = Paths(Path(folder))
    dataset = _dataset(Path(folder), list(_pictures(20, SMALL_PICTURE)), count)
    in_fresh_process(shard, Project(_params(32), dataset, paths), "photos")
    shards = paths.shards(dataset.name, "photos")
    start = resident_bytes()
    with patch.object(reading, "KEPT_BYTES", 0):
        images = ShardedImages(shards)
        for index in range(count):
            images[index]
        for _ in stream(images, seed=0, epoch=1, batch_size=32, view=_as_tensor):
            pass
    return peak_bytes() - start


def _as_tensor(image: np.ndarray, _position: int) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


def _pictures(count: int, size: tuple[int, int]) -> Iterator[bytes]:
    """Parts of photographs, resized, as JPEGs of quality 90."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    random = np.random.default_rng(0)
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        width = int(random.integers(300, 560))  # of 640
        height = width * size[1] // size[0]
        left, top = (
            int(random.integers(0, stage + 1)) for stage in (photograph.width - width, photograph.height - height)
        )
        file = io.BytesIO()
        photograph.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height)).save(
            file, "jpeg", quality=90
        )
        yield file.getvalue()


def _dataset(folder: Path, pictures: list[bytes], count: int) -> DatasetSpec:
    """A dataset with the domain `photos` of `count` images in a tar, downloaded."""
    source = folder / "photos.tar"
    with tarfile.open(source, "w") as tar:
        for index in range(count):
            content = pictures[index % len(pictures)]
            member = tarfile.TarInfo(f"photos/{CLASSES[index % len(CLASSES)]}/{index:06d}.jpg")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    domain = {"images": count, "archives": ["photos"], "options": {"folder": "photos"}}
    dataset = DatasetSpec.model_validate(
        {
            "name": "digits",  # whose settings are changed below
            "title": "benchmark",
            "reader": "archives",
            "channels": 3,
            "archives": {"photos": {"file": "photos.tar", "urls": [source.as_uri()]}},
            "domains": {"photos": domain | {"title": "photos"}, "same": domain | {"title": "the same"}},
            "classes": CLASSES,
            "development_tasks": [],
            "protocol": "none",
            "headline": "overall",
            "licence": "none",
            "citation": "none",
        }
    )
    download(Project(None, dataset, Paths(folder)), "photos")
    return dataset


def _params(size: int) -> Params:
    params = load_params(Path("params.yaml"))
    settings = params.shard["digits"].model_copy(
        update={"image_size": size, "encoding": "jpeg", "images_per_shard": 1000}
    )
    return params.model_copy(update={"shard": {"digits": settings}})


def _files(folder: Path, pictures: list[bytes]) -> Path:
    """The pictures as files, <class>/<index>.jpg."""
    for index, content in enumerate(pictures):
        path = folder / "files" / CLASSES[index % len(CLASSES)] / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / "files"


def _model() -> Model:
    settings = {"name": "vit_tiny_patch16_224", "weights": "none", "image_size": VIEW, "resize": SIZE, "channels": 3}
    sizes = dict.fromkeys(("patch_size", "dim", "depth", "heads"))
    return Model.model_validate({**settings, **sizes, "mean": [0.5] * 3, "std": [0.5] * 3, "drop_path": 0})


def _augment() -> Augment:
    return Augment(flip=True, rotate=0, zoom=0, shear=0, shift=0)


if __name__ == "__main__":
    sys.exit(main())
