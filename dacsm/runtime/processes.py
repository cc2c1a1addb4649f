"""Which process of a run this is, and what is its own to do: `torchrun` says so to each that it starts."""

import os


def count() -> int:
    """How many processes make the run together; 1 where `torchrun` did not start this one."""
    return _told("WORLD_SIZE", 1)


def count_here() -> int:
    """How many of them are on this machine."""
    return _told("LOCAL_WORLD_SIZE", 1)


def rank() -> int:
    """Which of the processes this is, from 0."""
    return _told("RANK", 0)


def rank_here() -> int:
    """Which of those on this machine this is, from 0."""
    return _told("LOCAL_RANK", 0)


def first() -> bool:
    """Whether this is the process that writes files and tells people."""
    return rank() == 0


def own(size: int, of: int | None = None) -> slice:
    """Which of `size` things are this process's part, or that of the process `of`.

    Parts follow each other in the order of the processes. Things too few for each to have one are everyone's.
    """
    if size < count():
        return slice(0, size)
    place = rank() if of is None else of
    return slice(size * place // count(), size * (place + 1) // count())


def _told(name: str, alone: int) -> int:
    return int(os.environ[name]) if "TORCHELASTIC_RUN_ID" in os.environ else alone
