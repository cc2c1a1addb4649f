"""Shards in an object store: read as if they lay here, through a bounded cache, whatever the network does."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_server import Server, serving
from fsspec.implementations.local import LocalFileSystem

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data import shards
from dacsm.data.shards import ShardedImages, read_labels, verify
from dacsm.data.stream import stream
from dacsm.runtime import addresses, fetching
from dacsm.runtime.errors import InputError
from dacsm.stages.shard import shard

DOMAIN = "mnist"
KNOWN = import_module("fsspec.registry")._registry  # of kinds of stores


@pytest.fixture(autouse=True)
def _in_no_hurry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(addresses, "CHUNK", 1000)
    monkeypatch.setattr(shards, "KEPT_BYTES", 0)  # else each image is read once
    monkeypatch.setenv("DACSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DACSM_CACHE_GB", raising=False)


@pytest.fixture
def store(tiny_paths: Paths, tmp_path: Path) -> Iterator[Server]:
    """The shards of tiny, behind a server; a test may damage them."""
    shutil.copytree(tiny_paths.shards("tiny", DOMAIN), tmp_path / "served/tiny" / DOMAIN)
    with serving(tmp_path / "served") as server:
        yield server


@pytest.fixture
def here(tiny_paths: Paths) -> ShardedImages:
    return ShardedImages(tiny_paths.shards("tiny", DOMAIN))


def opened(params: Params, dataset: DatasetSpec, root: Path, url: str) -> ShardedImages:
    """The images of the store, once `shard` has copied what lies beside the shards."""
    settings = params.shard["tiny"].model_copy(update={"url": f"{url}/tiny/"})
    shard(Project(params.model_copy(update={"shard": {"tiny": settings}}), dataset, Paths(root)), DOMAIN)
    return ShardedImages(Paths(root).shards("tiny", DOMAIN))


def tars(server: Server) -> list[str]:
    """The shards that were asked for, in order."""
    return [path.rpartition("/")[2] for path, _ in server.faults.requests if path.endswith(".tar")]


def view(image: object, position: int) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


def test_images_labels_and_streams_are_those_of_local_shards(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, here: ShardedImages
) -> None:
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    assert tars(store) == []
    assert [image.tobytes() for image in images] == [image.tobytes() for image in here]
    assert np.array_equal(read_labels(images.folder), read_labels(here.folder))
    assert tars(store) == ["000000.tar", "000001.tar", "000002.tar"]
    settings = {"seed": 0, "epoch": 1, "batch_size": 16, "view": view}
    for workers in (0, 2):
        batches = zip(stream(images, workers=workers, **settings), stream(here, **settings), strict=True)
        assert all(torch.equal(one, other) for pair in batches for one, other in zip(*pair, strict=True))
    assert len(tars(store)) == 3  # from the cache
    verify(images.folder)
    assert sorted(file.name for file in images.folder.iterdir()) == [
        *("counts.csv", "index.json", "labels.csv", "offsets.npy")
    ]


def test_a_bounded_cache_drops_what_was_not_used_for_longest(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, here: ShardedImages, monkeypatch
) -> None:
    sizes = [shard.bytes for shard in here.index.shards]
    monkeypatch.setenv("DACSM_CACHE_GB", str((sizes[0] + sizes[1] + 10) / 1e9))
    monkeypatch.setattr(shards, "MOST_OPEN", 1)
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    order = [0, 30, 1, 59, 2, 31, 58]  # shards 0, 1, 0, 2, 0, 1, 2
    assert [images[index].tobytes() for index in order] == [here[index].tobytes() for index in order]
    assert tars(store) == [f"{shard:06d}.tar" for shard in (0, 1, 2, 1, 2)]
    held = [file.stat().st_size for file in (tmp_path / "cache").glob("*.tar")]
    assert sum(held) <= sizes[0] + sizes[1] + 10


def test_a_cut_connection_is_resumed(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, here: ShardedImages
) -> None:
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    store.faults.cut_after, store.faults.cuts = 5000, 2
    assert images[0].tobytes() == here[0].tobytes()
    assert [asked for path, asked in store.faults.requests if path.endswith(".tar")] == [
        *(None, "bytes=5000-", "bytes=10000-")
    ]


def test_a_store_that_comes_back(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, here: ShardedImages
) -> None:
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    store.faults.status = 503
    with pytest.raises(InputError, match=r"could not be fetched, since .*000000\.tar .*HTTP 503"):
        images[0]
    store.faults.status = None
    assert images[0].tobytes() == here[0].tobytes()


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"flip": 9000}, r"what .*000000\.tar sends has a sha256 that begins with \w+, expected \w+"),
        ({"page": True}, "answers with a web page"),
        ({"status": 404}, "answers HTTP 404"),
        ({"length": False, "cut_after": 100, "cuts": 9}, r"has 100 bytes, expected [\d,]+"),
    ],
)
def test_a_wrong_shard_is_never_kept(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, faults: dict, sentence: str
) -> None:
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    for name, value in faults.items():
        setattr(store.faults, name, value)
    for _ in range(2):
        with pytest.raises(InputError, match=sentence):
            images[0]
    assert list((tmp_path / "cache").glob("*.tar")) == []


def test_a_sentence_comes_out_of_a_worker(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server
) -> None:
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    store.faults.status = 403
    with pytest.raises(InputError, match=r"^[^\n]*answers HTTP 403[^\n]*$"):
        list(stream(images, seed=0, epoch=1, batch_size=8, view=view, workers=2))


def test_a_file_in_the_cache_that_was_cut_is_fetched_again(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, here: ShardedImages
) -> None:
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    images[0]
    (held,) = (tmp_path / "cache").glob("*.tar")
    held.write_bytes(held.read_bytes()[:-1])
    assert ShardedImages(images.folder)[0].tobytes() == here[0].tobytes()
    assert len(tars(store)) == 2


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ("0.00001", r"allows 10,000 bytes in .*cache, but .*000000\.tar has [\d,]+"),
        ("much", "is 'much', expected"),
    ],
)
def test_a_cache_that_is_too_small(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, monkeypatch, size: str, sentence: str
) -> None:
    monkeypatch.setenv("DACSM_CACHE_GB", size)
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    with pytest.raises(InputError, match=f"DACSM_CACHE_GB {sentence}"):
        images[0]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "index.json").unlink(), "index.json could not be fetched, .*HTTP 404"),
        (lambda folder: (folder / "index.json").write_text("[]"), r"holds \[\], expected an object"),
        (lambda folder: np.save(folder / "offsets.npy", np.zeros((60, 3), np.int64)), "the sha256 of .*offsets.npy"),
        (
            lambda folder: (folder / "index.json").write_text(
                (folder / "index.json").read_text().replace('"image_size": 28', '"image_size": 32')
            ),
            r"tiny/mnist/index\.json has image_size 32, expected 28; correct shard\.tiny\.url or",
        ),
    ],
)
def test_a_set_of_another_kind_is_refused_and_the_earlier_one_stays(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, damage, sentence: str
) -> None:
    images = opened(tiny_params, tiny_dataset, tmp_path, store.url)
    before = {file.name: file.read_bytes() for file in images.folder.iterdir()}
    damage(tmp_path / "served/tiny" / DOMAIN)
    with pytest.raises(InputError, match=sentence):
        opened(tiny_params, tiny_dataset, tmp_path, store.url)
    assert {file.name: file.read_bytes() for file in images.folder.iterdir()} == before


def test_s3_needs_its_package(tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delitem(KNOWN, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"s3://bucket/tiny/mnist/offsets\.npy needs the package s3fs, which"):
        opened(tiny_params, tiny_dataset, tmp_path, "s3://bucket")


class Store(LocalFileSystem):
    """A store whose reads break in the middle, as s3fs' may, and whose keys are those of a folder."""

    protocol = "s3"
    folder = Path()
    breaks = 0

    @classmethod
    def _strip_protocol(cls, path: str, **_: object) -> str:
        return str(cls.folder / path.removeprefix("s3://bucket/")) if path.startswith("s3://") else path

    def _open(self, path: str, *args: object, **options: object) -> object:
        if Store.breaks and path.endswith(".tar"):
            Store.breaks -= 1
            raise ConnectionError("the store is busy")
        return super()._open(path, *args, **options)


def test_s3_is_read_where_it_is_installed(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, store: Server, here: ShardedImages, monkeypatch
) -> None:
    monkeypatch.setitem(KNOWN, "s3", Store)
    monkeypatch.setattr(Store, "folder", tmp_path / "served")
    monkeypatch.setattr(Store, "breaks", 2)
    images = opened(tiny_params, tiny_dataset, tmp_path, "s3://bucket")
    assert [image.tobytes() for image in images] == [image.tobytes() for image in here]
    assert tars(store) == []
    (tmp_path / "served/tiny/mnist/000000.tar").unlink()
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InputError, match=r"s3://bucket/tiny/mnist/000000\.tar cannot be read"):
        ShardedImages(images.folder)[0]


def test_parts_that_nobody_goes_on_with_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, age in ((".old.tar.partial", 2), (".new.tar.partial", 0), ("held.tar", 1)):
        (tmp_path / name).write_bytes(bytes(100))
        times = (tmp_path / name).stat().st_mtime - age * fetching.ABANDONED
        os.utime(tmp_path / name, (times, times))
    fetching._make_room(tmp_path, "https://example.org/x.tar", 100, 250)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".new.tar.partial"]
