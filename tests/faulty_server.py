"""A web server on 127.0.0.1 that hands out files with Range support, and fails in the ways that one asks of it."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Faults:
    """What goes wrong, and what was asked for."""

    cut_after: int | None = None  # bytes of an answer after which the connection is cut
    cuts: int = 1  # how often
    status_after_cuts: int | None = None  # the HTTP error with which it then answers
    flip: int | None = None  # the byte of the file that is sent with a bit changed
    page: bool = False  # a web page instead of the file
    status: int | None = None  # an HTTP error
    ranges: bool = True  # whether parts of a file can be asked for
    length: bool = True  # whether the size is told
    lengths: str | None = None  # told in place of the size
    redirect: bool = False  # to the same address, for ever
    etag: str = '"one"'
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range of each


@dataclass
class Server:
    """An address, its faults, and the folder that it serves."""

    folder: Path
    url: str
    faults: Faults


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Server]:
    """Serve the files of a folder until the block ends."""
    server = Server(folder, "", Faults())

    class Handler(_Handler):
        serves = server

    with _Http(("127.0.0.1", port), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def answering(answer: bytes, hold: float = 0.0) -> Iterator[str]:
    """The address of a server that answers every request with these bytes, and then keeps the line for `hold` s."""

    def serve() -> None:
        while True:
            try:
                line, _ = listening.accept()
            except OSError:  # the block has ended
                return
            with closing(line), suppress(OSError):
                line.recv(1 << 16)
                line.sendall(answer)
                time.sleep(hold)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/file.bin"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


class _Http(ThreadingHTTPServer):
    def handle_error(self, *request: object) -> None:
        """Say nothing of clients that hang up, as those do that find a wrong size."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*request)


class _Handler(BaseHTTPRequestHandler):
    serves: Server

    def do_GET(self) -> None:
        faults, path = self.serves.faults, urlsplit(self.path).path  # a proxy is asked for whole addresses
        asked = self.headers.get("Range")
        faults.requests.append((self.path, asked))
        file = self.serves.folder / path.lstrip("/")
        if faults.status or not file.is_file():
            self.send_error(faults.status or 404)
            return
        if faults.redirect:
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
            return
        content = bytearray(file.read_bytes())
        if faults.page:
            content = bytearray(b"<!DOCTYPE html><html><body>Please sign in to download.</body></html>")
        if faults.flip is not None:
            content[faults.flip] ^= 1
        first = 0
        if asked and faults.ranges and self.headers.get("If-Range", faults.etag) == faults.etag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if first > len(content) or (first == len(content) and first):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if faults.length:
            self.send_header("Content-Length", faults.lengths or str(len(content) - first))
        self.send_header("ETag", faults.etag)
        self.send_header("Content-Type", "text/html" if faults.page else "application/octet-stream")
        self.end_headers()
        rest = bytes(content[first:])
        if faults.cut_after is not None and faults.cuts > 0:
            faults.cuts -= 1
            rest = rest[: faults.cut_after]
            faults.status = faults.status or faults.status_after_cuts
        self.wfile.write(rest)  # the connection closes with the answer, since this is HTTP/1.0

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
