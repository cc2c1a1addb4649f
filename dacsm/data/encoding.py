"""Raw images to stored ones: decoded, made square, encoded; in several processes where there are several.

The bytes do not depend on the number of processes: each image is worked on by itself, and results come in order.
"""

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from dacsm.config.params import Shard
from dacsm.data.pixels import eight_bits
from dacsm.data.raw import Samples

JPEG = {"quality": 95, "subsampling": 0}
RESAMPLE = Image.Resampling.BILINEAR  # as CDTrans, which squashes to the square as well
CHUNK = 32  # images that a process takes at a time


@dataclass(frozen=True)
class Stored:
    """One image as it goes into a shard; without `encoded` it is unreadable, for the reason that is given."""

    position: int
    label: int
    name: str
    encoded: bytes | None
    reason: str = ""


@dataclass(frozen=True)
class Encoder:
    """Turns samples into stored images."""

    samples: Samples
    settings: Shard
    channels: int

    def __call__(self, positions: list[int]) -> list[Stored]:
        return [self._stored(position) for position in positions]

    def _stored(self, position: int) -> Stored:
        sample = self.samples[position]
        encoded, reason = None, ""
        try:
            if isinstance(sample.image, Exception):
                raise sample.image
            raw = sample.image if isinstance(sample.image, Image.Image) else Image.open(io.BytesIO(sample.image))
            encoded = self._encode(raw)
        except Exception as error:  # Pillow's decoders raise whatever damage makes them raise
            reason = _reason(error)
        return Stored(position, sample.label, sample.name, encoded, reason)

    def _encode(self, image: Image.Image) -> bytes:
        image = eight_bits(image, self.channels)
        size = (self.settings.image_size, self.settings.image_size)
        if image.size != size:
            image = image.resize(size, RESAMPLE)
        file = io.BytesIO()
        image.save(file, self.settings.encoding, **(JPEG if self.settings.encoding == "jpeg" else {}))
        return file.getvalue()


def encoded_images(encoder: Encoder, order: np.ndarray, workers: int = 1) -> Iterator[Stored]:
    """The images at the positions `order` (N,), in that order; `workers` processes work a little ahead."""
    chunks = (order[first : first + CHUNK].tolist() for first in range(0, len(order), CHUNK))
    if workers < 2:
        for chunk in chunks:
            for position in chunk:
                yield from encoder([position])
        return
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(encoder,)) as pool:
        waiting: deque[Future[list[Stored]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_work, chunk))
                if len(waiting) > 2 * workers:  # memory stays flat however many images there are
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _start(encoder: Encoder) -> None:
    """Give a worker its encoder, once."""
    global _encoder
    _encoder = encoder


def _work(positions: list[int]) -> list[Stored]:
    return _encoder(positions)


def _reason(error: Exception) -> str:
    """Why an image cannot be read, without the addresses and names that would differ each time or tell a class."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow accepts"
    return " ".join(str(error).split()) or type(error).__name__
