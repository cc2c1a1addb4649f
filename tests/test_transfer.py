"""Transfers end with the right file, or with a sentence and with what has arrived kept."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty_server import Server, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dacsm.runtime import addresses
from dacsm.runtime import fetching as transfers
from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import transfer
from dacsm.runtime.hashes import Expected

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
EXPECTED = Expected(len(CONTENT), SHA256)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.bin").write_bytes(CONTENT)
    with serving(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def _in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(addresses, "CHUNK", 10_000)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw/file.bin"


def fetch(server: Server, target: Path, expected: Expected = EXPECTED) -> str:
    return transfer([f"{server.url}/file.bin"], target, expected)


def left_in(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_arrives_whole(server: Server, target: Path) -> None:
    assert fetch(server, target) == SHA256
    assert target.read_bytes() == CONTENT
    assert left_in(target) == ["file.bin"]


def test_a_cut_connection_is_resumed_by_itself(server: Server, target: Path) -> None:
    server.faults.cut_after, server.faults.cuts = 70_000, 3
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert [asked for _, asked in server.faults.requests] == [None, "bytes=70000-", "bytes=140000-", "bytes=210000-"]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.integers(1, 3), after=st.integers(1, 299_999), ranges=st.booleans(), length=st.booleans())
def test_wherever_it_is_cut_the_bytes_are_right(
    server: Server, target: Path, cuts: int, after: int, ranges: bool, length: bool
) -> None:
    target.unlink(missing_ok=True)
    faults = server.faults
    faults.cut_after, faults.cuts, faults.ranges, faults.length = after, cuts, ranges, length
    try:
        fetch(server, target)
    except InputError:  # without a length nobody can see the cut, but the size is known
        assert not length
        assert not target.exists()
    else:
        assert target.read_bytes() == CONTENT


def test_a_server_that_goes_away_and_comes_back(server: Server, target: Path) -> None:
    server.faults.cut_after, server.faults.status_after_cuts = 70_000, 503
    with pytest.raises(InputError, match=r"HTTP 503 .*70,000 bytes are kept, and the next run goes on from there"):
        fetch(server, target)
    assert not target.exists()
    server.faults.status = None
    fetch(server, target)
    assert server.faults.requests[-1][1] == "bytes=70000-"
    assert target.read_bytes() == CONTENT


def test_a_killed_process_is_resumed_by_the_next(server: Server, target: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from dacsm.runtime import fetching as t\nfrom dacsm.runtime.hashes import Expected\n"
        "from dacsm.runtime.progress import TransferProgress\n"
        "from dacsm.runtime import addresses\n"
        "addresses.CHUNK = 1000\n"
        "TransferProgress.advance = lambda self, size: time.sleep(0.01)\n"
        "t.transfer([sys.argv[1]], Path(sys.argv[2]), Expected())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, f"{server.url}/file.bin", str(target)])
    partial = target.with_name(".file.bin.partial")
    while not partial.exists() or partial.stat().st_size < 20_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = partial.stat().st_size
    assert 0 < have < len(CONTENT)
    fetch(server, target)
    assert server.faults.requests[-1][1] == f"bytes={have}-"
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_on_the_server_starts_anew(server: Server, target: Path) -> None:
    partial = target.with_name(".file.bin.partial")
    partial.write_bytes(b"of the old file")
    origin = {"url": f"{server.url}/file.bin", "validator": '"old"'}
    partial.with_name(f"{partial.name}.json").write_text(json.dumps(origin))
    fetch(server, target, Expected())
    assert target.read_bytes() == CONTENT


def test_parts_of_another_mirror_need_a_hash(server: Server, target: Path) -> None:
    partial = target.with_name(".file.bin.partial")
    for expected, asked in ((Expected(), None), (EXPECTED, "bytes=1000-")):
        partial.write_bytes(CONTENT[:1000])
        partial.with_name(f"{partial.name}.json").write_text('{"url": "http://other/file.bin", "validator": null}')
        fetch(server, target, expected)
        assert server.faults.requests[-1][1] == asked
        assert target.read_bytes() == CONTENT


def test_mirrors_are_tried_in_order(server: Server, target: Path, tmp_path: Path) -> None:
    closed = "http://127.0.0.1:9/file.bin"
    other = tmp_path / "with a space"
    other.mkdir()
    (other / "file.bin").write_bytes(CONTENT)
    urls = [closed, f"{server.url}/gone.bin", (other / "missing").as_uri(), (other / "file.bin").as_uri()]
    assert transfer(urls, target, EXPECTED) == SHA256
    target.unlink()
    with pytest.raises(InputError) as error:
        transfer(urls[:3], target, EXPECTED)
    sentence = str(error.value)
    for reason in ("127.0.0.1:9/file.bin cannot be reached", "gone.bin answers HTTP 404", "No such file"):
        assert reason in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("faults", "expected", "sentence"),
    [
        ({"flip": 150_000}, EXPECTED, "has a sha256 that begins with .*, expected"),
        ({"flip": 150_000}, Expected(md5=hashlib.md5(CONTENT).hexdigest()), "has a md5 that begins with .*, expected"),
        ({"page": True}, Expected(), "answers with a web page instead of the file"),
        ({}, Expected(bytes=299_999), "has a file of 300,000 bytes, expected 299,999"),
        ({"length": False}, Expected(bytes=299_999), "has at least 300,000 bytes, expected 299,999"),
        ({"status": 403}, Expected(), "answers HTTP 403"),
    ],
)
def test_a_wrong_file_is_never_kept(
    server: Server, target: Path, faults: dict[str, object], expected: Expected, sentence: str
) -> None:
    for name, value in faults.items():
        setattr(server.faults, name, value)
    with pytest.raises(InputError, match=f"{sentence}.*by hand"):
        fetch(server, target, expected)
    assert left_in(target) == []


def test_a_page_that_claims_to_be_a_file_is_noticed(server: Server, target: Path) -> None:
    (server.folder / "file.bin").write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(InputError, match="is a web page"):
        fetch(server, target, Expected())
    assert left_in(target) == []


def test_room_is_asked_for_before_the_first_byte(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"has room for 1,000 bytes, but file.bin needs 300,000 more; free the place"):
        fetch(server, target)
    assert left_in(target) == []


def test_proxies_of_the_environment_are_used(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    transfer(["http://example.org/file.bin"], target, EXPECTED)
    assert server.faults.requests == [("http://example.org/file.bin", None)]


@pytest.mark.parametrize("url", ["ftp://example.org/file.bin", "file.bin", "http://"])
def test_other_addresses_are_refused(url: str, target: Path) -> None:
    with pytest.raises(InputError, match="is no http, https, s3 or file address"):
        transfer([url], target, Expected())
