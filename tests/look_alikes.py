"""Look-alikes of the published datasets: same file names, folders, lists and class names; a few small made-up images.

They are for tests alone: they are written into temporary folders only, and say in each image that they are none of it.
"""

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from dacsm.config.datasets import CATALOG

PROJECT = Path(__file__).parents[1]
PER_CLASS = 3
Files = list[tuple[str, bytes]]  # paths inside an archive, and contents


def look_alike(name: str, folder: Path, per_class: int = PER_CLASS) -> dict[str, Any]:
    """Write the archives of a dataset's look-alike into `folder`; its catalog file, with counts that fit, is returned.

    The urls are `{server}` and the file's name: whoever serves the folder puts the address there.
    """
    content = yaml.safe_load((PROJECT / CATALOG / f"{name}.yaml").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    MAKERS[name](content, folder, per_class)
    for archive in content["archives"].values():
        file = folder / archive["file"]
        archive["urls"] = ["{server}/" + archive["file"]]
        if "bytes" in archive:
            archive["bytes"] = file.stat().st_size
        for kind in {"md5", "sha256"} & archive.keys():
            archive[kind] = hashlib.new(kind, file.read_bytes()).hexdigest()
    for domain in content["domains"].values():
        domain["images"] = sum(domain["counts"])
        counts = domain.pop("counts")
        if "per_class" in domain:
            domain["per_class"] = counts
    content["title"] += " (a look-alike made by tests)"
    return content


@cache
def picture(number: int, label: int, format: str) -> bytes:
    """A small picture of random shape, whose colour and bars depend on its class, marked as made up."""
    random = np.random.default_rng([number, label])
    width, height = (int(side) for side in random.integers(40, 90, 2))
    noise = random.integers(0, 80, (height, width, 3), dtype=np.uint8)
    noise[:, :: 3 + label % 7] += np.uint8(90)
    noise[..., label % 3] += np.uint8(60)
    image = Image.fromarray(noise)
    ImageDraw.Draw(image).text((2, 2), "test", fill=(255, 255, 255))
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def read_tar(path: Path) -> Files:
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar if member.isreg()]


def _images(
    domain: Mapping[str, Any], names: list[str], count: int, path: Callable[[str, int, int], str], format: str = "jpeg"
) -> Iterator[tuple[str, int, bytes]]:
    """Path, label and content of `count` images of each class."""
    number = 0
    for label, name in enumerate(names):
        if name in domain.get("absent", ()):
            continue
        for _ in range(count):
            yield path(name, label, number), label, picture(number % 50, label % 12, format)
            number += 1


def _lines(images: Iterable[tuple[str, int, bytes]]) -> bytes:
    return "".join(f"{path} {label}\n" for path, label, _ in images).encode()


def _visda(content: dict[str, Any], folder: Path, count: int) -> None:
    parts = {"train": ("synthetic", "png", 2 * count), "validation": ("real", "jpeg", count)}
    for part, (name, format, images) in parts.items():
        if part not in content["archives"]:
            continue
        domain = content["domains"][name]
        suffix = {"png": "png", "jpeg": "jpg"}[format]
        made = list(_images(domain, content["classes"], images, lambda c, _, n, s=suffix: f"{c}/src_{n}.{s}", format))
        files = [(f"{part}/{path}", image) for path, _, image in made]
        write_tar(folder / f"{part}.tar", [*files, (f"{part}/image_list.txt", _lines(made))])
        domain["counts"] = [images] * len(content["classes"])
    if "test" in content["archives"]:
        domain = content["domains"]["real"]
        made = list(_images(domain, content["classes"], count, lambda _, __, n: f"trunk{n % 3:02d}/{n:032x}.jpg"))
        write_tar(folder / "test.tar", [(f"test/{path}", image) for path, _, image in made])
        (folder / "test_image_list.txt").write_bytes(_lines(made))
        domain["counts"] = [count] * len(content["classes"])


def _office_home(content: dict[str, Any], folder: Path, count: int) -> None:
    with zipfile.ZipFile(folder / content["archives"]["images"]["file"], "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(_dated("OfficeHomeDataset_10072016/imagelist.txt"), "not used")
        for number, domain in enumerate(content["domains"].values()):
            style = domain["options"]["folder"]
            path = f"OfficeHomeDataset_10072016/{style}/{{}}/{{:05d}}.jpg".format
            for name, _, image in _images(domain, content["classes"], count, lambda c, _, n, p=path: p(c, n + 1)):
                file.writestr(_dated(name), image)
            domain["counts"] = [count] * len(content["classes"])
            assert number < 4


def _domainnet(content: dict[str, Any], folder: Path, count: int) -> None:
    absent = {("painting", "train"): ["t-shirt"], ("painting", "test"): ["syringe"]}
    for name in (name for name, archive in content["archives"].items() if archive["file"].endswith(".zip")):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_STORED) as file:
            for place, part in enumerate(("train", "test")):
                without = {"absent": absent.get((name, part), ())}
                path = f"{name}/{{}}/{name}_{{:03d}}_{place}{{:05d}}.jpg".format
                made = list(_images(without, content["classes"], count, lambda c, k, n, p=path: p(c, k + 1, n)))
                for member, _, image in made:
                    file.writestr(_dated(member), image)
                (folder / f"{name}_{part}.txt").write_bytes(_lines(made))
    for domain in content["domains"].values():
        lists = [(folder / f"{name}.txt").read_text().split() for name in domain["options"]["lists"]]
        labels = np.array([int(label) for words in lists for label in words[1::2]])
        domain["counts"] = np.bincount(labels, minlength=len(content["classes"])).tolist()


def _office31(content: dict[str, Any], folder: Path, count: int) -> None:
    plain = folder / "plain.tar"
    files = []
    for name, domain in content["domains"].items():
        made = _images(
            domain, content["classes"], count, lambda c, _, n, d=name: f"{d}/images/{c}/frame_{n + 1:04d}.jpg"
        )
        files += [(path, image) for path, _, image in made]
        domain["counts"] = [count] * len(content["classes"])
    write_tar(plain, files)
    with gzip.open(folder / content["archives"]["images"]["file"], "wb") as file:
        file.write(plain.read_bytes())
    plain.unlink()


def _pacs(content: dict[str, Any], folder: Path, count: int) -> None:
    """As DomainBed's zip, or the tar of smaller copies; and Office-Caltech-10 as a repository at a commit."""
    archive = content["archives"]["images"]["file"]
    top = {"PACS.zip": "kfold/", "pacs.tar": ""}.get(archive, "OfficeCaltechDomainAdaptation-01532fd/")
    files = [(f"{top}main.py", b"not used"), (f"{top}README.md", b"not used")] if "Office" in top else []
    for domain in content["domains"].values():
        place = f"{top}{domain['options']['folder']}/{{}}/pic_{{:03d}}.jpg".format
        made = _images(domain, content["classes"], count, lambda c, _, n, p=place: p(c, n + 1))
        files += [(path, image) for path, _, image in made]
        domain["counts"] = [count] * len(content["classes"])
    if archive.endswith(".tar"):
        write_tar(folder / archive, files)
        return
    with zipfile.ZipFile(folder / archive, "w") as file:
        for path, image in files:
            file.writestr(_dated(path), image)


def _dated(path: str) -> zipfile.ZipInfo:
    """A file in a zip with a fixed time, so that the same look-alike has the same bytes."""
    member = zipfile.ZipInfo(path)
    member.compress_type = zipfile.ZIP_DEFLATED if "OfficeHome" in path else zipfile.ZIP_STORED
    return member


MAKERS = {
    "visda": _visda,
    "visda_test": _visda,
    "office_home": _office_home,
    "domainnet": _domainnet,
    "domainnet_split": _domainnet,
    "office31": _office31,
    "pacs": _pacs,
    "pacs_thinned": _pacs,
    "office_caltech10": _pacs,
}
