"""Matrix products that give the same bits on every x86-64 processor with AVX2: `arithmetic: portable` of a recipe.

The libraries behind torch choose their code by the processor. `dacsm.runtime.processor` holds ATen, oneDNN and OpenBLAS
to AVX2. MKL, which makes the products, cannot be held on all brands without much loss. But its codes agree where an
element is a sum of at most 192 terms and no side of the product is shorter than 16: each then is a chain of fused
multiplications and additions, in the order of the terms. So longer sums are cut, and shorter sides are filled with
zeros. MKL's functions of single values disagree in their last bit; rounded from float64 they agree.
"""

import os
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.runtime.errors import InputError
from dacsm.runtime.processor import VARIABLES, X86

MOST_TERMS, SHORTEST_SIDE = 192, 16
FUNCTIONS = ("sqrt", "exp", "log", "erf", "erfinv", "log1p", "expm1", "tanh")

_REPLACED: list[torch.library.Library] = []  # what torch's operations are replaced by, until the process ends


def choose_arithmetic(arithmetic: str, threads: int) -> None:
    """Compute on CPUs as a recipe says, until it is called again; threads change the order of sums as well.

    Raises:
        InputError: where torch was loaded without the variables that portable arithmetic needs.
    """
    torch.set_num_threads(threads)
    if arithmetic == "native":
        _REPLACED.clear()
    elif X86 and torch.backends.cpu.get_cpu_capability().lower() != VARIABLES["ATEN_CPU_CAPABILITY"]:
        unset = " ".join(f"{name}={value}" for name, value in VARIABLES.items() if os.environ.get(name) != value)
        raise InputError(f"arithmetic is portable, but torch was loaded without {unset}; use the command `dacsm`.")
    elif not _REPLACED:
        _REPLACED.append(_replacements())


def _replacements() -> torch.library.Library:
    """Replaces operations on CPUs, as long as what it gives is kept."""
    library = torch.library.Library("aten", "IMPL", "CPU")
    for name, function in {"mm": _product, "bmm": _product, "addmm": _biased, "baddbmm": _biased}.items():
        library.impl(name, function)
    for name in FUNCTIONS:
        rounded = partial(_from_float64, getattr(torch, name))
        library.impl(name, rounded)
        library.impl(f"{name}_", lambda values, rounded=rounded: values.copy_(rounded(values)))
    return library


def _product(left: Tensor, right: Tensor) -> Tensor:
    """(M, K) and (K, N) to (M, N), or (B, M, K) and (B, K, N) to (B, M, N)."""
    rows, columns = left.shape[-2], right.shape[-1]
    if min(rows, columns) >= SHORTEST_SIDE:
        return _sum(None, left, right)
    left = F.pad(left, (0, 0, 0, max(0, SHORTEST_SIDE - rows)))
    right = F.pad(right, (0, max(0, SHORTEST_SIDE - columns)))
    return _sum(None, left, right)[..., :rows, :columns].contiguous()


def _biased(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta · bias, of a shape that spreads to the product's, + alpha · left · right."""
    short = min(left.shape[-2], right.shape[-1]) < SHORTEST_SIDE or left.shape[-1] == 1
    if short or (beta, alpha) != (1, 1):
        return beta * bias + alpha * _product(left, right)
    return _sum(bias, left, right)


def _sum(first: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """left · right, added to `first` where there is one; in pieces, of which none has a single term."""
    multiply, add = (torch.mm, torch.addmm) if left.dim() == 2 else (torch.bmm, torch.baddbmm)
    out = left.new_empty(*left.shape[:-1], right.shape[-1])
    pieces = -(-left.shape[-1] // MOST_TERMS)
    if pieces <= 1 or left.dtype != torch.float32:
        return multiply(left, right, out=out) if first is None else add(first, left, right, out=out)
    for a, b in zip(left.tensor_split(pieces, -1), right.tensor_split(pieces, -2), strict=True):
        first = multiply(a, b, out=out) if first is None else add(first, a, b, out=out)
    return out


def _from_float64(function: Callable[..., Tensor], values: Tensor) -> Tensor:
    """A function of each value, (…) to (…); integers give float32, as always."""
    wide = values.double()
    dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    return function(wide, out=torch.empty_like(wide)).to(dtype)
