"""Blocks that torch compiles: `compile: true` of a recipe. It makes a step faster on a GPU, and changes roundings."""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

from dacsm.runtime.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

_backend: str | None = None  # by which torch compiles at present; None: it does not


def choose_compiling(compile: bool, backend: str = "inductor") -> None:
    """Compile what is `compilable`, or not, until this is called again."""
    global _backend
    _backend = backend if compile else None


def compilable(function: Callable[P, R]) -> Callable[P, R]:
    """A function that is compiled in training, where a recipe asks for it.

    Passes without gradients stay as they are: their batches differ in size, and each size would be compiled anew. So
    the function must draw nothing and read no number that changes with the step or the layer.
    """

    @wraps(function)
    def chosen(*arguments: P.args, **options: P.kwargs) -> R:
        if _backend is None or not torch.is_grad_enabled():
            return function(*arguments, **options)
        return _compiled(function, _backend)(*arguments, **options)

    return chosen


@cache
def _compiled(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    compiled = torch.compile(function, backend=backend, dynamic=False)

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return compiled(*arguments, **options)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"compile is true, but torch cannot compile here ({reason}); set the recipe's compile to false."
            ) from error

    return run
