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
from dacsm.data.raw import Samples
from dacsm.data.raw.members import DamagedMemberError

JPEG = {"quality": 95, "subsampling": 0}
RESAMPLE = Image.Resampling.BILINEAR  # as CDTrans, which squashes to the square as well
CHUNK = 32  # images that a process takes at a time


Encoded = bytes | str  # an image as it goes into a shard, or the reason why it is unreadable


@dataclass(frozen=True)
class Encoder:
    """Turns samples into encoded images."""

    samples: Samples
    settings: Shard
    channels: int

    def __call__(self, position: int) -> Encoded:
        try:
            raw = self.samples.image(position)
        except DamagedMemberError as error:
            return str(error)
        try:
            return self._encode(raw if isinstance(raw, Image.Image) else Image.open(io.BytesIO(raw)))
        except Exception as error:  # Pillow's decoders raise whatever damage makes them raise
            return _reason(error)

    def _encode(self, image: Image.Image) -> bytes:
        image = eight_bits(image, self.channels)
        size = (self.settings.image_size, self.settings.image_size)
        if image.size != size:
            image = image.resize(size, RESAMPLE)
        file = io.BytesIO()
        image.save(file, self.settings.encoding, **(JPEG if self.settings.encoding == "jpeg" else {}))
        return file.getvalue()


def encoded_images(encoder: Encoder, order: np.ndarray, workers: int = 1) -> Iterator[Encoded]:
    """The images at the positions `order` (N,), in that order; `workers` processes work a little ahead."""
    if workers < 2:
        yield from map(encoder, order.tolist())
        return
    chunks = (order[first : first + CHUNK].tolist() for first in range(0, len(order), CHUNK))
    with ProcessPoolExecutor(workers, initializer=_start, initargs=(encoder,)) as pool:
        waiting: deque[Future[list[Encoded]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_work, chunk))
                if len(waiting) > 2 * workers:  # memory stays flat however many images there are
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_encoder: Encoder  # of a worker


def _start(encoder: Encoder) -> None:
    """Give a worker its encoder, once."""
    global _encoder
    _encoder = encoder


def _work(positions: list[int]) -> list[Encoded]:
    return [_encoder(position) for position in positions]


def _reason(error: Exception) -> str:
    """Why an image cannot be read, without the addresses and names that would differ each time or tell a class."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow accepts"
    return " ".join(str(error).split()) or type(error).__name__


def eight_bits(image: Image.Image, channels: int) -> Image.Image:
    """The image in mode L for 1 channel, RGB for 3; 16 bits are scaled by their whole range, 0 to 65,535.

    Raises ValueError for pixels whose range no format states, 32-bit integers and floating point numbers.
    """
    if image.mode.startswith("I;16"):  # Pillow would clip them
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        kind = "floating point numbers" if image.mode == "F" else "32-bit integers"
        raise ValueError(f"its pixels are {kind}, whose range is not known; save it with 8 or 16 bits")
    return image.convert("L" if channels == 1 else "RGB")
