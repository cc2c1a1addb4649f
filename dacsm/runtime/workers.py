"""How many processes may read or write images."""

from dacsm.runtime.errors import InputError

MOST_WORKERS = 512


def require_workers(workers: int) -> None:
    """Raise InputError for a number of processes that no machine runs."""
    if not 0 <= workers <= MOST_WORKERS:
        raise InputError(f"--workers is {workers}, expected 0 to {MOST_WORKERS}; correct it.")
