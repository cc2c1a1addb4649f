"""Classified pictures for people and programs: lines, JSON, or a table; pictures that cannot be read on stderr."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dacsm.evaluation.classify import Classified
from dacsm.runtime.errors import InputError, printable
from dacsm.runtime.files import whole_file

DIGITS = 6  # decimals of a probability in files


def _readable(results: Iterable[Classified], unreadable: list[Classified]) -> Iterator[Classified]:
    """The pictures that could be read; the others are collected, and named on stderr with the reason."""
    for result in results:
        if result.problem is None:
            yield result
        else:
            unreadable.append(result)
            path = printable(result.path)
            print(f"dacsm: {path} cannot be read ({result.problem}) and is left out.", file=sys.stderr)


def print_classified(results: Iterable[Classified], as_json: bool) -> int:
    """Print each picture's path and classes; how many could not be read."""
    unreadable: list[Classified] = []
    for result in _readable(results, unreadable):
        if as_json:
            best = [{"class": name, "probability": round(chance, DIGITS)} for name, chance in result.classes]
            print(json.dumps({"path": result.path, "classes": best}, ensure_ascii=False))
        else:
            columns = [f"{name}\t{chance:.4f}" for name, chance in result.classes]
            print("\t".join([printable(result.path), *columns]))  # so that a line stays a line
    return len(unreadable)


def write_classified(file: Path, results: Iterable[Classified], classes: Sequence[str] = ()) -> int:
    """Write a row for each picture as it comes: path, class, probability, and the probability of each of `classes`.

    The file is there once it is whole. Texts are in quotes, whatever is in them; bytes of a name that are not UTF-8 are
    written as \\udc80 to \\udcff. Returns how many pictures could not be read, which have no row. Raises InputError
    where the file cannot be written.
    """
    if file.is_dir():
        raise InputError(f"--csv is {file}, which is a folder; name a file in it.")
    unreadable: list[Classified] = []
    with whole_file(file) as partial, partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["path", "class", "probability", *classes])
        for result in _readable(results, unreadable):
            (name, chance), chances = result.classes[0], dict(result.classes)
            numbers = [chance, *(chances[one] for one in classes)]
            writer.writerow([result.path, name, *(round(number, DIGITS) for number in numbers)])
    return len(unreadable)
