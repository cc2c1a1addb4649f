"""Your own images: a folder becomes a dataset, and stays what it was."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from look_alikes import write_tar
from PIL import Image

from dacsm.config import datasets as catalog
from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.params import Params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.raw.describe import describe_folders
from dacsm.data.shards import ShardedImages, read_labels
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.stages.adapt import adapt
from dacsm.stages.download import download
from dacsm.stages.evaluate import evaluate
from dacsm.stages.pretrain import pretrain
from dacsm.stages.shard import shard
from dacsm.stages.table import table

COUNTS = {"photos": {"cat": 4, "dog": 3}, "drawings": {"cat": 2, "dog": 5, "emu": 1}}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, in a project of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalog, "CATALOG", tmp_path / "catalog")
    number = 0
    for domain, classes in COUNTS.items():
        for name, count in classes.items():
            for _ in range(count):
                number += 1
                path = tmp_path / "my photos" / domain / name / f"{number}.{'JPG' if number % 2 else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                grey = 100 * ["cat", "dog", "emu"].index(name) + number
                Image.fromarray(np.full((30 + number, 40, 3), grey, dtype=np.uint8)).save(path)
    (tmp_path / "my photos/notes.txt").write_text("not an image")
    (tmp_path / "my photos/photos/.hidden").mkdir()
    return tmp_path / "my photos"


def read(params: Params, **folder: object) -> Params:
    """The params with the folder as the dataset `mine`."""
    content = params.model_dump(mode="json")
    content["folders"] = {"mine": {"path": "my photos"} | folder}
    for stage in (content["shard"], content["pretrain"], content["adapt"]["recipes"]):
        stage["mine"] = stage["tiny"]
    content["shard"]["mine"] = {"image_size": 32, "encoding": "jpeg", "images_per_shard": 4}
    content["experiments"] = {"mine": {"tasks": ["photos-drawings"], "methods": ["cdtrans"], "seeds": [0]}}
    content |= {"datasets": ["mine"], "tables": {"mine": "mine"}}
    describe_folders(content, "params.yaml")
    return parse_params(content)


def made(params: Params, paths: Paths) -> DatasetSpec:
    dataset = load_dataset("mine")
    for archive in dataset.archives:
        download(Project(None, dataset, paths), archive)
    for domain in dataset.domains:
        shard(Project(params, dataset, paths), domain)
    return dataset


def test_a_folder_becomes_a_dataset(mine: Path, tiny_params: Params, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "root")
    dataset = made(read(tiny_params), paths)
    assert dataset.classes == ("cat", "dog", "emu")
    assert dataset.tasks == ("drawings-photos", "photos-drawings")
    assert dataset.domains["photos"].absent == ("emu",)
    for domain, classes in COUNTS.items():
        folder = paths.shards("mine", domain)
        assert np.bincount(read_labels(folder), minlength=3).tolist() == [classes.get(c, 0) for c in dataset.classes]
        assert ShardedImages(folder)[0].shape == (3, 32, 32)
    again = {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()}
    made(read(tiny_params), paths)
    assert {path: path.read_bytes() for path in paths.root.rglob("*") if path.is_file()} == again


@pytest.mark.slow
def test_a_tar_of_the_same_images_gives_the_same_table(mine: Path, tiny_params: Params, tmp_path: Path) -> None:
    """From the images to the table, once from the folder and once from a tar of it."""
    content = read(tiny_params).model_dump(mode="json")
    model = {"channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    content["pretrain"]["mine"] |= {"model": content["pretrain"]["mine"]["model"] | model, "batch_size": 4, "epochs": 4}
    content["pretrain"]["mine"]["held_out"] = 0
    content["adapt"]["recipes"]["mine"] |= {"batch_size": 4, "epochs": 1}
    content["shard"]["mine"]["image_size"] = 28
    params, cpu = parse_params(content), Compute(torch.device("cpu"))
    described = load_dataset("mine")
    images = [path for path in sorted(mine.rglob("*")) if path.suffix in (".JPG", ".png")]
    packed = described.model_dump(mode="json") | {"reader": "archives", "archives": {"images": {"file": "mine.tar"}}}
    for name, domain in packed["domains"].items():
        domain |= {"archives": ["images"], "options": {"folder": name}}
    (tmp_path / "tar/data/raw/mine").mkdir(parents=True)
    files = [(f"all/{path.relative_to(mine).as_posix()}", path.read_bytes()) for path in reversed(images)]
    write_tar(tmp_path / "tar/data/raw/mine/mine.tar", files)
    found = []
    for root, dataset in (("folder", described), ("tar", DatasetSpec.model_validate(packed))):
        project = Project(params, dataset, Paths(tmp_path / root))
        for archive in dataset.archives:
            download(project, archive)
        for domain in dataset.domains:
            shard(project, domain)
        pretrain(project, "photos", 0, cpu)
        adapt(project, "cdtrans", "photos-drawings", 0, cpu)
        evaluate(project, "cdtrans", "photos-drawings", 0, cpu)
        table(project, "mine")
        shards = sorted(project.paths.shards("mine", "photos").parent.rglob("*.*"))
        bits = [path.read_bytes() for path in shards if path.name != "labels.csv"]
        labels = [read_labels(project.paths.shards("mine", domain)).tolist() for domain in dataset.domains]
        with project.paths.table("mine").open() as file:
            found.append((len(shards), bits, labels, list(csv.DictReader(file))))
    assert found[0] == found[1]
    assert found[0][3][0]["method"] == "cdtrans"


def test_a_share_can_be_held_out(mine: Path, tiny_params: Params, tmp_path: Path) -> None:
    dataset = made(read(tiny_params, held_out=0.25), Paths(tmp_path))
    assert dataset.evaluation_domain("drawings") == "drawings_held_out"
    assert [len(read_labels(Paths(tmp_path).shards("mine", name))) for name in ("drawings", "drawings_held_out")] == [
        6,
        2,
    ]
    assert "25%" in dataset.protocol


def test_a_folder_that_changed_is_noticed(mine: Path, tiny_params: Params, tmp_path: Path) -> None:
    params = read(tiny_params)
    dataset = made(params, Paths(tmp_path))
    shutil.copy(mine / "photos/cat/1.JPG", mine / "photos/cat/new.jpg")
    with pytest.raises(
        InputError, match=r"photos has other images than when .*mine\.yaml was written .*; remove that file"
    ):
        read(tiny_params)
    with pytest.raises(InputError, match="has other images than when"):
        download(Project(None, dataset, Paths(tmp_path)), "photos")
    (tmp_path / "catalog/mine.yaml").unlink()
    assert made(read(tiny_params), Paths(tmp_path)).domains["photos"].images == 8


def test_an_image_that_changed_is_noticed(mine: Path, tiny_params: Params, tmp_path: Path) -> None:
    params = read(tiny_params)
    dataset = made(params, Paths(tmp_path))
    path = mine / "photos/cat/1.JPG"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"1\.JPG has changed since its domain was listed"):
        shard(Project(params, dataset, Paths(tmp_path)), "photos")
    path.unlink()
    with pytest.raises(InputError, match=r"1\.JPG cannot be read: No such file"):
        shard(Project(params, dataset, Paths(tmp_path)), "photos")


def test_a_clone_without_the_images_still_knows_them(mine: Path, tiny_params: Params) -> None:
    before = (read(tiny_params), load_dataset("mine"))
    mine.rename(mine.with_name("elsewhere"))
    assert (read(tiny_params), load_dataset("mine")) == before


@pytest.mark.parametrize(
    ("change", "folder", "sentence"),
    [
        (lambda root: shutil.rmtree(root / "photos"), {}, "has 1 domains and 3 classes, expected at least two of both"),
        (lambda root: (root / "photos").rename(root / "ph-otos"), {}, "ph-otos"),
        (lambda root: (root / "photos/cat/1.JPG").rename(root / "photos/1.JPG"), {}, "1.JPG is not where images are"),
        (lambda root: None, {"path": "nowhere"}, "nowhere cannot be read: No such file or directory"),
        (lambda root: None, {"chanels": 1}, "chanels is not a known key"),
    ],
)
def test_a_folder_that_cannot_be_used(
    mine: Path, tiny_params: Params, change: object, folder: dict[str, object], sentence: str
) -> None:
    change(mine)
    with pytest.raises(InputError) as error:
        read(tiny_params, **folder)
    assert sentence in str(error.value)
    assert not (mine.parent / "catalog/mine.yaml").exists()


def test_a_name_of_the_catalog_is_taken(mine: Path, tiny_params: Params) -> None:
    read(tiny_params)
    path = mine.parent / "catalog/mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"reader": "digits"}))
    with pytest.raises(InputError, match="describes as another dataset; choose another name"):
        read(tiny_params)
    path.unlink()
    read(tiny_params)
    with pytest.raises(InputError, match=r"path is 'other', but .*mine\.yaml describes 'my photos'; remove that file"):
        read(tiny_params, path="other")
