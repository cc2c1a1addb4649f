"""What a clumsy or hostile user gives: each ends soon, in one sentence that says what to do."""

import gzip
import io
import json
import math
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from faulty_server import serving
from PIL import Image

from dacsm.config import datasets as catalog
from dacsm.config.datasets import DatasetSpec, dataset_names, load_dataset
from dacsm.config.params import Params, load_params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.presets import Presets
from dacsm.config.project import Project
from dacsm.config.validation import validate
from dacsm.config.yaml_file import read_yaml
from dacsm.data.domains import open_domains
from dacsm.data.encoding import eight_bits
from dacsm.data.pictures import count_pictures, pictures
from dacsm.data.raw import archives, members
from dacsm.data.raw.describe import describe_folders
from dacsm.data.raw.members import DamagedMemberError, open_members
from dacsm.data.shards import ShardedImages, read_labels
from dacsm.runtime import fetching
from dacsm.runtime.device import Compute, choose_compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.fetching import transfer
from dacsm.runtime.files import unwritable, write_text
from dacsm.runtime.hashes import Expected
from dacsm.stages.download import download
from dacsm.stages.pretrain import pretrain
from dacsm.stages.shard import shard

PROJECT = Path(__file__).parents[1]
SOON = 20.0  # seconds; a busy machine is slow, and what hangs takes for ever


def refused(work: Callable[[], Any], sentence: str) -> None:
    """`work` ends soon, in one sentence that says this."""
    start = time.monotonic()
    with pytest.raises(InputError, match=sentence) as caught:
        work()
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < SOON


# YAML files.

LAUGHS = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\n", r"x\.yaml has the key 'c' a second time, in line 4; mend it there\.$"),
        ("{a: 1, 'a': 2}", "has the key 'a' a second time, in line 1"),
        ("base: &b {a: 1}\nc:\n  <<: *b\n  <<: *b\n", "has the key '<<' a second time, in line 4"),
        (LAUGHS, "stands for more than 100,000 values, in line 6"),
        ("[" * 100_000, "is nested more than 100 deep, in line 1"),
        ("".join(" " * depth + "a:\n" for depth in range(200)), "is nested more than 100 deep, in line 101"),
        ("a: &a [*a]", r"names \*a, which is nothing above that line, in line 1"),
        ("a: *b", r"names \*b, which is nothing above"),
        ("a: 2020-13-45", "is not YAML: month must be in"),
        ("? [a]\n: 1", "is not YAML: .*unhashable key"),
        ("a: 1\n---\na: 2", "is not YAML: expected a single document"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML: could not determine a constructor"),
        ("a: \x00", "is not YAML: .*control characters"),
        ("a: é".encode("latin-1"), "cannot be read .*; it should be a YAML file"),
        ("a: 1".encode("utf-16"), "cannot be read .*; it should be a YAML file"),
        (b"a" * 5_000_000, "has more than 4,194,304 bytes"),
        ("seeds: [010]", "has 010 without quotes, which YAML takes for another number, in line 1"),
        ("a: 1\nhours: 1:30", "has 1:30 without quotes, which YAML takes for another number, in line 2"),
        ("a:\n\tb: 1", "in line 2, column 1, where a tab is, and blanks should be"),
    ],
)
def test_yaml_that_no_person_means(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(lambda: read_yaml(path), sentence)


def test_yaml_that_persons_write(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufeffa: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": [{"x": 1, "y": 2}] * 2}
    path.write_bytes(b"\xef\xbb\xbfa: 0\r\nb: '010'\r\nc: 0.5\r\nd: 1e-3\r\n")  # as Windows' Notepad saves it
    assert read_yaml(path) == {"a": 0, "b": "010", "c": 0.5, "d": "1e-3"}
    refused(lambda: read_yaml(Path("/dev/zero")), "has more than 4,194,304 bytes")
    refused(lambda: load_params(tmp_path), "cannot be read .*Is a directory")


# params.yaml.


@pytest.fixture(scope="module")
def content() -> str:
    return (PROJECT / "params.yaml").read_text(encoding="utf-8")


PARAMS = [
    ("pretrain.digits.threads", 100_000, "threads is 100000, but it should be less than or equal to 1024"),
    ("pretrain.digits.epochs", 10**25, "epochs is 10{25}, but it should be less than or equal to 100000"),
    ("adapt.recipes.digits.batch_size", 10**12, "batch_size is 10{12}, but it should be less than or equal to"),
    ("shard.digits.image_size", 10**6, "image_size is 1000000, but it should be less than or equal to 4096"),
    ("shard.digits.images_per_shard", 0, "images_per_shard is 0, but it should be greater than or equal to 1"),
    ("experiments.digits.seeds", [True], r"experiments\.digits\.seeds\.0 is true or false, but it should be a number"),
    ("pretrain.digits.optimiser.clip_norm", True, "clip_norm is true or false, but it should be a number"),
    ("pretrain.digits.model.channels", True, r"channels is True, but|channels is true or false, but"),
    ("experiments.digits.seeds", [2**64], "seeds.0 is 18446744073709551616, but it should be less than 4294967296"),
    ("experiments.digits.seeds", 0, "seeds is 0, but it should be a list"),
    ("experiments.digits.seeds", [1.5], r"seeds\.0 is 1\.5, but it should be a whole number"),
    ("pretrain.digits.optimiser.learning_rate", math.inf, "learning_rate is inf, but it should be a finite number"),
    ("pretrain.digits.label_smoothing", math.nan, "label_smoothing is nan, but it should be a finite number"),
    ("adapt.methods.noise_fixed.noise.prior", math.nan, "prior is nan, but it should be a finite number"),
    ("resources.default.workers", 100_000, "workers is 100000, but it should be less than or equal to 512"),
    ("rescale.scales", [1, 10**9], "scales.1 is 1000000000, but it should be less than or equal to 100"),
    (
        "adapt.methods",
        {"m" * 300: {}},
        "adapt.methods.m{300} is 'm{79}…, but it should be 1 to 40 letters, digits or _",
    ),
    ("shard", {1: {}}, "shard.1 is 1, but it should be text"),
    ("shard", [1], r"shard is \[1\], but it should be a mapping"),
    ("adapt", None, "adapt is empty, but it should be a mapping"),
    ("pretrain.digits.augment.flip", "perhaps", "flip is 'perhaps', but it should be true or false"),
    ("pretrain.digits.model.dim", 10**9, "dim is 1000000000, but it should be less than or equal to 65536"),
    ("pretrain.digits.model.depth", 10**9, "depth is 1000000000, but it should be less than or equal to 1000"),
    ("pretrain.digits.optimiser.warmup_epochs", 1e300, "warmup_epochs is 1e.300, but it should be less than or equal"),
    ("pretrain.digits.optimiser.learning_rate", "0,1", "learning_rate is '0,1', but it should be a number"),
    ("pretrain.digits.held_out", "10%", "held_out is '10%', but it should be a number"),
    ("pretrain.digits.precision", "fp16", "precision is 'fp16', but it should be 'float32' or 'bfloat16'"),
    ("resources.default.gpus", 100_000, "gpus is 100000, but it should be less than or equal to 1024"),
    ("experiments.digits.seeds", [-1], "seeds.0 is -1, but it should be greater than or equal to 0"),
    ("experiments.digits.seeds", "0..9", r"seeds is '0\.\.9', but it should be a list"),
    (
        "experiments.digits.seeds",
        [date(2024, 1, 1)],
        r"seeds\.0 is datetime.date\(2024, 1, 1\), but it should be a whole",
    ),
    ("experiments.digits.methods", [False], r"methods\.0 is False, but it should be text"),  # what YAML makes of `off`
    ("shard.digits.url", "ftp://x/y", "url is 'ftp://x/y', but it should be an address that begins with https://"),
    ("folders", {"mine": None}, r"folders\.mine is empty, but it should be a mapping"),
    ("folders", {"my-photos": {"path": "x"}}, r"folders\.my-photos is 'my-photos', but it should be 1 to 40 letters"),
    ("folders", {"../x": {"path": "x"}}, r"folders\.\.\./x is '\.\./x', but it should be 1 to 40 letters"),
    ("folders", {"m" * 300: {"path": "x"}}, r"is 'm{79}…, but it should be 1 to 40 letters"),
    ("root", "~nosuchuser/x", "root: '~nosuchuser/x' is in the home folder of nobody; write the whole path"),
    ("root", "a\x00b", r"root: 'a\\x00b' has characters that no path should have"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), PARAMS, ids=[f"{key}-{n}" for n, (key, *_) in enumerate(PARAMS)])
def test_settings_that_no_run_can_have(content: str, key: str, value: Any, sentence: str) -> None:
    settings = Presets("params.yaml").resolve(yaml.safe_load(content))
    *path, last = key.split(".")
    part = settings
    for name in path:
        part = part[name]
    part[last] = value
    refused(lambda: parse_params(settings), f"^params.yaml: .*{sentence}.*; change it there\\.$")


@pytest.mark.parametrize("nothing", [None, [], "text", 3])
def test_a_file_of_settings_that_holds_none(nothing: Any) -> None:
    refused(lambda: parse_params(nothing), "params.yaml: the file is .*, but it should be a mapping; change it there")


def test_the_home_folder_is_meant_by_a_tilde(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    settings = Presets("params.yaml").resolve(yaml.safe_load(content)) | {"root": "~/runs"}
    settings["pretrain"]["digits"]["model"]["weights"] = "~/vit.pth"
    params = parse_params(settings)
    assert (params.root, params.pretrain["digits"].model.weights) == ("/home/me/runs", "/home/me/vit.pth")


@pytest.mark.parametrize("workers", [-3, 100_000])
def test_processes_that_no_machine_runs(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, workers: int
) -> None:
    sentence = f"--workers is {workers}, expected 0 to 512"
    refused(lambda: choose_compute("cpu", workers), sentence)
    refused(lambda: shard(Project(tiny_params, tiny_dataset, Paths(tmp_path)), "mnist", workers), sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"held_out": 0.99999},
            r"pretrain\.tiny\.batch_size is 16, but .*synthetic has only 0 images to train on, where",
        ),
        (
            {"batch_size": 100},
            r"batch_size is 100, but .*synthetic has only 54 images to train on, where held_out is 0\.1",
        ),
    ],
)
def test_more_in_a_batch_than_there_is(
    tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, change: dict[str, float], sentence: str
) -> None:
    recipe = tiny_params.pretrain["tiny"].model_copy(update=change)
    params = tiny_params.model_copy(update={"pretrain": {"tiny": recipe}})
    project = Project(params, tiny_dataset, tiny_paths)
    refused(lambda: pretrain(project, "synthetic", 0, Compute(torch.device("cpu"))), sentence)


def test_an_adaptation_needs_a_source(tiny_paths: Paths) -> None:
    folders = tiny_paths.shards("tiny", "synthetic"), tiny_paths.shards("tiny", "mnist")
    refused(
        lambda: open_domains(*folders, 0.99999, 28),
        r"pretrain\.tiny\.held_out is 0\.99999, which leaves none of the 60 images in .*synthetic to train on",
    )


# Datasets' files.


def with_class(name: str) -> Callable[[dict], None]:
    return lambda content: content["classes"].__setitem__(0, name)


DATASETS = [
    (with_class("overall"), "classes has 'overall', which means something else in tables or folders"),
    (with_class("Mean per class"), "classes has 'Mean per class', which means something else in tables"),
    (with_class("bicycle "), "classes has a name twice, 'bicycle ' and 'bicycle'"),
    (with_class("\u202ebicycle"), "classes has a name twice"),  # what turns the direction of a text is not seen
    (with_class("Bicycle"), "classes has a name twice, 'Bicycle' and 'bicycle': case and blanks do not count"),
    (with_class("a|b"), r"classes\.0 is 'a\|b', but it should be up to 100 characters, none of , ; \| /"),
    (with_class("a,b"), r"classes\.0 is 'a,b', but it should be"),
    (with_class("a/b"), r"classes\.0 is 'a/b', but it should be"),
    (with_class(".."), r"classes\.0 is '\.\.', but it should be"),
    (with_class("a\nb"), r"classes\.0 is 'a\\nb', but it should be"),
    (with_class(""), r"classes\.0 is '', but it should be"),
    (with_class(1), r"classes\.0 is 1, but it should be text"),
    (lambda c: c["archives"]["train"].update(file=".."), r"file is '\.\.', but it should be up to 100 letters, digits"),
    (lambda c: c["archives"]["train"].update(file="receipts"), "has 'receipts', which means something else"),
    (lambda c: c["archives"]["train"].update(file="Validation.tar"), "file has a name twice, 'Validation.tar' and"),
    (lambda c: c["archives"]["train"].update(bytes=True), "archives.train.bytes is true or false, but it should be"),
    (lambda c: c["domains"]["real"].update(held_out=0.9999999), r"held_out is 0\.9999999, which leaves 0 of 55388"),
    (lambda c: c["domains"]["real"].update(held_out=1e-9), "held_out is 1e-09, which leaves 55388 of 55388"),
    (
        lambda c: c["domains"]["real"].update(max_unreadable=math.nan),
        "max_unreadable is nan, but it should be a finite",
    ),
    (lambda c: c["domains"].update({"a-b": c["domains"]["real"]}), "a-b is 'a-b', but it should be 1 to 40 letters"),
    (
        lambda c: c["domains"]["real"].update(held_out=0.5) or c["domains"].update(real_held_out=c["domains"]["real"]),
        "domains has real_held_out, the name of a part of real; choose another",
    ),
    (lambda c: c.pop("domains"), "domains is missing; add it"),
    (lambda c: c["archives"]["train"].pop("file"), "archives.train.file is missing; add it"),
    (lambda c: c.update(title="a | b"), r"title is 'a \| b', but it should be 1 to 200 characters in one line"),
    (lambda c: c.update(domains=[]), r"domains is \[\], but it should be a mapping"),
]


@pytest.mark.parametrize(("change", "sentence"), DATASETS, ids=range(len(DATASETS)))
def test_datasets_that_cannot_be(change: Callable[[dict], None], sentence: str) -> None:
    content = yaml.safe_load((PROJECT / "workflow/datasets/visda.yaml").read_text(encoding="utf-8"))
    change(content)
    refused(lambda: validate(DatasetSpec, content, "visda.yaml"), sentence)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("name", "other", r"mine\.yaml: name is 'other', expected 'mine' as in the file's name"),
        ("archives_of", "nothing", "archives_of is 'nothing', which is no dataset"),
    ],
)
def test_files_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, sentence: str
) -> None:
    content = yaml.safe_load((PROJECT / "workflow/datasets/digits.yaml").read_text(encoding="utf-8"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content | {"name": "mine", key: value}))
    (tmp_path / ".#mine.yaml").symlink_to("me@host")  # as an editor leaves one
    monkeypatch.setattr(catalog, "CATALOG", tmp_path)
    assert dataset_names() == ("mine",)
    refused(lambda: load_dataset("mine"), sentence)


# Folders of one's own.


class Own:
    """A folder of images with two domains of two classes of two images, in a project of its own."""

    def __init__(self, project: Path, params: Params) -> None:
        self.project, self.folder, self.paths = project, project / "photos", Paths(project / "root")
        content = params.model_dump(mode="json")
        for stage in (content["shard"], content["pretrain"], content["adapt"]["recipes"]):
            stage["mine"] = stage["tiny"]
        content |= {"root": str(self.paths.root), "folders": {"mine": {"path": str(self.folder), "channels": 1}}}
        self.content = content
        for number, place in enumerate(["a/cat/1.png", "a/cat/2.png", "a/dog/3.png", "a/dog/4.png", "b/cat/5.png"]):
            self.save(place, np.full((28, 28), 40 * number, dtype=np.uint8))
        self.save("b/dog/6.png", np.full((28, 28), 250, dtype=np.uint8))

    def save(self, place: str, pixels: np.ndarray) -> None:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def describe(self) -> DatasetSpec:
        describe_folders(self.content, "params.yaml")
        return load_dataset("mine")

    def shard(self, domain: str = "a") -> ShardedImages:
        dataset = self.describe()
        download(Project(None, dataset, self.paths), domain)
        shard(Project(parse_params(self.content), dataset, self.paths), domain)
        return ShardedImages(self.paths.shards("mine", domain))


@pytest.fixture
def own(tmp_path: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch) -> Own:
    monkeypatch.setattr(catalog, "CATALOG", tmp_path / "catalog")
    return Own(tmp_path, tiny_params)


def test_a_folder_that_nothing_describes_yet(own: Own) -> None:
    refused(
        lambda: parse_params(own.content), r"folders has 'mine', but .*mine\.yaml was not found; run `snakemake` to"
    )
    assert not (own.project / "catalog").exists()


def test_hidden_files_and_folders_do_not_count(own: Own) -> None:
    shutil.copytree(own.folder / "a/cat", own.folder / "a/.thumbnails")
    shutil.copytree(own.folder / "a", own.folder / ".trash")
    (own.folder / "a/cat/._1.png").write_bytes(b"of macOS")
    dataset = own.describe()
    assert (dataset.classes, set(dataset.domains), dataset.domains["a"].images) == (("cat", "dog"), {"a", "b"}, 4)
    assert [Path(path).name for path in pictures([own.folder])] == [f"{number}.png" for number in range(1, 7)]


def test_links_are_followed_and_rings_end(own: Own) -> None:
    (own.folder / "a/cat").rename(own.project / "elsewhere")
    (own.folder / "a/cat").symlink_to(own.project / "elsewhere")
    (own.folder / "a/dog/ring").symlink_to(own.folder / "a")
    os.mkfifo(own.folder / "a/dog/pipe.png")
    refused(own.describe, r"photos/a/dog/ring/.* is not where images are|cat/\d\.png is not where images are")
    (own.folder / "a/dog/ring").unlink()
    assert own.describe().domains["a"].images == 4


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (b"a/cat/\xff.png", r"has a name that is no UTF-8 or has control characters; rename it"),
        (b"a/c\xffat/7.png", r"has a name that is no UTF-8"),
        (b"a/cat/a\nb.png", r"has a name that is no UTF-8 or has control characters"),
        (b"a/o|o/7.png", r"classes\.2 is 'o\|o', but it should be"),
        (b"a/overall/7.png", "classes has 'overall', which means something else"),
        (b"a/Cat/7.png", "classes has a name twice"),
        (b"a/caf\xc3\xa9/7.png;b/cafe\xcc\x81/7.png", "classes has a name twice"),  # one from Linux, one from macOS
        (b"a/ cat/7.png", r"classes\.0 is ' cat', but it should be up to 100 characters"),
        (b"my photos/cat/7.png", r"my photos is 'my photos', but it should be 1 to 40 letters, digits or _"),
        (b"a/7.png", "7.png is not where images are expected"),
    ],
)
def test_names_that_tables_cannot_show(own: Own, place: bytes, sentence: str) -> None:
    for one in place.split(b";"):
        path = os.fsencode(own.folder) + b"/" + one
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 since pathlib takes no bytes
        shutil.copy(own.folder / "a/cat/1.png", path)
    refused(own.describe, sentence)
    assert not (own.project / "catalog/mine.yaml").exists()


def test_a_byte_that_changes_in_an_image_is_noticed_by_the_next_snakemake(own: Own) -> None:
    own.shard()
    own.describe()
    path = own.folder / "a/cat/1.png"
    content, long_ago = path.read_bytes(), time.time() - 9000
    os.utime(own.paths.raw("mine") / "a.csv", (long_ago, long_ago))
    path.write_bytes(content)  # touched alone
    own.describe()
    path.write_bytes(content[:-1] + b"x")
    refused(
        own.describe, r"1\.png has changed since its domain was listed; put it back, or remove .*receipts/a\.json and"
    )
    own.paths.receipt("mine", "a").unlink()
    own.describe()


def test_a_folder_that_is_described_again_is_not_held_to_its_old_list(own: Own) -> None:
    own.shard()
    own.describe()
    (own.folder / "a/cat/1.png").unlink()
    refused(own.describe, r"a has other images than when .*mine\.yaml was written")
    (own.project / "catalog/mine.yaml").unlink()
    own.describe()  # writes the file
    own.describe()  # compares with it, while the list still names the image


RAMP = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28) * 83  # up to 64,989


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled(own: Own, suffix: str, kind: str) -> None:
    own.save(f"a/cat/7.{suffix}", RAMP.astype(kind))
    images = own.shard()
    with (own.paths.shards("mine", "a") / "labels.csv").open() as file:
        index = next(line.split(",")[0] for line in file if "7." in line)
    assert np.array_equal(np.asarray(images[int(index)]), np.round(RAMP / 257))


@pytest.mark.parametrize(("kind", "words"), [(np.float32, "floating point numbers"), (np.int32, "32-bit integers")])
def test_pixels_of_an_unknown_range_are_refused(own: Own, kind: type, words: str) -> None:
    own.save("a/cat/7.tif", RAMP.astype(kind))
    refused(own.shard, f"cat/7.tif .its pixels are {words}, whose range is not known; save it with 8 or 16 bits")
    with Image.open(own.folder / "a/cat/7.tif") as image, pytest.raises(ValueError, match=words):
        eight_bits(image, 1)  # what `dacsm predict` does


# Archives.


def tar_of(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, content in entries:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_a_gzip_bomb_is_stopped_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_UNPACKED", 2**20)
    path = tmp_path / "images.tar.gz"
    path.write_bytes(gzip.compress(bytes(60 * 2**20)))
    refused(
        lambda: archives._plain_tar(path), r"images\.tar\.gz unpacks to more than [\d,]+ bytes, which no archive of"
    )
    assert [file.name for file in tmp_path.iterdir() if file.suffix in (".tar", ".partial")] == []


def test_a_gzip_file_that_is_damaged_within(tmp_path: Path) -> None:
    path = tmp_path / "images.tar.gz"
    content = bytearray(gzip.compress(np.random.default_rng(0).bytes(9000), 0))
    content[15:20] = b"\xff" * 5
    path.write_bytes(content)
    refused(lambda: archives._plain_tar(path), "cannot be read as an archive")


def test_only_the_latest_plain_tar_is_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "images.tar.gz", tmp_path / ".images.2.1.1.tar"
    other.write_bytes(b"of images.2.tar.gz")
    for content in (b"one", b"another"):
        path.write_bytes(gzip.compress(content))
        plain = archives._plain_tar(path)
    assert sorted(tmp_path.glob(".*.tar")) == sorted([plain, other])


def test_a_zip_that_lies_about_sizes_is_read_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(10 * 2**20))
        file.writestr("b.png", b"b" * 1000)
    found = open_members(path)
    found.places[0, 2] = 1000  # as if the zip had said so
    taken = []
    decompress = zlib.decompressobj
    monkeypatch.setattr(members.zlib, "decompressobj", lambda bits: taken.append(bits) or decompress(bits))
    with pytest.raises(DamagedMemberError, match="damaged in the archive"):
        found.read(0)
    assert found.read(1) == b"b" * 1000
    assert len(taken) == 2
    monkeypatch.setattr(members, "MOST_BYTES", 999)
    with pytest.raises(DamagedMemberError, match="of more than 999 bytes"):
        found.read(1)


@pytest.mark.parametrize("name", ["a\udcff.png", "a\nb.png"])
def test_a_name_in_a_tar_that_no_list_can_hold(tmp_path: Path, name: str) -> None:
    path = tar_of(tmp_path / "images.tar", (tarfile.TarInfo(name), b"content"))
    refused(lambda: open_members(path), "a name that is no UTF-8 or has control characters; pack it anew")


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + b"x" * 18, b"x" * 2000, b"\x00" * 511])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(content)
    refused(lambda: open_members(path), "cannot be read as an archive")


def test_a_folder_in_place_of_an_archive(tiny_dataset: DatasetSpec, tmp_path: Path) -> None:
    content = yaml.safe_load((PROJECT / "workflow/datasets/visda.yaml").read_text(encoding="utf-8"))
    dataset, paths = DatasetSpec.model_validate(content), Paths(tmp_path)
    (paths.raw("visda") / "train.tar").mkdir(parents=True)
    refused(
        lambda: download(Project(None, dataset, paths), "train"),
        r"train\.tar is not a file, expected an archive; remove it",
    )


# Transfers.


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"redirect": True}, "leads from one address to the next without end"),
        ({"lengths": "many"}, None),
        ({"lengths": "-5"}, None),
        ({"lengths": "10, 20"}, "answers with what cannot be read"),
        ({"lengths": "99999999999999999999999999"}, "has room for|cannot be reached or breaks off"),
    ],
)
def test_servers_that_say_nonsense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any], sentence: str | None
) -> None:
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.01)
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file.bin").write_bytes(b"content")
    with serving(tmp_path / "served") as server:
        for name, value in faults.items():
            setattr(server.faults, name, value)
        urls, target = [f"{server.url}/file.bin"], tmp_path / "file.bin"
        if sentence is None:
            transfer(urls, target, Expected())
            assert target.read_bytes() == b"content"
        else:
            refused(lambda: transfer(urls, target, Expected()), sentence)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("file:///dev/zero", "is no plain file"),
        ("file:///", "is no plain file"),
        ("file:///nowhere/x", r"cannot be read \(No such file"),
        (f"file:///{'x' * 300}", r"cannot be read \(File name too long"),
        ("http://.example.org/x", "is no http, https, s3 or file address"),
        (f"http://{'a' * 70}.example.org/x", "is no http, https, s3 or file address|cannot be reached"),
        ("http://[::1/x", "is no address|is no http, https, s3 or file address"),
    ],
)
def test_addresses_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, sentence: str) -> None:
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.01)
    refused(lambda: transfer([url], tmp_path / "file.bin", Expected()), sentence)


# Shards.


@pytest.fixture
def copied(tiny_paths: Paths, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_paths.shards("tiny", "mnist"), tmp_path / "tiny/mnist"))


def moved(offsets: np.ndarray, place: tuple[int, int], value: int) -> np.ndarray:
    offsets = offsets.copy()
    offsets[place] = value
    return offsets


@pytest.mark.parametrize(
    "change",
    [
        lambda offsets: moved(offsets, (59, 0), 99),
        lambda offsets: moved(offsets, (0, 0), -1),
        lambda offsets: moved(offsets, (0, 1), 10**15),
        lambda offsets: moved(offsets, (0, 2), -5),
        lambda offsets: offsets[::-1],
        lambda offsets: offsets.astype(float),
    ],
)
def test_offsets_that_lead_elsewhere(copied: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(copied / "offsets.npy", change(np.load(copied / "offsets.npy")))
    refused(
        lambda: ShardedImages(copied), r"offsets\.npy leads out of the shards; make it again with `dacsm shard tiny"
    )


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "..tar", ""])
def test_an_index_that_leads_elsewhere(copied: Path, name: str) -> None:
    content = json.loads((copied / "index.json").read_text())
    content["shards"][0]["name"] = name
    (copied / "index.json").write_text(json.dumps(content))
    refused(lambda: ShardedImages(copied), r"index\.json: shards\.0\.name is")


@pytest.mark.parametrize("label", [-1, 10, 10**30])
def test_labels_of_no_class(copied: Path, label: int) -> None:
    lines = (copied / "labels.csv").read_text().splitlines()
    lines[1] = f"0,{label},x"
    (copied / "labels.csv").write_text("\n".join(lines))
    refused(
        lambda: read_labels(copied),
        r"labels\.csv (has a label outside 0 to 9|is not a table).*`dacsm shard tiny mnist`",
    )


@pytest.mark.parametrize("content", [b"\xff\xfe", b"index,label\n0,\x00\n", b"index,label\n0," + b"9" * 200_000])
def test_labels_that_are_no_table(copied: Path, content: bytes) -> None:
    (copied / "labels.csv").write_bytes(content)
    refused(lambda: read_labels(copied), r"labels\.csv is not a table of index and label")


# What cannot be written, and what cannot be looked at.


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (28, "No space left on device; free the place and run again"),
        (30, "Read-only file system; allow writing there, or set `root` in params.yaml to another folder, and run"),
        (13, "Permission denied; allow writing there"),
        (36, "File name too long; choose a shorter name"),
        (27, "File too large; allow larger files (`ulimit -f`) and run again"),
        (24, "Too many open files; allow more open files (`ulimit -n`) and run again"),
        (5, "Input/output error; mend that and run again"),
    ],
)
def test_the_remedy_fits_the_reason(number: int, remedy: str) -> None:
    assert remedy in str(unwritable(Path("x"), OSError(number, os.strerror(number))))


def test_a_file_in_place_of_a_folder(tiny_dataset: DatasetSpec, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    refused(
        lambda: download(Project(None, tiny_dataset, Paths(tmp_path)), "mnist"),
        "cannot be written: .*; move what lies in its place",
    )
    refused(lambda: write_text(tmp_path / "data/x", "text"), "cannot be written: .*; move what lies in its place")


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    refused(lambda: count_pictures([tmp_path / "pipe.png"]), "is neither a file nor a folder")
