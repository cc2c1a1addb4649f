"""What clumsy and hostile users do to the commands, a line a situation: each ends soon, in one sentence.

`test_hostile_data.py` has such tables for settings, datasets' files, folders of images, archives and shards.
"""

import io
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from faulty_server import answering
from made_up_runs import make_runs
from PIL import Image
from safetensors.torch import save
from small_model import MODEL

from dacsm.cli.main import main
from dacsm.config.datasets import load_dataset
from dacsm.config.params import Shard, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.encoding import Encoder
from dacsm.data.shards import FORMAT_VERSION
from dacsm.evaluation.classify import Classified, classify, load_trained
from dacsm.ledger import compare
from dacsm.ledger.audit.traces import files_findings, missing
from dacsm.ledger.cell import describe_cell
from dacsm.ledger.runs import run_of
from dacsm.models.classifier import Classifier, Description
from dacsm.report import published
from dacsm.report.costs import costs_csv
from dacsm.report.measured import collect, evaluated_metrics
from dacsm.runtime import addresses, fetching, resume
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import open_cached, transfer
from dacsm.runtime.files import exchanged, read_json, write_text
from dacsm.runtime.hashes import Expected, Hashes

PROJECT = Path(__file__).parents[1]
INDEX = Path("data/shards/digits/synthetic/index.json")
TRAIN = "pretrain digits synthetic --seed 0 --device cpu"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings and datasets of this project, and no data."""
    (tmp_path / "workflow").symlink_to(PROJECT / "workflow")
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def holding(content: str) -> Callable[[], None]:
    """What puts an index.json with this content among the shards."""
    return lambda: write_text(INDEX, content)


def linked(target: str) -> Callable[[], None]:
    return lambda: (Path("params.yaml").unlink(), Path("params.yaml").symlink_to(target))


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


COMMANDS = [
    # situation, how it comes about, command, what is said
    ("a seed of 67 bits", None, "pretrain digits synthetic --seed 99999999999999999999", "from 0 to 4294967295"),
    ("a seed of 5,000 digits", None, f"pretrain digits synthetic --seed {'9' * 5000}", "from 0 to 4294967295"),
    ("no cores", None, "verify --cores 0", "'0' is not a whole number from 1"),
    ("a letter in the workers", None, f"{TRAIN} --workers many", "--workers: invalid int value: 'many'"),
    ("a misspelt class", None, "cell visda dacsm trukc", "has no cell 'trukc'; near are truck"),
    ("a misspelt method", None, "cell visda dascm truck", "has no 'dascm'; near are dacsm"),
    ("a cell without a name", None, "cell visda dacsm ''", "has no cell ''; it has aeroplane"),
    ("a command's name for a phase", None, "audit --phase adapt", "--phase is 'adapt', expected one of downloaded, "),
    ("a device that computes nothing", None, "predict m.safetensors . --device meta", "--device is 'meta', which this"),
    ("a checkpoint that is a device", None, "predict /dev/null .", "/dev/null was not found|has no pictures"),
    ("codes that a terminal obeys", None, "table \x1b[31m", r"no entry for '\\x1b\[31m'"),
    ("a name that is no UTF-8", None, "table \udcff --log log", r"no entry for '\\udcff'"),
    ("a disk that is full for the log", None, "table nothing --log /dev/full", "no entry for 'nothing'"),
    ("settings that are a ring of links", linked("params.yaml"), "table digits", "cannot be read .*symbolic links"),
    ("settings that are a dead link", linked("nowhere"), "table digits", "params.yaml was not found; run from the"),
    ("settings that are a device", linked("/dev/zero"), "table digits", "has more than 4,194,304 bytes"),
    ("settings that are empty", linked("/dev/null"), "table digits", "the file is empty, but it should be a mapping"),
    ("settings in a folder", None, "table digits --params .", "cannot be read .*Is a directory"),
    ("another folder than the project's", None, "table digits --params ../params.yaml", "was not found; run from the"),
    ("no shards yet", None, TRAIN, "index.json was not found; make it with `dacsm shard digits synthetic`"),
    ("an index nested without end", holding("[" * 100_000), TRAIN, "index.json cannot be read .*recursion"),
    ("an index that is a list", holding("[1]"), TRAIN, r"holds \[1\], expected an object\); remove it and make it"),
    ("an index with half a number", holding('{"format_version": NaN}'), TRAIN, "holds NaN, which is no number"),
    ("an index of a later version", holding(json.dumps({"format_version": FORMAT_VERSION + 1})), TRAIN, "expected 2;"),
    ("a folder for an index", lambda: INDEX.mkdir(parents=True), TRAIN, "index.json cannot be read .*Is a directory"),
    ("a file for a folder of shards", lambda: write_text(INDEX.parent, "x"), TRAIN, "is a file, expected a folder of"),
    ("an archive without its receipt", None, "shard digits mnist", "not found; make it with `dacsm download digits"),
    ("a file for the results", lambda: write_text(Path("results"), "x"), TRAIN, "results is no folder; move what lies"),
    (
        "results that lead nowhere",
        lambda: Path("results").symlink_to("/nowhere/x"),
        TRAIN,
        "results is no folder; move",
    ),
    (
        "results that only the system writes",
        lambda: Path("results").symlink_to("/proc/self"),
        TRAIN,
        "cannot be written",
    ),
    ("no git", lambda: os.environ.update(PATH="/nowhere"), "compare HEAD HEAD", "the program git was not found"),
    (
        "a commit that looks like an option",
        lambda: git(Path(), "init"),
        "compare -- --all HEAD",
        "'--all' is no commit, tag or branch",
    ),
]


@pytest.mark.parametrize(("prepare", "command", "sentence"), [c[1:] for c in COMMANDS], ids=[c[0] for c in COMMANDS])
def test_commands(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[], Any] | None,
    command: str,
    sentence: str,
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])  # put back at the end
    if prepare:
        prepare()
    before = sorted(path for path in project.rglob("*") if path.name != "log")
    try:
        code = main([word.replace("''", "") for word in command.split(" ")])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr().err
    assert code == 2
    assert printed.startswith("dacsm: ")
    assert (printed.count("\n"), "\x1b" in printed) == (1, False)
    assert re.search(sentence, printed), printed
    assert sorted(path for path in project.rglob("*") if path.name != "log") == before  # nothing lost, nothing left


SHELLS = [
    # situation, line of a shell, exit code, what is said
    ("standard output is closed", "python -m dacsm schema >&-", 0, ""),
    ("both outputs are closed", "python -m dacsm table nothing >&- 2>&-", 2, ""),
    ("who reads stops", "python -m dacsm schema | :", 0, ""),
    ("the disk is full for the output", "python -m dacsm schema >/dev/full", 2, "No space left on device; free the"),
    ("a terminal of ASCII", "PYTHONIOENCODING=ascii python -m dacsm schema >/dev/null", 0, ""),
    ("the language C", "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 python -m dacsm schema >/dev/null", 0, ""),
    ("no home", "env -u HOME python -m dacsm table nothing", 2, "no entry for 'nothing'"),
    (
        "a folder that is gone",
        "mkdir gone; cd gone; rmdir ../gone; python -m dacsm audit",
        2,
        "params.yaml was not found",
    ),
]


@pytest.mark.parametrize(("line", "code", "sentence"), [s[1:] for s in SHELLS], ids=[s[0] for s in SHELLS])
def test_shells(project: Path, line: str, code: int, sentence: str) -> None:
    python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", "-c", line],
        env={**os.environ, "PATH": python, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended.returncode == code
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == bool(sentence)


def said_of(work: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", ["often", "-1", "nan"])
def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    for name, read in (
        ("DACSM_SAVE_EVERY", resume._save_every),
        ("DACSM_CACHE_GB", lambda: open_cached("http://127.0.0.1:1/x.tar", 3, "a" * 64)),
    ):
        monkeypatch.setenv(name, value)
        assert f"{name} is '{value}', expected " in said_of(read)
    monkeypatch.setenv("DACSM_CACHE_GB", "1")
    (tmp_path / "file").touch()
    for folder, words in (
        ("~nosuchuser/x", "in the home folder of nobody"),
        (str(tmp_path / "file"), "move what lies"),
    ):
        monkeypatch.setenv("DACSM_CACHE", folder)
        assert words in said_of(read)


OK = b"HTTP/1.1 200 OK\r\n"
PART = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes "
SERVERS = [
    # situation, answer, what is said; five bytes are expected, and two have arrived already
    ("it is broken", b"HTTP/1.1 500 No\r\n\r\n", r"cannot be reached or breaks off \(HTTP 500 No\)"),
    ("it wants a password", b"HTTP/1.1 401 Unauthorized\r\n\r\n", "answers HTTP 401 Unauthorized"),
    ("it has nothing", b"HTTP/1.1 204 No Content\r\n\r\n", "answers HTTP 204"),
    ("it hangs", b"", r"breaks off \(Read timed out"),
    ("it hangs half-way", OK + b"Content-Length: 5\r\n\r\nab", r"breaks off \(Read timed out"),
    ("it speaks another language", b"hello\r\n\r\n", "breaks off"),
    ("it sends its codes to the terminal", b"HTTP/1.1 403 \x1b[31mred\r\n\r\n", r"HTTP 403 \\x1b\[31mred"),
    ("its headers have no end", OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n", "breaks off .*LineTooLong"),
    ("its pieces have no length", OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc", "breaks off"),
    ("its gzip is none", OK + b"Content-Encoding: gzip\r\n\r\nnone", "breaks off"),
    (
        "it leads to a file here",
        b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n\r\n",
        "is no http, https, s3 or fil",
    ),
    ("it leads nowhere", b"HTTP/1.1 302 F\r\nLocation: http://[::1/x\r\n\r\n", "is no http, https, s3 or file address"),
    ("it sends another part", PART + b"0-4/5\r\n\r\nabcde", "answers with other bytes than those asked for"),
    ("it does not say which part", b"HTTP/1.1 206 P\r\n\r\ncde", "answers with other bytes than those asked for"),
    ("it lies about the size", PART + b"2-4/999999\r\n\r\ncde", "has a file of 999,999 bytes, expected 5"),
    ("it sends too much", OK + b"\r\n" + b"x" * 9_000, "sends has at least 9,000 bytes, expected 5"),
    ("it has less than before", b"HTTP/1.1 416 Range Not Satisfiable\r\n\r\n", "fewer bytes than had arrived"),
]


@pytest.mark.parametrize(("answer", "sentence"), [s[1:] for s in SERVERS], ids=[s[0] for s in SERVERS])
def test_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, sentence: str) -> None:
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(addresses, "TIMEOUT", (1, 0.05))
    target = tmp_path / "file.bin"
    with answering(answer, hold=0.1 if "timed out" in sentence else 0) as url:
        (tmp_path / ".file.bin.partial").write_bytes(b"ab")
        (tmp_path / ".file.bin.partial.json").write_text(json.dumps({"url": url, "validator": None}))
        said = said_of(lambda: transfer([url], target, Expected(5)))
    assert re.search(sentence, said), said
    assert "try again later, or fetch it by hand" in said
    assert not target.exists()


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


RED = Image.new("RGB", (20, 10), (200, 100, 50))
TURNED = Image.Exif()
TURNED[0x0112] = 6  # the orientation that a camera notes
IMAGES = [
    # situation, file, the reason why it is unreadable or the colour of all its pixels
    ("no bytes", b"", "not an image in a known format"),
    ("a web page", b"<html></html>", "not an image in a known format"),
    ("no pixels", png_that_says(0, 0), "not an image in a known format"),
    ("a bomb of 3.6 thousand million pixels", png_that_says(60_000, 60_000), "more pixels than Pillow accepts"),
    ("a PNG that is cut", encoded(Image.effect_noise((64, 64), 50), "PNG")[:900], "image file is truncated"),
    ("a JPEG that is cut", encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900], "image file is truncated"),
    ("one pixel", encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), (1, 2, 3)),
    ("one line", encoded(RED.resize((5000, 1)), "PNG"), (200, 100, 50)),
    ("CMYK", encoded(RED.convert("CMYK"), "TIFF"), (200, 100, 50)),
    ("a palette with a transparent colour", encoded(RED.quantize(2), "PNG", transparency=0), (200, 100, 50)),
    ("transparent pixels", encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 0)), "PNG"), (255, 0, 0)),
    ("one bit a pixel", encoded(Image.new("1", (9, 9), 1), "PNG"), (255, 255, 255)),
    ("an animation", encoded(RED, "GIF", save_all=True, append_images=[RED.point(lambda _: 0)]), (200, 100, 50)),
    ("a photograph that was turned", encoded(RED, "PNG", exif=TURNED), (200, 100, 50)),
]


@pytest.mark.parametrize(("content", "expected"), [i[1:] for i in IMAGES], ids=[i[0] for i in IMAGES])
def test_images(content: bytes, expected: str | tuple[int, int, int]) -> None:
    """An unreadable image has a reason; of the others the first frame is taken, as its pixels lie in the file."""
    settings = Shard(image_size=8, encoding="png", images_per_shard=10)
    found = Encoder(SimpleNamespace(image=lambda _: content), settings, 3)(0)
    if isinstance(found, str):
        assert isinstance(expected, str)
        assert expected in found
    else:
        assert np.abs(np.asarray(Image.open(io.BytesIO(found))).astype(int) - expected).max() <= 3


def header(**changed: Any) -> dict[str, str]:
    said = {"model": MODEL.model_dump_json(), "classes": json.dumps(list("0123456789"))}
    return {"dacsm": json.dumps(said | changed)}


CHECKPOINTS = [
    # situation, header, tensors that are left out, what is said
    ("of another program", {}, "", "is not a checkpoint of dacsm, as its header says nothing of a model"),
    ("no JSON", {"dacsm": "{"}, "", "is no checkpoint of dacsm .*; name another"),
    ("a list", {"dacsm": "[]"}, "", "is no checkpoint of dacsm .*; name another"),
    ("no classes", header(classes="3"), "", "is no checkpoint of dacsm .*; name another"),
    ("fewer classes than it tells", header(classes='["a", "b"]'), "", "is no checkpoint of dacsm .*head.weight"),
    ("a tensor is missing", header(), "head.weight", "is no checkpoint of dacsm .*head.weight"),
    ("no model", header(model="{}"), "", r"name is missing; add it"),
]


@pytest.mark.parametrize(("said", "without", "sentence"), [c[1:] for c in CHECKPOINTS], ids=[c[0] for c in CHECKPOINTS])
def test_checkpoints(tmp_path: Path, said: dict[str, str], without: str, sentence: str) -> None:
    state = Classifier(Description(MODEL, tuple("0123456789"))).state_dict()
    path, picture = tmp_path / "model.safetensors", tmp_path / "a.png"
    path.write_bytes(save({key: value for key, value in state.items() if key != without}, metadata=said))
    RED.save(picture)
    found = said_of(lambda: list(classify(load_trained(path), [picture], 1, Compute(torch.device("cpu")))))
    assert re.search(sentence, found), found


@pytest.mark.parametrize("value", ["NaN", "1e999", '"70"', "-1", "null", "true"])
def test_a_number_that_is_no_percentage_reaches_no_table(tmp_path: Path, value: str) -> None:
    dataset, paths = load_dataset("visda"), Paths(tmp_path)
    make_runs(dataset, load_params(PROJECT / "params.yaml").experiments["visda"], paths)
    run = ("dacsm", "synthetic-real", 0)
    path = paths.evaluated("visda", *run) / "metrics.json"
    written = json.loads(path.read_text())
    written["selected"]["overall"] = "HERE"
    path.write_text(json.dumps(written).replace('"HERE"', value))
    assert "metrics.json" in (found := said_of(lambda: evaluated_metrics(dataset, run, paths)))
    assert "again with `dacsm evaluate visda dacsm synthetic-real --seed 0`" in found


@pytest.mark.parametrize("content", ["[1]", "{}", "{", '{"stage": "adapt", "settings": 1}'])
def test_a_run_record_that_says_nothing(tmp_path: Path, content: str) -> None:
    dataset, params, paths = load_dataset("visda"), load_params(PROJECT / "params.yaml"), Paths(tmp_path)
    experiment = params.experiments["visda"]
    make_runs(dataset, experiment, paths)
    project = Project(params, dataset, paths)
    record = run_of(project, "adapt", method="dacsm", task="synthetic-real", seed=0).record
    write_text(record, content)
    for read in (
        lambda: list(describe_cell(project, "visda", "dacsm", "truck", None)),
        lambda: costs_csv(collect(dataset, experiment, paths), paths),
    ):
        assert str(record) in said_of(read)


@pytest.mark.parametrize("content", ["{}", "[1]", '{"file": 5, "sha256": 1}'])
def test_a_receipt_that_says_nothing(tmp_path: Path, content: str) -> None:
    project = Project(load_params(PROJECT / "params.yaml"), load_dataset("digits"), Paths(tmp_path))
    run = run_of(project, "download", archive="mnist")
    write_text(run.outputs[0], content)
    (finding,) = files_findings(run, project, lambda _: "")
    assert "mnist.json cannot be read (" in finding.text
    assert finding.text.endswith("make it again with `dacsm download digits mnist`.")


def test_a_checkpoint_that_was_removed_comes_back_as_is_said(tmp_path: Path) -> None:
    """Plain `snakemake` looks at tables, and finds nothing to do."""
    project = Project(load_params(PROJECT / "params.yaml"), load_dataset("digits"), Paths(tmp_path))
    run = run_of(project, "adapt", method="dacsm", task="synthetic-mnist", seed=0)
    assert missing(run.outputs[0], run).text.endswith("make it with `snakemake --cores all digits_adapted`.")


METRICS, RECORD = "results/digits_metrics.json", "results/digits/records/sharded/mnist.json"
COMMITS = [
    # situation, file of the second commit, its content, what is said
    ("metrics that are cut", METRICS, "{", "digits_metrics.json in .* is damaged"),
    ("metrics that are a list", METRICS, "[1]", "digits_metrics.json in .* is damaged"),
    ("metrics without a number", METRICS, '{"a": {"b": {"overall": NaN}}}', "is damaged .it holds NaN"),
    ("a record that is cut", RECORD, "{", "mnist.json in .* is damaged"),
    ("a record that is a list", RECORD, "[1]", "mnist.json in .* is damaged"),
    ("a record that says nothing", RECORD, "{}", "mnist.json in .* is damaged .'arguments'.; name another commit"),
]


@pytest.fixture
def commits(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit of results; DVC, which takes seconds, finds no difference."""
    monkeypatch.setattr(compare, "_dvc", lambda *_: {})
    git(project, "init", "--quiet")
    write_text(project / METRICS, "{}")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "one")
    return project


@pytest.mark.parametrize(("file", "content", "sentence"), [c[1:] for c in COMMITS], ids=[c[0] for c in COMMITS])
def test_committed_results_that_are_damaged(commits: Path, file: str, content: str, sentence: str) -> None:
    assert compare.compare("HEAD", "HEAD", ["digits"])["tables"] == {"digits": []}
    write_text(commits / file, content)
    git(commits, "add", ".")
    git(commits, "commit", "--quiet", "--message", "two")
    said = said_of(lambda: compare.compare("HEAD~1", "HEAD", ["digits"]))
    assert re.search(sentence, said), said


def test_where_a_commit_is_not(commits: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> None:
    git(commits, "commit", "--quiet", "--allow-empty", "--message", "two")
    shallow = tmp_path_factory.mktemp("clones") / "shallow"
    git(commits, "clone", "--quiet", "--depth", "1", f"file://{commits}", str(shallow))
    for folder, words in (
        (commits, "`git log --oneline` lists the commits"),
        (shallow, "`git fetch --unshallow` brings the rest"),
        (shallow.parent, "this folder is in no git repository"),
    ):
        monkeypatch.chdir(folder)
        assert words in said_of(lambda: compare.compare("HEAD~7", "HEAD", []))


def test_published_numbers_as_spreadsheets_save_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, dataset = (published.PUBLISHED / "visda.csv").read_text(encoding="utf-8"), load_dataset("visda")
    expected = published.read_published(dataset)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    (tmp_path / "visda.csv").write_text(f"\ufeff{text}", encoding="utf-8", newline="\r\n")
    assert published.read_published(dataset) == expected
    for content in (text.encode("utf-16"), f"{text}é".encode("latin-1", "replace"), b"\x00"):
        (tmp_path / "visda.csv").write_bytes(content)
        assert "visda.csv " in said_of(lambda: published.read_published(dataset))


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """A file of the future could change without its times telling, so that it is read each time."""
    (tmp_path / "file").write_text("content")
    os.utime(tmp_path / "file", (time.time() + 9000,) * 2)
    hashes = Hashes(tmp_path / "memory.json")
    hashes(tmp_path / "file")
    assert not hashes.known


# Writing.


def test_files_that_grow_too_large(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    write_text(tmp_path / "x", "as it was")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        said = said_of(lambda: write_text(tmp_path / "x", "y" * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "x cannot be written: File too large; allow larger files (`ulimit -f`) and run again" in said
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "as it was")]


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/nowhere/x")
    for place in ("folder", "link/x", "x" * 300, "/proc/x/y"):
        assert " cannot be written: " in said_of(lambda place=place: write_text(tmp_path / place, "x"))


def test_two_that_write_into_one_folder(tmp_path: Path) -> None:
    """The second waits for nobody and spoils nothing; a worker that outlives a killed run keeps nobody out."""
    with exchanged(tmp_path, ["a"]) as new:
        (new / "a").write_text("first")
        assert "another process is writing into" in said_of(lambda: exchanged(tmp_path, ["a"]).__enter__())
        heard, told = os.pipe()
        worker = os.fork()
        if not worker:
            os.write(told, b"1")
            time.sleep(60)
            os._exit(0)
        os.read(heard, 1)
    try:
        with exchanged(tmp_path, ["a"]) as new:
            assert (tmp_path / "a").read_text() == "first"
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_a_name_that_the_terminal_cannot_show(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, said = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, "ascii"))
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(said, "ascii"))
    found = [
        Classified("é\udcff.png", (("côte", 0.5),)),
        Classified("a\nb\x1b[31m.png", (("c", 1.0),)),
        Classified("é\udcff.png", problem="ö"),
    ]
    monkeypatch.setattr("dacsm.data.pictures.count_pictures", lambda _paths: len(found))
    monkeypatch.setattr("dacsm.evaluation.classify.load_trained", lambda _path: None)
    monkeypatch.setattr("dacsm.evaluation.classify.classify", lambda *_: iter(found))
    assert main(["predict", "x", "y", "--device", "cpu"]) == 1
    sys.stdout.flush()
    sys.stderr.flush()
    assert shown.getvalue() == b"\\xe9\\udcff.png\tc\\xf4te\t0.5000\na\\nb\\x1b[31m.png\tc\t1.0000\n"
    assert b"1 of 3 pictures could not be read" in said.getvalue()


def test_json_of_another_kind(tmp_path: Path) -> None:
    for content in ("", "null", "\ufeff{}", '{"a": -Infinity}', f'{{"a": {"9" * 5000}}}', "\x00" * 100):
        (tmp_path / "x.json").write_text(content)
        said = said_of(lambda: read_json(tmp_path / "x.json", "dacsm shard"))
        assert "x.json cannot be read (" in said
        assert said.endswith("remove it and make it again with `dacsm shard`.")
