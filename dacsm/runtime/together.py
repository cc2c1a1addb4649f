"""One run on several processes, each with a part of every batch, that comes to what one process comes to.

Random numbers are drawn for the whole batch, by all alike, and each process takes those of its part; where images of a
batch meet (in batch statistics, and in a loss), they are gathered, and all compute the same. So every process has the
same weights, losses and random states as a run of one process, and a state that one of them saved is good for any
number of them. With one process, nothing here does anything.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from dacsm.runtime.processes import count, own

PATIENCE = timedelta(hours=2)  # the longest that processes wait for each other, as while the first makes pairs
BLOCK = 8192  # rows that are exchanged at once

_batch = 0  # images of the batch that is in parts now, each process having one; 0: none is


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Let the processes of the run, if there are several, reach each other."""
    if count() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    yield
    distributed.destroy_process_group()


@contextmanager
def in_parts(size: int) -> Iterator[None]:
    """Inside, batches are of `size` images, of which each process has its `own`; one stream of images or several."""
    global _batch
    before, _batch = _batch, size if 1 < count() <= size else 0
    try:
        yield
    finally:
        _batch = before


def whole(rows: int) -> int:
    """How many rows the whole batch has, where this process's part has so many."""
    return rows // _own_rows() * _batch if _batch else rows


def part(drawn: Tensor, dim: int = 0) -> Tensor:
    """This process's part of what was drawn for the whole batch."""
    return _part(drawn, _batch, dim) if _batch else drawn


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of one process, of those that this one has.

    Each process computes the same from there on. Its own rows get their gradient times the number of processes, so
    that the mean over processes (`average_gradients`) is right for what comes before and after.
    """
    return _Gathered.apply(rows, _batch) if _batch else rows


class _Gathered(torch.autograd.Function):
    """Rows (streams · own, …) to (streams · batch, …); a sum with zeros, since parts may differ in size."""

    @staticmethod
    def forward(context: Any, rows: Tensor, batch: int) -> Tensor:
        context.batch = batch
        found = rows.new_zeros(len(rows) // _own_rows(), batch, *rows.shape[1:])
        found[:, own(batch)] = rows.unflatten(0, (len(found), -1))
        distributed.all_reduce(found)
        return found.flatten(0, 1)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return count() * _part(gradient, context.batch, 0), None


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """After a backward pass: every gradient becomes its mean over the processes, in one exchange."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    means = (flat / count()).split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [mean.view_as(gradient) for mean, gradient in zip(means, gradients, strict=True)])


def complete(rows: Tensor, parts: Callable[[int], slice]) -> None:
    """Fill in the rows (N, …), on the CPU, that other processes made; `parts` says which are those of a process."""
    if count() == 1:
        return
    for source in range(count()):
        made = parts(source)
        for start in range(made.start, made.stop, BLOCK):
            distributed.broadcast(rows[start : min(start + BLOCK, made.stop)], source)


def of_first(made: Any) -> Any:
    """What the first process made, for all."""
    if count() == 1:
        return made
    found = [made]
    distributed.broadcast_object_list(found, device=torch.device("cpu"))
    return found[0]


def wait_for_all() -> None:
    """Go on once all processes are here."""
    if count() > 1:
        distributed.all_reduce(torch.zeros(1))


def _own_rows() -> int:
    rows = own(_batch)
    return rows.stop - rows.start


def _part(values: Tensor, batch: int, dim: int) -> Tensor:
    rows = own(batch)
    by_stream = values.unflatten(dim, (-1, batch)).narrow(dim + 1, rows.start, rows.stop - rows.start)
    return by_stream.flatten(dim, dim + 1)
