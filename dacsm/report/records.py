"""What run records say, in words: short hashes, commits, times and memory."""

from collections.abc import Iterable, Mapping
from typing import Any

from dacsm.runtime.hashes import digest

HASH = 12  # digits of a hash that are shown
Record = Mapping[str, Any]


def distinct(values: Iterable[str]) -> str:
    """Each value once, in its order."""
    return ", ".join(dict.fromkeys(values))


def hashes_of(records: Iterable[Record], section: str) -> str:
    """The short hashes of a section of some records, `settings` or `code`; more than one where runs differ."""
    return distinct(digest(record[section])[:HASH] for record in records)


def data_of(records: Iterable[Record]) -> dict[str, str]:
    """The short hash of the index of each domain that the runs read, by the path of the index."""
    inputs = dict(entry for record in records for entry in record["inputs"].items())
    return {path: sha256[:HASH] for path, sha256 in inputs.items() if path.endswith("index.json")}


def commit_of(record: Record) -> str:
    """The commit of the code, and whether it had changes."""
    git = record["git"]
    return f"commit {git['commit'][:HASH]}{'' if git['clean'] else ' with changes'}" if git["commit"] else "no commit"


def memory_of(peak: Mapping[str, int], of_memory: str = "") -> str:
    """The most memory that a run held."""
    return f"{peak['ram']} MiB{of_memory}" + (f", {peak['cuda']} MiB on the GPU" if peak.get("cuda") else "")


def most_memory(records: Iterable[Record]) -> dict[str, int]:
    """The most of any run, in MiB, by where: ram and cuda."""
    peaks = [record["peak_memory_mb"] for record in records]
    return {where: max(peak.get(where, 0) for peak in peaks) for where in ("ram", "cuda")}


def duration(seconds: float) -> str:
    """12.3 s, 5 min or 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
