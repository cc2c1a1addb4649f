"""Decoded images of any kind as grey or colour images with 8 bits a channel, for shards and for `dacsm predict`."""

import numpy as np
from PIL import Image


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
