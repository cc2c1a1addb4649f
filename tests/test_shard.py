"""Shards are whole, the same for the same input, and know nothing of labels."""

import csv
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data import shards as shard_index
from dacsm.data.raw import digits
from dacsm.data.shards import ShardedImages, read_labels
from dacsm.runtime import hashes
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256
from dacsm.stages.download import download
from dacsm.stages.shard import shard

DOMAIN = "optdigits"


@pytest.fixture
def raw_layout(tiny_paths: Paths, tmp_path: Path) -> Paths:
    """A root with a copy of the raw data and nothing else."""
    paths = Paths(tmp_path)
    shutil.copytree(tiny_paths.raw("tiny"), paths.raw("tiny"))
    return paths


def with_shard(params: Params, **settings: object) -> Params:
    """The params with other settings for sharding `tiny`."""
    content = params.model_dump()
    content["shard"]["tiny"] |= settings
    return Params.model_validate(content)


def rewrite_raw(paths: Paths, **arrays: np.ndarray) -> None:
    """Put other arrays into the raw file, with a receipt that fits."""
    path = paths.raw("tiny") / f"{DOMAIN}.npz"
    with np.load(path) as old:
        content = {**old, **arrays}
    np.savez(path, **content)
    receipt = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
    paths.receipt("tiny", DOMAIN).write_text(json.dumps(receipt))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_input_gives_the_same_bytes(
    tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, raw_layout: Paths
) -> None:
    shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    first, second = (contents(paths.shards("tiny", DOMAIN)) for paths in (tiny_paths, raw_layout))
    assert first == second
    assert sorted(first) == [
        *("000000.tar", "000001.tar", "000002.tar"),  # 25 + 25 + 10 images
        *("counts.csv", "index.json", "labels.csv", "offsets.npy"),
    ]


def test_labels_and_names_belong_to_their_images(tiny_dataset: DatasetSpec, tiny_paths: Paths) -> None:
    samples = digits.samples(tiny_dataset, DOMAIN, tiny_paths)
    by_name = {samples.name(position): position for position in range(len(samples.labels))}
    folder = tiny_paths.shards("tiny", DOMAIN)
    images = ShardedImages(folder)
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] != list(by_name)  # permuted
    assert {row["name"] for row in rows} == set(by_name)
    for row in rows:
        position = by_name[row["name"]]
        assert int(row["label"]) == samples.labels[position]
        assert images[int(row["index"])].tobytes() == samples.image(position).tobytes()


def test_tars_hold_running_numbers(tiny_paths: Paths) -> None:
    names = []
    for path in sorted(tiny_paths.shards("tiny", DOMAIN).glob("*.tar")):
        with tarfile.open(path) as tar:
            assert {member.mtime for member in tar} == {0}
            names.extend(tar.getnames())
    assert names == [f"{number:09d}.png" for number in range(60)]


def test_images_and_index_do_not_depend_on_labels(
    tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, raw_layout: Paths
) -> None:
    rewrite_raw(raw_layout, labels=np.zeros(60, dtype=np.int64), names=np.array([f"other{i}" for i in range(60)]))
    absent = tiny_dataset.domains[DOMAIN].model_copy(update={"absent": tiny_dataset.classes[1:]})
    dataset = tiny_dataset.model_copy(update={"domains": {**tiny_dataset.domains, DOMAIN: absent}})
    shard(Project(tiny_params, dataset, raw_layout), DOMAIN)
    before, after = (contents(paths.shards("tiny", DOMAIN)) for paths in (tiny_paths, raw_layout))
    assert {name for name in before if before[name] != after[name]} == {"labels.csv", "counts.csv"}
    assert after["counts.csv"].decode().splitlines()[1:3] == ["0,0,60", "1,1,0"]


def test_other_size_encoding_and_channels(tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths) -> None:
    params = with_shard(tiny_params, image_size=40, encoding="jpeg", images_per_shard=100)
    shard(Project(params, tiny_dataset.model_copy(update={"channels": 3}), raw_layout), DOMAIN)
    folder = raw_layout.shards("tiny", DOMAIN)
    images = ShardedImages(folder)
    assert images[0].shape == (3, 40, 40)
    assert (images.index.encoding, images.index.channels, len(images.index.shards)) == ("jpeg", 3, 1)
    samples = digits.samples(tiny_dataset, DOMAIN, raw_layout)
    with (folder / "labels.csv").open() as file:
        name = next(csv.DictReader(file))["name"]
    original = samples.image(samples.names.tolist().index(name)).resize((40, 40), Image.Resampling.BICUBIC)
    difference = images[0].mean(axis=0) - np.asarray(original)
    assert np.abs(difference).mean() < 3


def test_fewer_shards_leave_no_old_ones(tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths) -> None:
    shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    shard(Project(with_shard(tiny_params, images_per_shard=50), tiny_dataset, raw_layout), DOMAIN)
    folder = raw_layout.shards("tiny", DOMAIN)
    assert sorted(path.name for path in folder.glob("*.tar")) == ["000000.tar", "000001.tar"]
    shard_index.verify(folder)


@pytest.mark.parametrize("earlier", [True, False])
def test_an_interrupted_run_leaves_what_was_there(
    tiny_params: Params,
    tiny_dataset: DatasetSpec,
    tiny_paths: Paths,
    raw_layout: Paths,
    monkeypatch: pytest.MonkeyPatch,
    earlier: bool,
) -> None:
    folder = raw_layout.shards("tiny", DOMAIN)
    whole = contents(tiny_paths.shards("tiny", DOMAIN))
    if earlier:
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)

    def interrupted(self: digits.Digits, position: int) -> None:
        if len(list(folder.glob(".new.partial/*.tar"))) == 2:
            raise KeyboardInterrupt
        return original(self, position)

    original = digits.Digits.image
    monkeypatch.setattr(digits.Digits, "image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    assert contents(folder) == (whole if earlier else {})
    if not earlier:
        with pytest.raises(InputError, match=r"index\.json was not found; make it with `dacsm shard tiny optdigits`"):
            ShardedImages(folder)
    monkeypatch.undo()
    (folder / ".new.partial").mkdir()  # as a run that is killed leaves it
    (folder / ".new.partial/000009.tar").write_bytes(b"a part")
    shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    assert contents(folder) == whole


def test_an_archive_is_hashed_once_while_it_stays_as_it_is(
    tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED", -1.0)  # as if all had been written long ago
    read: list[Path] = []
    monkeypatch.setattr(hashes, "sha256", lambda path: read.append(path) or sha256(path))
    archive = raw_layout.raw("tiny") / f"{DOMAIN}.npz"
    download(Project(None, tiny_dataset, raw_layout), DOMAIN)
    for _ in range(2):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    assert read == [archive]
    times = archive.stat()
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    os.utime(archive, ns=(times.st_atime_ns, times.st_mtime_ns))  # a change that hides itself
    with pytest.raises(InputError, match=r"the sha256 of .*optdigits\.npz begins with"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)


def test_another_number_of_images_is_refused(tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths) -> None:
    domain = tiny_dataset.domains[DOMAIN].model_copy(update={"images": 61})
    dataset = tiny_dataset.model_copy(update={"domains": {**tiny_dataset.domains, DOMAIN: domain}})
    with pytest.raises(InputError, match=r"has 60 images of optdigits, expected 61; .* domains\.optdigits\.images"):
        shard(Project(tiny_params, dataset, raw_layout), DOMAIN)


def test_a_thinned_domain_is_a_fixed_part_of_the_whole(
    tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, raw_layout: Paths
) -> None:
    content = tiny_dataset.model_dump(mode="json", exclude={"tasks", "development_tasks"})
    content["domains"][DOMAIN] |= {"per_class": [6] * 10, "thinned": [1.0] * 3 + [0.5] * 3 + [0.15] * 4}
    dataset = DatasetSpec.model_validate(content)
    for domain in (DOMAIN, f"{DOMAIN}_thinned"):
        shard(Project(tiny_params, dataset, raw_layout), domain)
    assert contents(raw_layout.shards("tiny", DOMAIN)) == contents(tiny_paths.shards("tiny", DOMAIN))  # the whole
    rows = {}
    for domain in (DOMAIN, f"{DOMAIN}_thinned"):
        with (raw_layout.shards("tiny", domain) / "labels.csv").open() as file:
            rows[domain] = [(row["label"], row["name"]) for row in csv.DictReader(file)]
    kept = [6] * 3 + [3] * 3 + [1] * 4
    first = [[row for row in rows[DOMAIN] if row[0] == str(label)][:count] for label, count in enumerate(kept)]
    expected = {row for of_class in first for row in of_class}
    assert rows[f"{DOMAIN}_thinned"] == [row for row in rows[DOMAIN] if row in expected]
    folder = raw_layout.shards("tiny", f"{DOMAIN}_thinned")
    assert len(ShardedImages(folder)) == dataset.domains[f"{DOMAIN}_thinned"].stored == sum(kept)
    with (folder / "counts.csv").open() as file:
        assert [int(row["images"]) for row in csv.DictReader(file)] == kept


def test_the_whole_of_a_thinned_domain_is_counted(
    tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths
) -> None:
    content = tiny_dataset.model_dump(mode="json", exclude={"tasks", "development_tasks"})
    content["domains"][DOMAIN] |= {"per_class": [5, 7] + [6] * 8, "thinned": [0.5] * 10}
    with pytest.raises(InputError, match="and 6 of class 0, expected 5"):
        shard(Project(tiny_params, DatasetSpec.model_validate(content), raw_layout), f"{DOMAIN}_thinned")


def test_a_label_without_a_class_is_refused(tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths) -> None:
    rewrite_raw(raw_layout, labels=np.full(60, 10))
    with pytest.raises(InputError, match=r"optdigits/\d+ has label 10, expected 0 to 9"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)


def test_raw_data_must_fit_its_receipt(tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths) -> None:
    path = raw_layout.raw("tiny") / f"{DOMAIN}.npz"
    content = path.read_bytes()
    again = "`dacsm download tiny optdigits`"
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=rf"has {len(content) - 1} bytes, expected {len(content)} bytes; .*{again}"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"the sha256 of .*optdigits\.npz begins with .*{again}"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    path.unlink()
    with pytest.raises(InputError, match=rf"optdigits\.npz was not found, .*{again}"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    raw_layout.receipt("tiny", DOMAIN).write_text("{}")
    with pytest.raises(InputError, match=r"optdigits\.json: file is missing"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)
    raw_layout.receipt("tiny", DOMAIN).unlink()
    with pytest.raises(InputError, match=rf"optdigits\.json was not found; make it with {again}"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)


def test_a_file_in_place_of_the_folder_is_refused(
    tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths
) -> None:
    folder = raw_layout.shards("tiny", DOMAIN)
    folder.parent.mkdir(parents=True)
    folder.write_text("not a folder")
    with pytest.raises(InputError, match=r"optdigits cannot be written: File exists"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), DOMAIN)


def test_an_unknown_domain_is_refused(tiny_params: Params, tiny_dataset: DatasetSpec, raw_layout: Paths) -> None:
    with pytest.raises(InputError, match="tiny has no domain 'usps'"):
        shard(Project(tiny_params, tiny_dataset, raw_layout), "usps")


def test_a_fresh_download_can_be_sharded_and_read(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path
) -> None:
    paths = Paths(tmp_path / "a place, with: 100% odd names")
    download(Project(None, tiny_dataset, paths), DOMAIN)
    shard(Project(tiny_params, tiny_dataset, paths), DOMAIN)
    assert np.bincount(read_labels(paths.shards("tiny", DOMAIN))).tolist() == [6] * 10
