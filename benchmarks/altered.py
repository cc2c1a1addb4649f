"""Targets to develop on, from labelled photographs alone: half of them as they are, and the other half in other looks.

    tar --extract --file data/raw/pacs_160/pacs.tar          # a folder for each domain
    python -m benchmarks.altered photo altered && dacsm init altered

From `<class>/<image>`, folders `<domain>/<class>/<image>`: `clean`, and each look of the other half, whole and with
thinned classes. Their labels are known and belong to no task that is reported.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dacsm.data.seeding import numpy_generator

KEPT = (1, 0.3, 1, 0.5, 0.2, 1, 0.5)  # of the images of each class, in turn


def _noisy(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32) * 0.5 + 64
    return Image.fromarray((pixels + generator.normal(0, 40, pixels.shape)).clip(0, 255).astype("uint8"))


LOOKS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "solarised": lambda image, generator: ImageOps.solarize(image, 100),
    "negative": lambda image, generator: ImageOps.invert(image),
    "noisy": _noisy,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.altered", description=__doc__.split("\n")[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    generator = numpy_generator("altered")
    folders = sorted(path for path in options.photographs.iterdir() if path.is_dir())
    for folder, kept in zip(folders, cycle(KEPT), strict=False):
        files = sorted(folder.iterdir())
        order = generator.permutation(len(files))
        clean, others = order[: len(files) // 2], order[len(files) // 2 :]
        for index, place in enumerate([*clean, *others]):
            with Image.open(files[place]) as opened:
                image = opened.convert("RGB")
            looks = {"clean": image}
            if index >= len(clean):
                looks = {name: alter(image, generator) for name, alter in LOOKS.items()}
                if index - len(clean) < round(kept * len(others)):
                    looks |= {f"{name}_thinned": look for name, look in looks.items()}
            for name, look in looks.items():
                path = options.out / name / folder.name / f"{files[place].stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                look.save(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
