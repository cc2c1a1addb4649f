"""The one place that seeds. Every generator is named by what it is for, so that no draw disturbs another."""

import hashlib

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """A 63-bit seed from a seed and names, such as (seed, "pairs", epoch)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator named by `parts`."""
    return np.random.Generator(np.random.PCG64(derive(*parts)))


def torch_generator(device: torch.device, *parts: int | str) -> torch.Generator:
    """A torch generator on `device`, named by `parts`."""
    return torch.Generator(device).manual_seed(derive(*parts))


def seed_torch(*parts: int | str) -> None:
    """Seed torch's global generators, which initialise weights and draw drop paths."""
    torch.manual_seed(derive(*parts))
