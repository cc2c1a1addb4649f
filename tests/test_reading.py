"""Images come out by index and as a stream, in an order that depends on seed and epoch alone."""

import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds
from PIL import Image
from small_model import MODEL
from torch.utils.data import DataLoader

from dacsm.config.paths import Paths
from dacsm.data.shards import ShardedImages, read_index, read_labels, require_size, verify
from dacsm.data.stream import stream
from dacsm.evaluation.predictions import CentreViews
from dacsm.runtime.errors import InputError

AGAIN = "`dacsm shard tiny mnist`"


def place_view(image: Image.Image, position: int) -> torch.Tensor:
    """The image with its position in the stream added, so that a view at another place differs."""
    return torch.from_numpy(np.array(image)).float()[None] + position


@pytest.fixture
def folder(tiny_paths: Paths) -> Path:
    return tiny_paths.shards("tiny", "mnist")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "tiny" / "mnist"))


def batches(folder: Path, **options: object) -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings = {"seed": 0, "epoch": 1, "batch_size": 8, "view": place_view} | options
    return list(stream(ShardedImages(folder), **settings))


def indices(folder: Path, **options: object) -> list[int]:
    return [index for batch, _ in batches(folder, **options) for index in batch.tolist()]


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


def test_second_reads_are_copies_of_the_first(folder: Path) -> None:
    images = ShardedImages(folder)
    first = images[7]
    pixels = first.tobytes()
    first.paste(255, (0, 0, 28, 28))
    assert images[7].tobytes() == pixels
    assert (len(images), first.mode, first.size) == (60, "L", (28, 28))


def test_kept_and_unkept_images_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ShardedImages(folder)
    monkeypatch.setattr("dacsm.data.shards.KEPT_BYTES", 0)
    unkept = ShardedImages(folder)
    assert [kept[n].tobytes() for n in range(60)] == [unkept[n].tobytes() for n in range(60)]


def test_few_files_are_open_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dacsm.data.shards.KEPT_BYTES", 0)
    whole = [image.tobytes() for image in ShardedImages(folder)]
    monkeypatch.setattr("dacsm.data.shards.MOST_OPEN", 2)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    images = ShardedImages(folder)
    assert [images[index].tobytes() for index in np.argsort(np.arange(60) % 7)] == [
        whole[index] for index in np.argsort(np.arange(60) % 7)
    ]
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208


def test_images_can_be_pickled_after_use(folder: Path) -> None:
    images = ShardedImages(folder)
    pixels = images[3].tobytes()
    sent = pickle.dumps(images)
    assert len(sent) < 10_000  # neither open files nor decoded images travel
    assert pickle.loads(sent)[3].tobytes() == pixels


def test_images_are_read_without_labels(copied: Path) -> None:
    (copied / "labels.csv").unlink()
    (copied / "counts.csv").unlink()
    assert ShardedImages(copied)[0].size == (28, 28)
    assert sorted(indices(copied)) == list(range(60))
    with pytest.raises(InputError, match=rf"labels\.csv was not found; make it with {AGAIN}"):
        read_labels(copied)


def test_labels_come_in_order(folder: Path) -> None:
    labels = read_labels(folder)
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [6] * 10


@pytest.mark.parametrize("content", ["", "index,label,name\n0,x,a\n", "index,label,name\n1,0,a\n", "a,b\n1,2\n"])
def test_malformed_labels_are_refused(copied: Path, content: str) -> None:
    (copied / "labels.csv").write_text(content)
    with pytest.raises(InputError, match=rf"labels\.csv .* make it again with {AGAIN}"):
        read_labels(copied)


def test_a_stream_gives_each_image_once_with_its_pixels(folder: Path) -> None:
    images, position = ShardedImages(folder), 0
    seen = []
    for batch, views in batches(folder):
        assert (batch.dtype, views.dtype, views.shape) == (torch.int64, torch.float32, (len(batch), 1, 28, 28))
        for index, view in zip(batch.tolist(), views, strict=True):
            assert torch.equal(view, place_view(images[index], position))
            seen.append(index)
            position += 1
    assert sorted(seen) == list(range(60))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores are fine here
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_no_bit(folder: Path, workers: int) -> None:
    assert same(batches(folder, workers=workers), batches(folder))
    resumed = {"start": 3, "batch_size": 4}
    assert same(batches(folder, workers=workers, **resumed), batches(folder, **resumed))


def test_a_stream_can_be_sent_to_workers_that_are_not_forked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = batches(folder)

    def loader(data: object, sampler: range, **options: object) -> object:
        sent = pickle.loads(pickle.dumps(data))
        return (sent[batch] for batch in sampler)

    monkeypatch.setattr("dacsm.data.stream.DataLoader", loader)
    assert same(batches(folder), expected)


@pytest.mark.parametrize("start", [0, 1, 7, 8, 9])
def test_a_resumed_stream_goes_on_where_it_was(folder: Path, start: int) -> None:
    assert same(batches(folder, start=start), batches(folder)[start:])


def test_the_order_is_named_by_seed_and_epoch(folder: Path) -> None:
    orders = {(seed, epoch): tuple(indices(folder, seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}
    assert len(set(orders.values())) == 6
    assert tuple(indices(folder)) == orders[0, 1]


def test_a_small_buffer_still_gives_each_image_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dacsm.data.stream.SHUFFLE_BUFFER", 5)
    assert sorted(indices(folder)) == list(range(60))


def test_only_kept_images_come(folder: Path) -> None:
    keep = np.arange(60) % 7 != 0
    assert sorted(indices(folder, keep=keep)) == np.flatnonzero(keep).tolist()
    assert indices(folder, keep=np.zeros(60, dtype=bool)) == []
    with pytest.raises(ValueError, match="keep has shape"):
        batches(folder, keep=keep[:-1])


def test_streaming_leaves_the_global_generators_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    batches(folder)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_size_is_compared_with_what_the_model_needs(folder: Path) -> None:
    images = ShardedImages(folder)
    require_size(images, 28)
    with pytest.raises(
        InputError, match=r"28 pixels, but pretrain\.tiny\.model\.resize is 32; .*shard\.tiny\.image_size"
    ):
        require_size(images, 32)


OPENERS = [ShardedImages, read_index, verify, batches]  # each way to open a folder of shards


def test_a_truncated_shard_is_named(copied: Path) -> None:
    size = (copied / "000001.tar").stat().st_size
    with (copied / "000001.tar").open("r+b") as file:
        file.truncate(size - 1000)
    for opened in OPENERS:
        with pytest.raises(InputError, match=rf"000001\.tar has {size - 1000} bytes, expected {size} bytes; .*{AGAIN}"):
            opened(copied)


def test_a_missing_shard_is_named(copied: Path) -> None:
    (copied / "000002.tar").unlink()
    for opened in OPENERS:
        with pytest.raises(InputError, match=rf"000002\.tar was not found, .*{AGAIN}"):
            opened(copied)


def test_a_missing_index_or_folder_is_named(copied: Path, tmp_path: Path) -> None:
    (copied / "index.json").unlink()
    for place in (copied, tmp_path / "nowhere" / "tiny" / "mnist"):
        for opened in OPENERS:
            with pytest.raises(InputError, match=rf"index\.json was not found; make it with {AGAIN}"):
                opened(place)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    place = tmp_path / "tiny" / "mnist"
    place.parent.mkdir()
    place.write_text("shards")
    for opened in OPENERS:
        with pytest.raises(InputError, match=rf"mnist is a file, expected a folder of shards; .*{AGAIN}"):
            opened(place)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read"),
        ("[]", r"holds \[\], expected an object"),
        ('{"format_version": 1}', "has format_version 1, expected 2"),
        ('{"format_version": 2}', "index.json: dataset is missing"),
    ],
)
def test_a_malformed_index_is_refused(copied: Path, content: str, told: str) -> None:
    (copied / "index.json").write_text(content)
    with pytest.raises(InputError, match=told):
        ShardedImages(copied)


def test_offsets_must_fit_the_index(copied: Path) -> None:
    np.save(copied / "offsets.npy", np.zeros((59, 3), dtype=np.int64))
    with pytest.raises(InputError, match=rf"offsets\.npy has shape \(59, 3\), expected \(60, 3\); .*{AGAIN}"):
        ShardedImages(copied)
    (copied / "offsets.npy").write_bytes(b"")
    with pytest.raises(InputError, match=rf"offsets\.npy cannot be read .*{AGAIN}"):
        ShardedImages(copied)


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_named(copied: Path, workers: int) -> None:
    verify(copied)
    shard, offset, size = np.load(copied / "offsets.npy")[30]
    overwrite(copied / "000001.tar", offset, bytes(size))
    assert shard == 1
    with pytest.raises(InputError, match=r"^image 30 in .* cannot be decoded"):
        ShardedImages(copied)[30]
    with pytest.raises(InputError, match=rf"^image 30 in .* cannot be decoded .*{AGAIN}"):
        batches(copied, workers=workers)
    with pytest.raises(InputError, match=rf"^image 30 in [^\n]* cannot be decoded [^\n]*{AGAIN}\.$"):
        list(DataLoader(CentreViews(ShardedImages(copied), MODEL), 8, num_workers=workers))
    with pytest.raises(InputError, match=rf"the sha256 of .*000001\.tar begins with .*{AGAIN}"):
        verify(copied)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_tar_header_takes_no_image_from_the_stream(copied: Path, workers: int) -> None:
    whole = batches(copied, workers=workers)
    _, offset, _ = np.load(copied / "offsets.npy")[30]
    overwrite(copied / "000001.tar", offset - 512, b"x" * 512)
    for before, after in zip(whole, batches(copied, workers=workers), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    with pytest.raises(InputError, match=rf"the sha256 of .*000001\.tar begins with .*{AGAIN}"):
        verify(copied)


def test_the_stream_reads_what_webdataset_reads(copied: Path) -> None:
    """The shards are WebDataset's, and can be streamed by it from elsewhere."""
    urls = [{"url": str(path)} for path in sorted(copied.glob("*.tar"))]
    samples = list(wds.tarfile_to_samples()(urls))
    assert [int(sample["__key__"]) for sample in samples] == list(range(60))
    images = ShardedImages(copied)
    for sample in samples:
        assert Image.open(io.BytesIO(sample["png"])).tobytes() == images[int(sample["__key__"])].tobytes()
