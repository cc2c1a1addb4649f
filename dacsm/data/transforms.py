"""From stored images to what the model sees: random views for training, the centre view for everything else."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dacsm.config.params import Augment, Model
from dacsm.data.seeding import numpy_generator

DRAWS = 8  # numbers a view takes: crop top, crop left, flip; then the five of a warp


@dataclass(frozen=True)
class TrainViews:
    """The random views of one stream in one epoch; with `scales`, objects come at scales from the least to the largest.

    The draws are a table, a row a position, so that a view depends on (seed, epoch, stream, position) alone and on no
    worker's state.
    """

    model: Model
    augment: Augment
    draws: np.ndarray  # (positions, DRAWS) in [0, 1)
    scales: tuple[float, float] | None = None

    def __call__(self, image: Image.Image | np.ndarray, position: int) -> Tensor:
        """A training view, uint8 (C, size, size): squash, warp, random crop, flip."""
        image = _squash(image, self.model)
        top, left, flip, *warp = self.draws[position]
        warp = 2 * np.array(warp, dtype=np.float64) - 1
        if self.scales is not None:
            low, high = map(math.log, self.scales)
            image = _rescaled(_as_image(image), math.exp((low + high + warp[1] * (high - low)) / 2))
            warp[1] = 0
        augment = self.augment
        if augment.rotate or augment.zoom or augment.shear or augment.shift:  # else there is nothing to interpolate
            image = _warp(_as_image(image), augment, warp)
        size = self.model.image_size
        room = self.model.resize - size + 1
        return _cropped(image, int(top * room), int(left * room), size, augment.flip and flip < 0.5)


def train_views(
    model: Model, augment: Augment, positions: int, *names: int | str, scales: tuple[float, float] | None = None
) -> TrainViews:
    """The views named by `names`, such as (seed, epoch, "source"), for an epoch of that many positions."""
    draws = numpy_generator("views", *names).random((positions, DRAWS), dtype=np.float32)
    return TrainViews(model, augment, draws, scales)


def centre_view(image: Image.Image | np.ndarray, model: Model, scale: float = 1.0) -> Tensor:
    """The view for features and evaluation, uint8 (C, size, size): squash, rescale about the centre, centre crop."""
    margin = (model.resize - model.image_size) // 2
    image = _squash(image, model)
    if scale != 1:
        image = _rescaled(_as_image(image), scale)
    return _cropped(image, margin, margin, model.image_size)


def normalise(pixels: Tensor, model: Model) -> Tensor:
    """uint8 (B, C, H, W) to float32, less the mean, over the deviation."""
    mean, std = (_channels(values, pixels.device) for values in (model.mean, model.std))
    return pixels.float().div_(255).sub_(mean).div_(std)


@lru_cache
@torch.inference_mode(False)  # else a first call in a feature pass would leave tensors that training cannot use
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A number for each channel, (C, 1, 1), on the device; each copy there would wait for the device."""
    return torch.tensor(values, device=device).view(-1, 1, 1)


def _squash(image: Image.Image | np.ndarray, model: Model) -> Image.Image | np.ndarray:
    side = (model.resize, model.resize)
    if (image.size if isinstance(image, Image.Image) else tuple(image.shape[1:])) == side:
        return image
    return _as_image(image).resize(side, Image.Resampling.BILINEAR)


def _as_image(image: Image.Image | np.ndarray) -> Image.Image:
    """A PIL image, also of an array uint8 (C, H, W)."""
    if isinstance(image, Image.Image):
        return image
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))


def _planes(image: Image.Image | np.ndarray) -> np.ndarray:
    """The pixels (C, H, W) of an array, or of an image of mode L or RGB; not to be written to.

    Pillow hands colours out line by line, the reds of a line before its greens and blues: a crop then moves whole
    lines, where pixel by pixel it would move single bytes, which takes several times as long.
    """
    if not isinstance(image, Image.Image):
        return image
    if image.mode != "RGB":
        return np.asarray(image)[None]
    lines = np.frombuffer(image.tobytes("raw", "RGB;L"), dtype=np.uint8)
    return lines.reshape(image.height, 3, image.width).transpose(1, 0, 2)


def _cropped(image: Image.Image | np.ndarray, top: int, left: int, size: int, flip: bool = False) -> Tensor:
    """A square of the image as uint8 (C, size, size), mirrored or not."""
    square = _planes(image)[:, top : top + size, left : left + size]
    return torch.from_numpy(np.array(square[..., ::-1] if flip else square, order="C"))


def _rescaled(image: Image.Image, scale: float) -> Image.Image:
    """Objects `scale` times as large about the centre, in an image of the same size, whose edge goes on outside it."""
    if scale >= 1:
        left, top = (side * (1 - 1 / scale) / 2 for side in image.size)
        return image.resize(image.size, Image.Resampling.BILINEAR, (left, top, image.width - left, image.height - top))
    width, height = (max(1, round(side * scale)) for side in image.size)
    small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    top, left = (image.height - height) // 2, (image.width - width) // 2
    margins = [(top, image.height - height - top), (left, image.width - width - left), (0, 0)][: small.ndim]
    return Image.fromarray(np.pad(small, margins, mode="edge"))


def _warp(image: Image.Image, augment: Augment, draws: np.ndarray) -> Image.Image:
    """Rotate, zoom, shear and shift about the centre, in one interpolation; what comes from outside is black.

    `draws` are five numbers in [-1, 1): angle, zoom, shear, right, down.
    """
    angle, zoom, shear, right, down = draws
    radians = math.radians(angle * augment.rotate)
    cos, sin = math.cos(radians), math.sin(radians)  # NumPy's own depend on the processor
    rotation = np.array([[cos, sin], [-sin, cos]])
    matrix = rotation @ np.array([[1, shear * augment.shear], [0, 1]]) / (1 + zoom * augment.zoom)
    middle = np.array([image.width, image.height]) / 2
    offset = middle - matrix @ (middle + np.array([right, down]) * augment.shift * image.width)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])  # from a place in the view to one in the image
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
