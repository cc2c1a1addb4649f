"""Weights files of others: tensors by name, from safetensors or from torch's pickles, whose code is never run."""

import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from dacsm.runtime.errors import InputError

WRAPPERS = ("model", "state_dict")  # keys under which a checkpoint may hold its tensors
PARALLEL = "module."  # what DataParallel puts before every name


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without the wrapping and the prefix that training programs add.

    Raises InputError where the file is missing, damaged, holds pickled code, or holds anything but tensors.
    """
    if not path.is_file():
        raise InputError(f"{path} was not found, expected a file of weights (.pth or .safetensors); correct the path.")
    state = _load(path)
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise InputError(f"{path} holds {_kind(state)}, expected tensors by name; save a state dict.")
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path} holds {_kind(value)} under {key!r}, expected a tensor; save a state dict alone.")
    return {str(key).removeprefix(PARALLEL): value for key, value in state.items()}


def misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being those that are wanted, a line a tensor; empty where they fit."""
    lines = [f"{key} is missing" for key in wanted if key not in state]
    for key, value in state.items():
        if key not in wanted:
            lines.append(f"{key} is unexpected")
        elif value.shape != wanted[key].shape:
            found, expected = ("×".join(map(str, one.shape)) or "a number" for one in (value, wanted[key]))
            lines.append(f"{key} is {found}, expected {expected}")
        elif not value.isfinite().all():
            lines.append(f"{key} has values that are not finite")
    return lines


def first_of(lines: Sequence[str]) -> str:
    """The first three in a sentence, and how many more there are."""
    return "; ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")


def _load(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"):  # about old pickles
            return torch.load(path, map_location="cpu", weights_only=True)  # builds tensors, runs nothing
    except pickle.UnpicklingError as error:  # its text advises to run the file after all
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = f"holds pickled code ({code[1]})" if code else "is damaged, or a pickle of other things than tensors"
        raise InputError(f"{path} {found}, and is not run; have it saved as a state dict, of tensors alone.") from error
    except Exception as error:  # torch and safetensors raise whatever a damaged file leads them to
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}); fetch it again, or give another."
        ) from error


def _kind(value: object) -> str:
    return f"an object of type {type(value).__name__}"
