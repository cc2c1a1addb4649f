"""The bytes behind an address: http, https, file, and s3 where the package s3fs is installed.

Proxies are those of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), as the library `requests` reads them; so are
the credentials of s3, as s3fs reads them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import requests

from dacsm.runtime.errors import InputError

CHUNK = 1 << 14  # bytes; what has arrived of a chunk is lost when the connection breaks
TIMEOUT = (30, 60)  # seconds: to connect, and without a byte


class Refused(Exception):
    """The file is not there for us; its text is the reason, and trying again would not help."""


class Broken(Exception):
    """The connection broke; trying again may help."""


class Shrunk(Broken):
    """The file has fewer bytes than had arrived of it."""


@dataclass(frozen=True)
class Transfer:
    """An open transfer: the byte at which it starts, the size of the whole file if it is told, and the bytes."""

    start: int
    total: int | None
    chunks: Iterable[bytes]
    validator: str | None = None  # what tells this version of the file from a later one


@contextmanager
def open_address(url: str, have: int, validator: str | None, name: str) -> Iterator[Transfer]:
    """The bytes of the file `name` from byte `have` on, or from its beginning where that cannot be asked for.

    Raises:
        Refused: where it is not there.
        Broken: where another attempt may help; `requests.ConnectionError` and `requests.Timeout` say the same.
    """
    try:
        address = urlsplit(url)
    except ValueError as error:
        raise Refused(f"is no address ({error})") from error
    if address.scheme in ("file", "s3"):
        file, total = _stored(url) if address.scheme == "s3" else _local(Path(unquote(address.path)))
        with file:
            file.seek(have if have <= total else 0)
            yield Transfer(file.tell(), total, iter(lambda: _piece(file), b""))
        return
    headers = {"Accept-Encoding": "identity"}  # bytes as they are, so that they can be counted
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
    with _get(url, headers) as response:
        if response.status_code == 416:  # there is nothing behind what we have
            raise Shrunk("the server has fewer bytes than had arrived, so that it starts anew")
        if response.status_code in (408, 429) or response.status_code >= 500:
            raise Broken(f"HTTP {response.status_code} {response.reason}")
        if response.status_code not in (200, 206):
            raise Refused(f"answers HTTP {response.status_code} {response.reason}")
        found = _transfer(response, have)
        if "html" in response.headers.get("Content-Type", "") and not name.endswith(".html"):
            raise Refused("answers with a web page instead of the file, as hosts do that want a person to click")
        yield found


def short(error: Exception) -> str:
    """The last and plainest part of a chain of errors within errors."""
    while isinstance(getattr(error, "reason", None) or (error.args and error.args[0]), Exception):
        error = getattr(error, "reason", None) or error.args[0]
    return str(error).rpartition(": ")[2] or type(error).__name__


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.ConnectionError, requests.Timeout):
        raise  # these are worth another attempt
    except requests.TooManyRedirects as error:
        raise Refused("leads from one address to the next without end") from error
    except requests.exceptions.InvalidHeader as error:
        raise Refused(f"answers with what cannot be read ({short(error)})") from error
    except (requests.RequestException, ValueError) as error:  # also a host's name that cannot be one
        raise Refused(f"is no http, https, s3 or file address ({error})") from error


def _transfer(response: requests.Response, have: int) -> Transfer:
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


def _local(path: Path) -> tuple[BinaryIO, int]:
    try:
        if path.exists() and not path.is_file():
            raise Refused("is no plain file")  # a device may have no end
        return path.open("rb"), path.stat().st_size
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from error


def _stored(url: str) -> tuple[BinaryIO, int]:
    """A file of an object store, open, and its size."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        return system.open(path, "rb"), system.size(path)
    except ImportError as error:
        raise InputError(f"{url} needs the package s3fs, which is not installed; `pip install s3fs`.") from error
    except (FileNotFoundError, PermissionError) as error:
        raise Refused(f"cannot be read ({short(error)})") from error
    except Exception as error:  # the store's own classes; naming them would import its package
        raise Broken(short(error)) from error


def _piece(file: BinaryIO) -> bytes:
    try:
        return file.read(CHUNK)
    except Exception as error:  # as above
        raise Broken(short(error)) from error
