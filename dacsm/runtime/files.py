"""Writing files whole or not at all, and hashing them."""

import csv
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from zipfile import BadZipFile

from dacsm.runtime.errors import InputError

ALLOW = "allow writing there, or set `root` in params.yaml to another folder,"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free the place"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), ALLOW),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "move what lies in its place"),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EFBIG: "allow larger files (`ulimit -f`)",
    errno.EMFILE: "allow more open files (`ulimit -n`)",
}
SHOWN = 40  # characters of what a file holds instead
# What readers of CSV, JSON and arrays raise where a file is damaged, or is something else.
UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, OverflowError, EOFError, MemoryError, RecursionError),
    *(csv.Error, BadZipFile),
)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it otherwise.

    Raises InputError where the folder cannot be made or written to, or the disk is full.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        partial = Path(name)
        yield partial
        partial.chmod(0o644)  # mkstemp makes private files, results are for everyone
        partial.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@contextmanager
def exchanged(folder: Path, own: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder inside `folder`; on success its files take the place of an earlier set of them.

    `own` are the patterns of the earlier files that go. The first names the file that goes first and comes last, so
    that a set without it is seen to be a part. Raises InputError where the folder cannot be made or written to, another
    process is at it, or the disk is full.
    """
    new = folder / ".new.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone_in(folder):
            shutil.rmtree(new, ignore_errors=True)  # what a run that was killed has left
            try:
                new.mkdir()
                yield new
                for old in [file for pattern in own for file in folder.glob(pattern)]:
                    old.unlink()
                for file in sorted(new.iterdir(), key=lambda file: file.name == own[0]):
                    file.replace(folder / file.name)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise unwritable(folder, error) from error


_HELD: list[int] = []  # the handles of the folders that this process alone writes into


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder, as far as its file system knows of locks."""
    _HELD.append(os.open(folder, os.O_RDONLY))
    try:
        try:
            fcntl.flock(_HELD[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is writing into {folder}; wait for its end, and run again.") from error
        except OSError:  # some network file systems lock no folders
            pass
        yield
    finally:
        os.close(_HELD.pop())


# A worker that outlives its run, which was killed, must not keep the next one out.
# For mypy: close returns nothing, and the list is thrown away
os.register_at_fork(after_in_child=lambda: [os.close(_HELD.pop()) for _ in range(len(_HELD))])  # type: ignore[func-returns-value]


def unwritable(path: Path, error: OSError) -> InputError:
    """What to say where a file or folder cannot be written."""
    remedy = REMEDIES.get(error.errno or 0, "mend that")
    return InputError(f"{path} cannot be written: {error.strerror or error}; {remedy} and run again.")


def require_writable(folder: Path) -> None:
    """Raise InputError where it is clear, before any work, that nothing can be written into a folder."""
    there = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    if not there.is_dir():
        raise unwritable(folder, NotADirectoryError(errno.ENOTDIR, f"{there} is no folder"))
    if not os.access(there, os.W_OK):
        raise unwritable(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time go on that holds the lock; raises InputError where it cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise unwritable(path.parent, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_partials(folder: Path) -> None:
    """Remove the temporary files that a process which was killed has left in a folder, if there is such a folder."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows to `path` as CSV with Unix line ends."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


@contextmanager
def reading(path: Path, made_by: str) -> Iterator[None]:
    """Read a file that the command `made_by` makes; raises InputError where it is missing, or not as that makes it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} was not found; make it with `{made_by}`.") from error
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({error}); remove it and make it again with `{made_by}`.") from error


def read_json(path: Path, made_by: str) -> Any:
    """The object in a JSON file that the command `made_by` makes; raises InputError as `reading` does.

    Our commands write null where there is no number: NaN or Infinity would be averaged and drawn without a word.
    """
    with reading(path, made_by):
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)
        if not isinstance(found, dict):
            raise ValueError(f"it holds {str(found)[:SHOWN]}, expected an object")
        return found


def no_number(name: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's JSON has besides: json.loads(…, parse_constant=no_number)."""
    raise ValueError(f"it holds {name}, which is no number")


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
