"""The catalog's files: complete, consistent, and what the publishers and CDTrans say of the datasets."""

from itertools import pairwise

import pytest
import yaml
from pydantic import ValidationError

from dacsm.config.datasets import CATALOG, DatasetSpec, dataset_names, load_dataset

IMAGES = {
    "digits": 11797,
    "visda": 152397 + 55388,
    "visda_test": 152397 + 72372,
    "office_home": 15588,
    "domainnet": 586575,
    "domainnet_split": 586575,
    "office31": 4110,
    "pacs": 9991,
    "pacs_160": 9991,
    "pacs_thinned": 9991,
    "digits_thinned": 11797,
    "office_caltech10": 958 + 1123 + 157 + 295,
}


def content_of(name: str) -> dict:
    return yaml.safe_load((CATALOG / f"{name}.yaml").read_text(encoding="utf-8"))


def test_every_dataset_has_all_its_images() -> None:
    whole = {name: [d for d in load_dataset(name).domains.values() if not d.part_of] for name in dataset_names()}
    found = {name: sum(domain.images for domain in domains) for name, domains in whole.items()}
    assert found == IMAGES


@pytest.mark.parametrize(
    ("name", "classes", "tasks", "known"),
    [
        ("visda", 12, 1, {0: "aeroplane", 5: "knife", 11: "truck"}),
        ("office_home", 65, 12, {0: "Drill", 1: "Exit_Sign", 2: "Bottle", 64: "Marker"}),
        ("domainnet", 345, 30, {66: "cello", 67: "cell_phone", 300: "syringe", 327: "t-shirt", 344: "zigzag"}),
        ("office31", 31, 6, {0: "back_pack", 30: "trash_can"}),
        ("pacs", 7, 12, {0: "dog", 6: "person"}),
        ("office_caltech10", 10, 12, {0: "backpack", 9: "projector"}),
    ],
)
def test_classes_are_in_the_order_of_the_lists(name: str, classes: int, tasks: int, known: dict[int, str]) -> None:
    dataset = load_dataset(name)
    assert (len(dataset.classes), len(dataset.tasks)) == (classes, tasks)
    assert {number: dataset.classes[number] for number in known} == known


def test_a_variant_shares_archives_and_not_the_protocol() -> None:
    for name, variant in (("visda", "visda_test"), ("domainnet", "domainnet_split")):
        dataset, other = load_dataset(name), load_dataset(variant)
        assert other.raw_name == name
        assert dataset.protocol != other.protocol
        assert dataset.classes == other.classes
        shared = dataset.archives.keys() & other.archives.keys()
        assert shared
        assert all(dataset.archives[archive] == other.archives[archive] for archive in shared)


def test_the_split_evaluates_on_images_that_were_not_adapted_on() -> None:
    full, split = load_dataset("domainnet"), load_dataset("domainnet_split")
    assert split.tasks == full.tasks
    assert split.domains_of(["clipart-real"]) == ("clipart", "real", "real_test")
    for name, domain in full.domains.items():
        test = split.domains[split.evaluation_domain(name)]
        assert split.domains[name].images + test.images == domain.images
        assert not set(test.options["lists"]) & set(split.domains[name].options["lists"])
    assert all(full.evaluation_domain(name) == name for name in full.domains)


def test_held_out_images_are_a_domain_of_their_own() -> None:
    content = content_of("digits")
    content["domains"]["optdigits"]["held_out"] = 0.2
    dataset = DatasetSpec.model_validate(content)
    adapted, held_out = dataset.domains["optdigits"], dataset.domains["optdigits_held_out"]
    assert dataset.evaluation_domain("optdigits") == "optdigits_held_out"
    assert (adapted.stored, held_out.stored) == (1438, 359)
    assert dataset.tasks == load_dataset("digits").tasks
    assert DatasetSpec.model_validate(dataset.model_dump(mode="json")) == dataset


def test_thinned_targets_are_domains_of_their_own() -> None:
    """Fractions of 1.0, 0.5 and 0.15 of a third of the classes each; the sources stay whole."""
    for name, whole in (("pacs_thinned", "pacs_160"), ("digits_thinned", "digits")):
        dataset, other = load_dataset(name), load_dataset(whole)
        assert dataset.classes == other.classes
        assert dataset.protocol != other.protocol
        assert all(dataset.domains[domain].stored == facts.images for domain, facts in other.domains.items())
        for source, target in map(dataset.split_task, dataset.tasks):
            assert source in other.domains
            assert dataset.domains[target].part_of in other.domains
            assert dataset.evaluation_domain(target) == target
        assert DatasetSpec.model_validate(dataset.model_dump(mode="json")) == dataset
    dataset = load_dataset("pacs_thinned")
    assert [task.removesuffix("_thinned") for task in dataset.tasks] == list(load_dataset("pacs").tasks)
    assert dataset.domains["art_painting_thinned"].kept((379, 255, 285, 184, 201, 295, 449)) == (
        *(379, 255, 142, 92, 30, 44, 67),
    )
    assert dataset.domains["art_painting_thinned"].stored == 379 + 255 + 142 + 92 + 30 + 44 + 67
    assert load_dataset("digits_thinned").domains["mnist_thinned"].stored == 3 * 500 + 3 * 250 + 4 * 75


def test_a_thinned_class_keeps_an_image() -> None:
    thinned = load_dataset("digits_thinned").domains["mnist_thinned"]
    assert thinned.kept([1] * 9 + [0]) == (1,) * 9 + (0,)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (
            ("domains", "real", "archives"),
            ["validatoin"],
            "archives has 'validatoin', expected one of train, validation",
        ),
        (("domains", "real", "per_class"), [55388], "per_class has 1 counts with the sum 55388, expected 12"),
        (("domains", "real", "per_class"), [1] * 12, "12 counts with the sum 12, expected 12 with the sum 55388"),
        (("domains", "real", "absent"), ["dog"], "absent has 'dog'"),
        (("domains", "real", "thinned"), [0.5], "thinned has 1 fractions, expected 12"),
        (("domains", "real", "thinned"), [0] * 12, "greater than 0"),
        (
            ("domains", "synthetic", "thinned"),
            [0.5] * 12,
            "thinned and no per_class, expected per_class and no held_out",
        ),
        (("domains", "real", "evaluated_on"), "nowhere", "evaluated_on has 'nowhere'"),
        (("tasks",), ["real-dslr"], "tasks is 'real-dslr', expected one of synthetic-real, real-synthetic"),
        (("development_tasks",), ["real-dslr"], "development_tasks is 'real-dslr'"),
        (("archives", "train", "md5"), "123", "md5"),
        (("archives", "train", "file"), "../train.tar", "file"),
    ],
)
def test_an_inconsistent_file_is_refused(place: tuple[str, ...], value: object, sentence: str) -> None:
    content = content_of("visda")
    part = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(ValidationError, match=sentence.replace("(", r"\(")):
        DatasetSpec.model_validate(content)


def test_no_two_archives_share_a_file() -> None:
    for name in dataset_names():
        files = sorted(archive.file for archive in load_dataset(name).archives.values())
        assert all(one != other for one, other in pairwise(files))
