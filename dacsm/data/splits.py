"""Which images of a domain are kept apart."""

import numpy as np

from dacsm.data.seeding import numpy_generator


def held_out(images: int, fraction: float) -> np.ndarray:
    """Which of a source's images are kept out of training, (images,) bool; the same for every seed and stage."""
    mask = np.zeros(images, dtype=bool)
    mask[numpy_generator("held out").permutation(images)[: round(fraction * images)]] = True
    return mask
