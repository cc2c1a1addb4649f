"""Nearest neighbours both ways at VisDA's size: memory beyond the features, and time against the bare matrix product.

python -m benchmarks.pairing            # 152,397 × 55,388 × 768, two threads: minutes
python -m benchmarks.pairing --small    # 20,000 × 20,000: a quick look
"""

import argparse
import sys
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.report import Measurement, Time, in_fresh_process, now, peak_bytes, report, resident_bytes
from dacsm.adaptation import pairing

VISDA = (152_397, 55_388)
SMALL = (20_000, 20_000)
DENSE = (5_000, 4_000)
WIDTH = 768
MEMORY, TIME = 0.5, 1.15  # GB, times the bare matrix product
EVERY = 3  # the bare product of each third tile is timed


@dataclass
class Stopwatch:
    """Does the product of a tile, and now and then once more, alone and timed, in the midst of the search."""

    spent: Time = field(default_factory=Time)
    tiles: int = 0
    timed_elements: int = 0
    elements: int = 0

    def __call__(self, source: Tensor, target: Tensor, out: Tensor) -> None:
        self.multiply(source, target, out=out)
        self.elements += out.numel()
        if self.tiles % EVERY == 0:
            _wait(out.device)
            start = now()
            self.multiply(source, target, out=out)
            _wait(out.device)
            self.spent = self.spent + (now() - start)
            self.timed_elements += out.numel()
        self.tiles += 1

    multiply = staticmethod(pairing.similarities)

    @property
    def bare(self) -> Time:
        """What all products take, from those that were timed."""
        return self.spent * (self.elements / self.timed_elements)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def search(shape: tuple[int, int], threads: int, device: str) -> tuple[float, float, Time, Time]:
    """GB beyond the features, GB on the GPU, the time of the search, and that of its matrix products alone."""
    torch.set_num_threads(threads)
    place = torch.device(device)
    _warm_up(place)  # what the libraries take at their first use is not counted
    source, target = (torch.empty(rows, WIDTH).normal_(generator=torch.Generator().manual_seed(rows)) for rows in shape)
    before = resident_bytes()
    stopwatch = Stopwatch()
    with patch.object(pairing, "similarities", stopwatch):
        start = now()
        pairing.nearest_over_scales(source, [target], place)
        _wait(place)
        spent = now() - start - stopwatch.spent
    on_gpu = torch.cuda.max_memory_allocated(place) / 1e9 if place.type == "cuda" else 0.0
    return (peak_bytes() - before) / 1e9, on_gpu, spent, stopwatch.bare


def _warm_up(device: torch.device) -> None:
    """A search among few."""
    pairing.nearest_over_scales(torch.randn(64, WIDTH), [torch.randn(64, WIDTH)], device)


def disagreements(shape: tuple[int, int], device: str, tiles: tuple[int, int] | None) -> int:
    """Neighbours that are not those of the whole matrix, among features of which many are there twice or more."""
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(rows, WIDTH, generator=generator) for rows in shape)
    for rows in (source, target):  # ties: a tenth of the rows are copies of others, before and behind
        copies = torch.randint(len(rows), (2, len(rows) // 10), generator=generator)
        rows[copies[0]] = rows[copies[1]]
    place = torch.device(device)
    with patch.dict(pairing.TILES, {place.type: tiles or pairing.TILES[place.type]}):
        found = pairing.nearest_over_scales(source, [target], place)
    dense = pairing.unit(source.to(place)) @ pairing.unit(target.to(place)).T
    return sum(int((index != dense.max(dim=dim).indices).sum()) for index, dim in zip(found, (1, 0), strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairing", description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="a quick look, whose bounds are the same")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = SMALL if options.small else VISDA
    memory, on_gpu, spent, bare = in_fresh_process(search, shape, options.threads, options.device)
    operations = 2 * shape[0] * shape[1] * WIDTH
    measurements = [
        Measurement("peak memory beyond the features", memory, "GB", MEMORY if options.device == "cpu" else None),
        Measurement("the whole matrix, for comparison", 4 * shape[0] * shape[1] / 1e9, "GB"),
        Measurement("search", spent.seconds, "s"),
        Measurement("its matrix products alone", bare.seconds, "s"),
        Measurement("their rate", operations / bare.seconds / 1e9, "GFLOP/s"),
        Measurement("search / its matrix products, processor time", spent.processor / bare.processor),
        Measurement("search / its matrix products, time", spent.seconds / bare.seconds, "", TIME),
    ]
    if on_gpu:
        measurements.insert(1, Measurement("peak memory on the GPU", on_gpu, "GB", MEMORY))
    for tiles in (None, (512, 576)):
        within = f"{tiles[0]} × {tiles[1]}" if tiles else "full size"
        wrong = disagreements(DENSE, options.device, tiles)
        what = f"other than the dense answer, {DENSE[0]:,} × {DENSE[1]:,}, tiles of {within}"
        measurements.append(Measurement(what, wrong, "neighbours", 0))
    return report(f"Nearest neighbours, {shape[0]:,} × {shape[1]:,} × {WIDTH}, {options.device}", measurements)


if __name__ == "__main__":
    sys.exit(main())
