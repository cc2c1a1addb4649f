"""params.yaml and the catalog: what is refused, and in which words."""

import copy
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.params import load_params, parse_params
from dacsm.config.presets import Presets
from dacsm.config.validation import validate
from dacsm.config.yaml_file import read_yaml
from dacsm.runtime.errors import InputError

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def content() -> dict[str, Any]:
    return Presets("params.yaml").resolve(yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")))


def changed(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    *path, last = key.split(".")
    reduce(lambda part, name: part[name], path, content)[last] = value
    return content


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("pretrain.digits.epoch", 3, "pretrain.digits.epoch is not a known key; expected one of .*epochs"),
        ("adapt.methods.dacsm.noise", {"sigma": 1}, "adapt.methods.dacsm.noise.sigma is not a known key; .*prior"),
        (
            "adapt.recipes.digits.optimiser.learning_rate",
            -0.1,
            "learning_rate is -0.1, but it should be greater than 0",
        ),
        (
            "adapt.recipes.digits.optimiser.learning_rate",
            "fast",
            "learning_rate is 'fast', but it should be a .*number",
        ),
        ("adapt.recipes.digits.validator", "guess", "validator is 'guess', but it should be 'infomax'"),
        ("pretrain.digits.held_out", 1, "held_out is 1, but it should be less than 1"),
        ("experiments.digits.seeds", [], r"seeds is \[\], but it should have at least 1 item"),
        ("experiments.digits.seeds", [1, 1], "experiments.digits: seeds has an entry twice"),
        ("experiments.digits.methods", ["magic"], "has 'magic', expected one of source_only, cdtrans"),
        ("datasets", ["digits", "moons"], "datasets names 'moons', but tables has no experiment of it"),
        ("pretrain.digits.model.dim", 97, "dim 97 is not a multiple of heads"),
        ("pretrain.digits.model.image_size", 27, "image_size 27 is not a multiple of patch_size 7"),
        ("pretrain.digits.model.image_size", 35, "resize is 28, smaller than image_size 35"),
        ("pretrain.digits.model.mean", [0.1, 0.2], "mean and std must have one number for each of the 1 channels"),
        ("adapt.methods.cdtrans", {}, "adapt.methods.cdtrans.kind is missing; add it: one of cdan, cdtrans, mic, shot"),
        (
            "adapt.methods.dacsm.kind",
            "magic",
            "adapt.methods.dacsm.kind is 'magic', expected one of cdan, cdtrans, mic, shot",
        ),
        ("adapt.methods.dacsm.noise", {"prior": 0}, "adapt.methods.dacsm.noise.prior is 0, but it should be"),
        ("adapt.methods.source_only", {"kind": "cdtrans"}, "'source_only', which is the pretrained model itself"),
        ("shard", {}, "shard has no settings for it"),
        ("rescale.scales", [0.5, 1.5], r"rescale: scales is \[0.5, 1.5\], without 1"),
        ("rescale.scales", [0, 1], "rescale.scales.* is 0, but it should be greater than 0"),
        ("adapt.methods.dat.style", 3, "style is 3, but it should be"),
    ],
)
def test_what_cannot_be_is_one_sentence_with_its_key(content, key, value, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        parse_params(changed(content, key, value))
    text = str(caught.value)
    assert text.startswith("params.yaml: ")
    assert "\n" not in text
    assert text.endswith(".")


def test_a_misspelt_key_is_called_unknown_not_missing(content):
    augment = content["pretrain"]["digits"]["augment"]
    augment["rotat"] = augment.pop("rotate")
    with pytest.raises(InputError, match=r"augment\.rotat is not a known key; expected one of .*rotate"):
        parse_params(content)


def test_a_missing_key_is_named(content):
    del content["pretrain"]["digits"]["optimiser"]["clip_norm"]
    with pytest.raises(InputError, match=r"pretrain\.digits\.optimiser\.clip_norm is missing; add it"):
        parse_params(content)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "", "\x00"])
def test_a_file_that_is_no_params(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"params\.yaml"):
        load_params(path)


def test_a_folder_in_place_of_params(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_params(tmp_path)


def test_settings_that_are_absent_are_named(content):
    params = parse_params(content)
    with pytest.raises(InputError, match=r"adapt\.recipes has no settings for 'moons'; add adapt\.recipes\.moons"):
        params.recipe("adapt", "moons")
    with pytest.raises(InputError, match=r"adapt\.methods has no 'magic'; it has cdtrans"):
        params.method("magic")


def test_every_part_is_off_unless_it_is_named(content):
    cdtrans = parse_params(content).method("cdtrans")
    weights = (cdtrans.style.weight, cdtrans.noise.weight, cdtrans.pyramid.weight, cdtrans.consistency.weight)
    assert weights == (0, 0, 0, 0)
    assert cdtrans.matching.scales == ()
    assert cdtrans.matching.marginal_relaxation == 1
    assert cdtrans.parts == ()
    assert cdtrans.mix_cross_entropy == cdtrans.attention_dropout == 0
    assert not cdtrans.teacher_detached


def test_a_method_may_leave_the_recipe_of_all(content):
    content["adapt"]["methods"]["longer"] = {
        "kind": "cdtrans",
        "recipe": {"epochs": 1.4, "learning_rate": 3, "zoom": 0.5},
    }
    params = parse_params(content)
    common, changed = (params.adaptation("digits", method) for method in ("cdtrans", "longer"))
    assert common == params.recipe("adapt", "digits")
    assert (changed.epochs, changed.augment.zoom) == (round(1.4 * common.epochs), 0.5)
    assert changed.optimiser.learning_rate == 3 * common.optimiser.learning_rate
    alike = {key: getattr(common, key) for key in ("epochs", "augment", "optimiser")}
    assert changed.model_copy(update=alike) == common


def test_every_key_of_params_has_a_comment_or_is_plain():
    """What users edit explains itself: most settings of params.yaml and of the presets of digits have a comment."""
    files = ("params.yaml", "workflow/presets/small_images_pretrain.yaml", "workflow/presets/small_images_adapt.yaml")
    lines = [line for file in files for line in (PROJECT / file).read_text(encoding="utf-8").splitlines()]
    settings = [line for line in lines if ": " in line and not line.lstrip().startswith("#") and "{" not in line]
    commented = [line for line in settings if "#" in line]
    assert len(commented) >= 0.6 * len(settings)


def test_the_catalog_knows_its_tasks():
    digits = load_dataset("digits")
    assert len(digits.tasks) == 6
    assert digits.split_task("synthetic-mnist") == ("synthetic", "mnist")
    with pytest.raises(InputError, match="no task 'mnist-mnist'; it has synthetic-mnist"):
        digits.split_task("mnist-mnist")
    with pytest.raises(InputError, match="no domain 'svhn'; it has synthetic"):
        digits.require_domain("svhn")
    with pytest.raises(InputError, match=r"unknown dataset 'moons'.*the catalog has digits"):
        load_dataset("moons")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("classes", ["a", "a"], "classes has a name twice"),
        ("development_tasks", ["mnist-svhn"], "development_tasks is 'mnist-svhn', expected one of"),
        ("reader", "magic", "reader is 'magic'"),
        ("domains.mnist.images", 0, "images is 0, but it should be greater than 0"),
    ],
)
def test_a_dataset_that_contradicts_itself(key, value, sentence):
    path = PROJECT / "workflow/datasets/digits.yaml"
    with pytest.raises(InputError, match=sentence):
        validate(DatasetSpec, changed(read_yaml(path), key, value), path)
