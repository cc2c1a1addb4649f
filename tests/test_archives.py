"""From archives to shards, on look-alikes of the published datasets: what is right goes on, and nothing wrong does."""

import csv
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_server import Server, serving
from look_alikes import MAKERS, look_alike, picture, read_tar, write_tar
from PIL import Image

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.shards import ShardedImages, read_labels
from dacsm.runtime import addresses
from dacsm.runtime import fetching as transfers
from dacsm.runtime.errors import InputError
from dacsm.stages.download import download
from dacsm.stages.shard import shard


@dataclass
class Made:
    """A look-alike, its server, and a root to work in."""

    content: dict[str, Any]
    server: Server
    paths: Paths
    params: Params

    @property
    def dataset(self) -> DatasetSpec:
        text = json.dumps(self.content).replace("{server}", self.server.url)
        return DatasetSpec.model_validate_json(text)

    def raw(self, archive: str) -> Path:
        return self.paths.raw(self.dataset.raw_name) / self.content["archives"][archive]["file"]

    def download(self, *archives: str) -> None:
        for archive in archives or self.dataset.archives:
            download(Project(None, self.dataset, self.paths), archive)

    def shard(self, domain: str = "real", workers: int = 1) -> Path:
        shard(Project(self.params, self.dataset, self.paths), domain, workers)
        return self.paths.shards(self.dataset.name, domain)

    def rewrite(self, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> None:
        """Serve another validation.tar, with the size that fits."""
        path = self.server.folder / "validation.tar"
        write_tar(path, change(read_tar(path)))
        self.content["archives"]["validation"]["bytes"] = path.stat().st_size


@pytest.fixture(autouse=True)
def _in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(addresses, "CHUNK", 1000)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[dict[str, Any], Path]]:
    """Each look-alike's catalog file and folder, made when it is first asked for."""

    @cache
    def made(name: str) -> tuple[dict[str, Any], Path]:
        folder = tmp_path_factory.mktemp(f"look_alike_of_{name}")
        return look_alike(name, folder, per_class=1 if "domainnet" in name else 3), folder

    return made


@pytest.fixture
def make(served: Callable, tmp_path: Path, tiny_params: Params) -> Iterator[Callable[[str], Made]]:
    """Look-alikes with a server and a root of their own."""
    servers = []

    def made(name: str) -> Made:
        content, folder = served(name)
        shutil.copytree(folder, tmp_path / name)
        servers.append(serving(tmp_path / name))
        params = tiny_params.model_dump(mode="json")
        params["shard"][name] = {
            "image_size": 32,
            "encoding": "jpeg",
            "images_per_shard": 100 if "domainnet" in name else 10,
        }
        return Made(
            json.loads(json.dumps(content)), servers[-1].__enter__(), Paths(tmp_path / "root"), parse_params(params)
        )

    yield made
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def visda(make: Callable[[str], Made]) -> Made:
    return make("visda")


@pytest.mark.parametrize("name", list(MAKERS))
def test_every_dataset_comes_from_its_archives(make: Callable[[str], Made], name: str) -> None:
    made = make(name)
    shown = {"domainnet": ["sketch"], "domainnet_split": ["painting", "painting_test"]}.get(name, made.dataset.domains)
    for domain in shown:
        facts = made.dataset.domains[domain]
        made.download(*facts.archives)
        folder = made.shard(domain)
        images, labels = ShardedImages(folder), read_labels(folder)
        with (folder / "labels.csv").open(newline="") as file:
            names = [row["name"] for row in csv.DictReader(file)]
        assert len(images) == len(set(names)) == facts.stored
        assert images[0].shape == (3, 32, 32)
        assert (images.index.quality, images.index.subsampling, images.index.resample) == (95, 0, "bilinear")
        present = {made.dataset.classes[label] for label in labels}
        assert set(made.dataset.classes) - present == set(facts.absent)
        if name != "visda_test" or domain == "synthetic":  # whose paths have no classes
            assert all(made.dataset.classes[k] in path for k, path in zip(labels, names, strict=True))
        words = json.dumps(images.index.model_dump() | {"classes": None})
        assert not any(f"/{word}/" in words for word in made.dataset.classes)
        assert "src_" not in words


def test_an_image_is_squashed_as_cdtrans_does(visda: Made) -> None:
    visda.download()
    folder = visda.shard()
    originals = dict(read_tar(visda.server.folder / "validation.tar"))
    images = ShardedImages(folder)
    with (folder / "labels.csv").open(newline="") as file:
        for row in list(csv.DictReader(file))[:5]:
            original = Image.open(io.BytesIO(originals[row["name"]])).convert("RGB")
            wanted = original.resize((32, 32), Image.Resampling.BILINEAR)
            difference = np.asarray(wanted, dtype=int) - images[int(row["index"])].transpose(1, 2, 0).astype(int)
            assert np.abs(difference).mean() < 2.5  # what JPEG at quality 95 loses of noise


def test_the_number_of_processes_changes_no_byte(visda: Made) -> None:
    visda.download()
    contents = []
    for workers in (1, 3):
        folder = visda.shard("synthetic", workers)
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]


def test_a_variant_fetches_nothing_twice(make: Callable[[str], Made]) -> None:
    full, split = make("domainnet"), make("domainnet_split")
    full.download("sketch", "sketch_train", "sketch_test")
    before = len(split.server.faults.requests)
    split.download("sketch", "sketch_train", "sketch_test")
    assert len(split.server.faults.requests) == before
    train, test = (read_labels(split.shard(domain)) for domain in ("sketch", "sketch_test"))
    assert len(train) + len(test) == len(read_labels(full.shard("sketch")))
    assert not split.paths.raw("domainnet_split").joinpath("sketch.zip").exists()


def test_held_out_images_are_in_one_part_or_the_other(visda: Made) -> None:
    visda.download()
    whole = set((visda.shard() / "labels.csv").read_text().splitlines()[1:])
    visda.content["domains"]["real"]["held_out"] = 0.25
    parts = []
    for domain in ("real", "real_held_out"):
        with (visda.shard(domain) / "labels.csv").open(newline="") as file:
            parts.append({row["name"] for row in csv.DictReader(file)})
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {row.split(",")[2] for row in whole}
    assert len(parts[1]) == round(0.25 * len(whole))


# What can go wrong with VisDA's archives.


def test_a_server_that_is_cut_and_comes_back(visda: Made) -> None:
    visda.server.faults.cut_after, visda.server.faults.status_after_cuts = 5000, 503
    with pytest.raises(InputError, match=r"HTTP 503 .* 5,000 bytes are kept, and the next run goes on from there"):
        visda.download("validation")
    assert not visda.raw("validation").exists()
    assert not visda.paths.receipt("visda", "validation").exists()
    visda.server.faults.status = None
    visda.download("validation")
    assert visda.raw("validation").read_bytes() == (visda.server.folder / "validation.tar").read_bytes()
    assert visda.server.faults.requests[-1][1] == "bytes=5000-"


def test_a_corrupted_byte_is_noticed_by_the_first_hash(visda: Made) -> None:
    visda.download("validation")
    seen = visda.paths.receipt("visda", "validation").with_suffix(".sha256")
    subprocess.run(["sha256sum", "--check", "--quiet", seen], cwd=visda.raw("validation").parent, check=True)
    visda.raw("validation").unlink()
    visda.paths.receipt("visda", "validation").unlink()  # as Snakemake does before it runs the job
    visda.server.faults.flip = 3000
    with pytest.raises(InputError, match=r"sha256 that begins with \w+, expected \w+; .*by hand.*remove .*\.sha256 to"):
        visda.download("validation")
    assert not visda.raw("validation").exists()


def test_a_published_hash_is_held_to(make: Callable[[str], Made]) -> None:
    made = make("office_home")
    made.server.faults.flip = 3000
    with pytest.raises(InputError, match=r"has a md5 that begins with .* from https://www.hemanthdv.org"):
        made.download()
    assert not made.raw("images").exists()


def test_a_byte_that_changes_after_the_download_is_noticed(visda: Made) -> None:
    visda.download("validation")
    content = bytearray(visda.raw("validation").read_bytes())
    content[3000] ^= 1
    visda.raw("validation").write_bytes(content)
    with pytest.raises(InputError, match=r"the sha256 of .*validation.tar begins with"):
        visda.shard()
    with pytest.raises(InputError, match=r"validation.tar has a sha256 that .*; remove it to have it fetched again"):
        visda.download("validation")


def test_a_web_page_instead_of_the_archive(visda: Made) -> None:
    visda.server.faults.page = True
    with pytest.raises(
        InputError, match=r"answers with a web page .* by hand from http://ai.bu.edu/visda-2017/, put it"
    ):
        visda.download("validation")
    assert not visda.raw("validation").exists()


def test_a_web_page_that_was_put_there_by_hand(make: Callable[[str], Made]) -> None:
    made = make("office_home")
    made.raw("images").parent.mkdir(parents=True)
    made.raw("images").write_text("<!DOCTYPE html><title>Google Drive - Virus scan warning</title>")
    with pytest.raises(InputError, match=r"OfficeHomeDataset_10072016.zip is a web page, .*; remove it to have it"):
        made.download()


def test_an_archive_that_was_put_there_by_hand_is_taken(make: Callable[[str], Made]) -> None:
    made = make("office31")
    made.content["archives"]["images"]["urls"] = []
    with pytest.raises(InputError, match=r"tar.gz was not found; fetch it by hand from https://drive.*put it there"):
        made.download()
    made.raw("images").parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(made.server.folder / made.raw("images").name, made.raw("images"))
    made.download()
    assert len(ShardedImages(made.shard("dslr"))) == 3 * 31
    assert made.server.faults.requests == []


def test_a_missing_class_folder(visda: Made) -> None:
    visda.rewrite(lambda files: [(name, content) for name, content in files if "/knife/" not in name])
    visda.download("validation")
    with pytest.raises(
        InputError, match=r"validation.tar lacks 3 of the 36 images that the list of real names, every im"
    ):
        visda.shard()
    assert not visda.paths.shards("visda", "real").exists()


def test_a_missing_class_folder_without_a_list(make: Callable[[str], Made]) -> None:
    made = make("office31")
    for domain in made.content["domains"].values():
        domain["options"]["folder"] = domain["options"]["folder"].replace("dslr", "webcam")
    made.content["classes"] = ["abacus", *made.content["classes"][1:]]
    made.download()
    with pytest.raises(InputError, match=r"webcam/images/back_pack/frame_0001.jpg, which is in no folder of a class"):
        made.shard("webcam")


def test_counts_of_classes_are_held_to(visda: Made) -> None:
    visda.content["domains"]["real"]["per_class"][:2] = [2, 4]
    visda.download("validation")
    with pytest.raises(InputError, match="36 images of real, expected 36, and 3 of class aeroplane, expected 2"):
        visda.shard()


def test_classes_in_another_order_are_noticed(visda: Made) -> None:
    visda.content["classes"] = [*visda.content["classes"][1:], visda.content["classes"][0]]
    visda.download("validation")
    with pytest.raises(
        InputError, match="line 1, has label 0, which is bicycle, for an image of aeroplane; correct the"
    ):
        visda.shard()


def _spoiled(files: list[tuple[str, bytes]], numbers: dict[int, bytes]) -> list[tuple[str, bytes]]:
    return [(name, numbers.get(number, content)) for number, (name, content) in enumerate(files)]


def test_unreadable_images_beyond_the_allowed_fraction(visda: Made) -> None:
    visda.rewrite(lambda files: _spoiled(files, {4: b"", 9: files[9][1][:300]}))  # 2 of 36
    visda.download("validation")
    with pytest.raises(
        InputError, match=r"1 of the first \d+ images of real cannot be read, more than the 1.0% of all"
    ):
        visda.shard()
    with pytest.raises(InputError, match=r"index.json was not found"):
        ShardedImages(visda.paths.shards("visda", "real"))


def test_a_few_unreadable_images_are_listed_without_their_class(visda: Made) -> None:
    visda.rewrite(lambda files: _spoiled(files, {4: b"GIF89a, or not", 9: files[9][1][:300]}))
    visda.content["domains"]["real"]["max_unreadable"] = 0.06
    visda.download("validation")
    folder = visda.shard(workers=2)
    images = ShardedImages(folder)
    assert len(images) == len(read_labels(folder)) == 34
    listed = {(entry.index, entry.reason) for entry in images.index.unreadable}
    with (folder / "unreadable.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(int(row["index"]), row["reason"]) for row in rows} == listed
    assert {row["name"] for row in rows} == {"validation/bicycle/src_4.jpg", "validation/knife/src_9.jpg"} or len(
        rows
    ) == 2
    assert "not an image in a known format" in {reason for _, reason in listed}
    assert not any(
        name in json.dumps([entry.model_dump() for entry in images.index.unreadable]) for name in ("src", "knife")
    )
    with (folder / "labels.csv").open(newline="") as file:
        assert not {row["name"] for row in csv.DictReader(file)} & {row["name"] for row in rows}
    assert all(images[number].shape == (3, 32, 32) for number in range(34))


@pytest.mark.parametrize("what", ["../evil", "/etc/evil", "link", "hard link", "device"])
def test_a_tar_that_leads_out_of_its_folder(visda: Made, what: str) -> None:
    path = visda.server.folder / "validation.tar"
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(what if "evil" in what else "validation/knife/odd.jpg")
        kinds = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
        member.type = kinds.get(what, tarfile.REGTYPE)
        member.linkname = "../../../../../../../etc/passwd" if "link" in what else ""
        tar.addfile(member, io.BytesIO(b""))
    visda.content["archives"]["validation"]["bytes"] = path.stat().st_size
    visda.download("validation")
    if what == "/etc/evil":  # tarfile would put it under the folder; nothing is ever extracted here
        visda.shard()
    else:
        with pytest.raises(
            InputError, match="leads out of the archive's folder or is no plain file; nothing was taken"
        ):
            visda.shard()
    assert not Path("/etc/evil").exists()
    assert not any(path.name == "evil" for path in visda.paths.root.rglob("*"))


@pytest.mark.parametrize("what", ["../evil", "/etc/evil", "link"])
def test_a_zip_that_leads_out_of_its_folder(make: Callable[[str], Made], what: str) -> None:
    made = make("domainnet")
    path = made.server.folder / "sketch.zip"
    with zipfile.ZipFile(path, "a") as file:
        member = zipfile.ZipInfo(what if "evil" in what else "sketch/apple/odd.jpg")
        member.external_attr = 0o120777 << 16 if what == "link" else 0
        file.writestr(member, "/etc/passwd")
    made.content["archives"]["sketch"]["md5"] = None
    made.download("sketch", "sketch_train", "sketch_test")
    with pytest.raises(InputError, match="leads out of the archive's folder"):
        made.shard("sketch")


def test_a_damaged_image_in_a_zip_is_unreadable(make: Callable[[str], Made]) -> None:
    made = make("domainnet")
    path = made.server.folder / "sketch.zip"
    with zipfile.ZipFile(path) as file:
        offset = file.infolist()[7].header_offset
    content = bytearray(path.read_bytes())
    content[offset + 400] ^= 1
    path.write_bytes(content)
    made.content["archives"]["sketch"]["md5"] = None
    made.download("sketch", "sketch_train", "sketch_test")
    index = ShardedImages(made.shard("sketch")).index
    assert [entry.reason for entry in index.unreadable] == ["damaged in the archive"]
    assert index.images == 2 * 345 - 1


@pytest.mark.parametrize("name", ["visda", "office31", "domainnet"])
def test_an_archive_that_is_cut_off_is_refused(make: Callable[[str], Made], name: str) -> None:
    made = make(name)
    archive = {"visda": "validation", "office31": "images", "domainnet": "sketch"}[name]
    entry = made.content["archives"][archive]
    path = made.server.folder / entry["file"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    entry |= {"bytes": None, "md5": None}
    made.download(*made.dataset.domains[{"visda": "real", "office31": "dslr", "domainnet": "sketch"}[name]].archives)
    with pytest.raises(InputError, match=r"cannot be read as an archive|lacks \d+ of|has no list"):
        made.shard({"visda": "real", "office31": "webcam", "domainnet": "sketch"}[name])


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


def test_no_space_on_the_disk(visda: Made, small_disk: Path) -> None:
    visda.paths = Paths(small_disk)
    with pytest.raises(InputError, match=r"has room for [\d,]+ bytes, but train.tar needs [\d,]+ more; free the place"):
        visda.download("train")
    assert not visda.raw("train").exists()


def test_no_space_where_the_size_is_not_known(visda: Made, small_disk: Path) -> None:
    visda.paths = Paths(small_disk)
    visda.server.faults.length = False
    del visda.content["archives"]["train"]["bytes"]
    with pytest.raises(InputError, match=r"partial cannot be written: No space left on device; free the place"):
        visda.download("train")
    assert not visda.raw("train").exists()


def test_no_space_for_shards(visda: Made, small_disk: Path) -> None:
    visda.download("train")
    folder = visda.paths.shards("visda", "synthetic")
    folder.parent.mkdir(parents=True)
    folder.symlink_to(small_disk)
    with pytest.raises(InputError, match=r"000\d+.tar cannot be written: No space left on device"):
        visda.shard("synthetic")
    assert not (folder / "index.json").exists()


def test_pictures_differ() -> None:
    assert picture(0, 0, "png") != picture(1, 0, "png")
