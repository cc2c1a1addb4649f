"""Fetch a file over HTTP or from a file:// URL: resumed where it broke off, and taken for whole once it is checked.

What has arrived lies in `.<file>.partial`, which survives a kill; beside it `.<file>.partial.json` says where it came
from. Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), as the library `requests` reads them.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests

from dacsm.runtime.errors import InputError
from dacsm.runtime.files import unwritable, write_json
from dacsm.runtime.identity import Expected, Mismatch, identify
from dacsm.runtime.progress import transfer_progress

CHUNK = 1 << 14  # bytes; what has arrived of a chunk is lost when the connection breaks
TIMEOUT = (30, 60)  # seconds: to connect, and without a byte
ATTEMPTS = 4  # without a byte in between, before a mirror is given up
FIRST_PAUSE = 1.0  # seconds before the second attempt; it doubles with each


class Refused(Exception):
    """A mirror does not have the file; its text is the reason, and trying again would not help."""


class Broken(Exception):
    """The connection broke; trying again may help."""


@dataclass(frozen=True)
class Transfer:
    """An open transfer: the byte at which it starts, the size of the whole file if it is told, and the bytes."""

    start: int
    total: int | None
    chunks: Iterable[bytes]
    validator: str | None = None  # what tells this version of the file from a later one


def transfer(urls: Sequence[str], target: Path, expected: Expected) -> str:
    """Fetch `target` from the first of the mirrors that has it.

    Returns:
        Its sha256.

    Raises:
        InputError: where no mirror has the file that is expected, or there is no room for it. What has arrived of it
            stays, and the next call goes on from there.
    """
    partial = target.with_name(f".{target.name}.partial")
    reasons = []
    for url in urls:
        try:
            _fetch(url, partial, target, expected)
            found = identify(partial, expected, kind=target.name)
        except Refused as error:
            reasons.append(f"{url} {error}")
        except Mismatch as error:
            reasons.append(f"what {url} sends {error}")
            _forget(partial)
        else:
            partial.replace(target)
            _forget(partial)
            return found
    kept = f" {_size(partial):,} bytes are kept, and the next run goes on from there;" if _size(partial) else ""
    by_hand = "try again later, or fetch it by hand"
    raise InputError(f"{target} could not be fetched, since {'; and '.join(reasons)};{kept} {by_hand}")


def _fetch(url: str, partial: Path, target: Path, expected: Expected) -> None:
    """Bring the partial file to its end, through as many connections as it takes."""
    attempts = 0
    with transfer_progress(target.name) as progress:
        while True:
            before = _size(partial)
            try:
                with _open(url, partial, target.name, expected) as stream:
                    _require_room(partial, target, stream, expected)
                    progress.start(stream.start, stream.total or expected.bytes)
                    _write(stream, partial, url, progress.advance, expected.bytes)
                if stream.total is None or _size(partial) == stream.total:
                    return
                reason = "the server hung up"
            except (Broken, requests.RequestException) as error:
                reason = str(error) if isinstance(error, Broken) else _short(error)
            attempts = 1 if _size(partial) > before else attempts + 1
            if attempts == ATTEMPTS:
                raise Refused(f"cannot be reached or breaks off ({reason})")
            time.sleep(FIRST_PAUSE * 2 ** (attempts - 1))


def _write(stream: Transfer, partial: Path, url: str, advance: Callable[[int], None], most: int | None) -> None:
    """Append what arrives; a stream that goes on after `most` bytes is refused, as it may have no end."""
    if stream.start == 0:
        write_json(_origin(partial), {"url": url, "validator": stream.validator})
    with partial.open("r+b" if stream.start else "wb", buffering=0) as file:
        file.truncate(stream.start)
        file.seek(stream.start)
        for chunk in stream.chunks:
            rest = memoryview(chunk)
            try:
                while rest:  # a nearly full disk takes a part first, and says so only then
                    rest = rest[file.write(rest) :]
            except OSError as error:  # the disk is full after all, since others write to it as well
                raise unwritable(partial, error) from error
            if most is not None and file.tell() > most:
                raise Mismatch(f"has at least {file.tell():,} bytes, expected {most:,}")
            advance(len(chunk))


@contextmanager
def _open(url: str, partial: Path, name: str, expected: Expected) -> Iterator[Transfer]:
    """The file's bytes from where the partial file ends, or from its beginning where they may not fit together."""
    have, validator = _resumable(url, partial, expected)
    try:
        address = urlsplit(url)
    except ValueError as error:
        raise Refused(f"is no address ({error})") from error
    if address.scheme == "file":
        with _open_file(Path(unquote(address.path)), have) as stream:
            _require_size(stream, expected)
            yield stream
        return
    headers = {"Accept-Encoding": "identity"}  # bytes as they are, so that they can be counted
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
    response = _get(url, headers)
    with response:
        if response.status_code == 416:  # there is nothing behind what we have
            _forget(partial)
            raise Broken("the server has fewer bytes than had arrived, so that it starts anew")
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise Broken(f"HTTP {response.status_code} {response.reason}")
        if response.status_code not in (200, 206):
            raise Refused(f"answers HTTP {response.status_code} {response.reason}")
        stream = _stream(response, have)
        if "html" in response.headers.get("Content-Type", "") and not name.endswith(".html"):
            raise Refused("answers with a web page instead of the file, as hosts do that want a person to click")
        _require_size(stream, expected)
        yield stream


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.ConnectionError, requests.Timeout):
        raise  # these are worth another attempt
    except requests.TooManyRedirects as error:
        raise Refused("leads from one address to the next without end") from error
    except requests.exceptions.InvalidHeader as error:
        raise Refused(f"answers with what cannot be read ({_short(error)})") from error
    except (requests.RequestException, ValueError) as error:  # also a host's name that cannot be one
        raise Refused(f"is no http, https or file address ({error})") from error


def _stream(response: requests.Response, have: int) -> Transfer:
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdecimal() else None
    start = 0
    if response.status_code == 206:
        place = response.headers.get("Content-Range", "")  # bytes 100-199/200
        first, _, whole = place.removeprefix("bytes ").partition("/")
        if not first.startswith(f"{have}-"):
            raise Refused(f"answers with other bytes than those asked for ({place!r})")
        start, total = have, int(whole) if whole.isdecimal() else total and have + total
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
    if validator and validator.startswith("W/"):
        validator = None  # a weak one does not promise the same bytes
    return Transfer(start, total, response.iter_content(CHUNK), validator)


@contextmanager
def _open_file(path: Path, have: int) -> Iterator[Transfer]:
    try:
        if path.exists() and not path.is_file():
            raise Refused("is no plain file")  # a device may have no end
        with path.open("rb") as file:
            total = path.stat().st_size
            file.seek(have if have <= total else 0)
            yield Transfer(file.tell(), total, iter(lambda: file.read(CHUNK), b""))
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from error


def _resumable(url: str, partial: Path, expected: Expected) -> tuple[int, str | None]:
    """How many bytes of the partial file can be kept, and what the server may be asked about them.

    Bytes of another mirror are kept only where a hash will tell whether they fit together.
    """
    try:
        origin = json.loads(_origin(partial).read_text(encoding="utf-8"))
        same = origin["url"] == url
        validator = origin["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        same, validator = False, None
    if not same and not expected.hashed:
        return 0, None
    return _size(partial), validator if same else None


def _require_size(stream: Transfer, expected: Expected) -> None:
    if expected.bytes is not None and stream.total is not None and stream.total != expected.bytes:
        raise Refused(f"has a file of {stream.total:,} bytes, expected {expected.bytes:,}")


def _require_room(partial: Path, target: Path, stream: Transfer, expected: Expected) -> None:
    """Raise InputError where the rest of the file has no room; ask before the first byte, not after the last."""
    missing = (stream.total or expected.bytes or 0) - stream.start
    room = shutil.disk_usage(partial.parent).free + (0 if stream.start else _size(partial))
    if missing > room:
        raise InputError(
            f"{target.parent} has room for {room:,} bytes, but {target.name} needs {missing:,} more; free the place, "
            "or set `root` in params.yaml to a larger disk, and run again."
        )


def _origin(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _origin(partial).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _short(error: Exception) -> str:
    """The last and plainest part of a chain of errors within errors."""
    while isinstance(getattr(error, "reason", None) or (error.args and error.args[0]), Exception):
        error = getattr(error, "reason", None) or error.args[0]
    return str(error).rpartition(": ")[2] or type(error).__name__
