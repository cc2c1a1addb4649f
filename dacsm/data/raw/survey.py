"""What a sample of images shows: whether they can be read, their sizes and colours; and which are there twice."""

import hashlib
import io
import random
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from statistics import median

import numpy as np
from PIL import Image

from dacsm.data.encoding import eight_bits
from dacsm.data.raw.members import DamagedMemberError

SAMPLE = 150  # images of a domain that are decoded
SECONDS = 8.0  # in which as many of them are as can be
SIDE = 64  # pixels, to which an image is made smaller before its colours are looked at
GREY = 8  # of 255: what red, green and blue of a grey image may differ by, which JPEG makes of it
MOST_HASHED = 2**28  # bytes that are read to find what is twice

Read = Callable[[str], bytes]


@dataclass
class Sample:
    """What the images of one domain that were looked at are like."""

    sizes: list[tuple[int, int]] = field(default_factory=list)  # width and height of those that can be read
    grey: int = 0  # how many of them are
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # path and reason
    sums: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))  # of the pixels 0..1 and their squares, (2, 3)

    @property
    def looked_at(self) -> int:
        return len(self.sizes) + len(self.unreadable)

    @property
    def side(self) -> float:
        """The median of the images' sides, in pixels; of each the geometric mean."""
        return median((width * height) ** 0.5 for width, height in self.sizes) if self.sizes else 0.0

    def colours(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of red, green and blue, in 0..1, each image counting the same."""
        mean, square = self.sums / len(self.sizes)
        return tuple(mean.tolist()), tuple(np.sqrt(np.maximum(square - mean**2, 1e-4)).tolist())

    def span(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """The smallest, the median and the largest size, by the number of pixels."""
        ordered = sorted(self.sizes, key=lambda size: (size[0] * size[1], size))
        return ordered[0], ordered[len(ordered) // 2], ordered[-1]


def joined(samples: Iterable[Sample]) -> Sample:
    """Several samples as one."""
    both = Sample()
    for sample in samples:
        both.sizes += sample.sizes
        both.grey += sample.grey
        both.unreadable += sample.unreadable
        both.sums += sample.sums
    return both


def look_at(paths: Sequence[str], read: Read, seconds: float = SECONDS) -> Sample:
    """Decode a random sample of some images, the same each time, for at most about so many seconds."""
    chosen = random.Random("survey").sample(list(paths), min(SAMPLE, len(paths)))
    sample, started = Sample(), time.monotonic()
    for path in chosen:
        if sample.looked_at and time.monotonic() - started > seconds:
            break
        try:
            _look(sample, read(path))
        except DamagedMemberError as error:
            sample.unreadable.append((path, str(error)))
        except Exception as error:  # Pillow's decoders raise whatever damage makes them raise
            reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else " ".join(str(error).split())
            sample.unreadable.append((path, reason or type(error).__name__))
    return sample


def _look(sample: Sample, content: bytes) -> None:
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as image:
        size = image.size
        image.draft("RGB", (4 * SIDE, 4 * SIDE))  # of a large JPEG not every pixel
        small = eight_bits(image, 3)
        small.thumbnail((SIDE, SIDE))
    pixels = np.asarray(small, dtype=np.int16).reshape(-1, 3)
    sample.sizes.append(size)
    sample.grey += int(np.ptp(pixels, axis=1).max() <= GREY)
    sample.sums += np.stack([(pixels / 255).mean(0), ((pixels / 255) ** 2).mean(0)])


def doubles(domains: Mapping[str, tuple[Mapping[str, int], Read]]) -> tuple[list[tuple[str, ...]], int]:
    """Sets of paths whose files are the same, byte for byte, in more than one domain.

    Args:
        domains: of each domain the bytes of its files by path, and what reads one.

    Returns:
        The sets, and the bytes that would have to be read where that is too much to look; then there are no sets.
    """
    by_size: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for domain, (sizes, _read) in domains.items():
        for path, size in sizes.items():
            by_size[size].append((domain, path))
    alike = {size: files for size, files in by_size.items() if size and len({domain for domain, _ in files}) > 1}
    volume = sum(size * len(files) for size, files in alike.items())
    if volume > MOST_HASHED:
        return [], volume
    by_hash: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for domain, path in (file for files in alike.values() for file in files):
        try:
            by_hash[hashlib.sha256(domains[domain][1](path)).hexdigest()].append((domain, path))
        except (OSError, DamagedMemberError):
            continue
    same = (files for files in by_hash.values() if len({domain for domain, _ in files}) > 1)
    return [tuple(path for _, path in files) for files in same], 0


def kinds(paths: Iterable[str]) -> str:
    """Files that are no images, as `12 .txt, 3 .heic`; the most frequent first."""
    counts = Counter(PurePosixPath(path).suffix.lower() or "without suffix" for path in paths)
    shown = [f"{count:,} {suffix}" for suffix, count in counts.most_common(4)]
    return ", ".join(shown) + (", …" if len(counts) > len(shown) else "")
