"""Presets: how they are laid under settings, what is refused, and CDTrans' own against its tables."""

import shutil
from pathlib import Path
from typing import Any

import cdtrans_reference as reference
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dacsm.config import presets
from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.params import AdaptRecipe, Model, Params, Pretrain, Shard, load_params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.presets import Presets
from dacsm.config.project import Project
from dacsm.ledger.provenance import settings_of
from dacsm.models.backbone import build_backbone
from dacsm.runtime.errors import InputError
from dacsm.training.optim import build_optimiser, set_learning_rate

PROJECT = Path(__file__).parents[1]

# CDTrans' recipes, restated: epochs and base rate of pretraining and of adaptation.
CDTRANS = {
    "office31": ((10, 0.008), (40, 0.008)),
    "office_home": ((10, 0.008), (40, 0.008)),
    "domainnet": ((10, 0.008), (40, 0.008)),
    "visda": ((20, 0.0005), (40, 0.00005)),
}
BACKBONES = {"deit_small": (384, 6, 21_665_664), "deit_base": (768, 12, 85_798_656)}  # width, heads, parameters


def preset_of(dataset: str, stage: str) -> str:
    return f"cdtrans_visda_{stage}" if dataset == "visda" else f"cdtrans_{stage}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the presets of a test."""
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


# How presets are laid under settings


def test_a_users_keys_win_mapping_by_mapping(folder: Path) -> None:
    write(folder, slow="{rate: 1, steps: [1, 2], inner: {a: 1, b: 2}}", small="{a: 5, c: 6}")
    settings = {"x": {"preset": "slow", "steps": [3], "inner": {"preset": "small", "c": 7}}, "y": [{"preset": "small"}]}
    assert Presets("p").resolve(settings) == {
        "x": {"rate": 1, "steps": [3], "inner": {"a": 5, "b": 2, "c": 7}},
        "y": [{"a": 5, "c": 6}],
    }


def test_a_preset_may_name_presets(folder: Path) -> None:
    write(folder, a="{preset: b, one: 1}", b="{preset: c, one: 2, two: 2}", c="{one: 3, two: 3, three: {preset: d}}")
    write(folder, d="{four: 4}")
    assert Presets("p").resolve({"preset": "a"}) == {"one": 1, "two": 2, "three": {"four": 4}}


def test_a_preset_twice_in_different_places_is_no_circle(folder: Path) -> None:
    write(folder, a="{x: {preset: b}, y: {preset: b}}", b="{one: 1}")
    assert Presets("p").resolve({"preset": "a"}) == {"x": {"one": 1}, "y": {"one": 1}}


settings = st.recursive(
    st.none() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(settings)
def test_settings_without_presets_stay_as_they_are(content: Any) -> None:
    assert Presets("p").resolve(content) == content


@given(st.dictionaries(st.sampled_from("abc"), settings), st.dictionaries(st.sampled_from("abc"), settings))
def test_laying_over_keeps_every_key_of_both_and_every_value_of_the_upper(base: dict, own: dict) -> None:
    merged = presets._merged(base, own)
    assert merged.keys() == base.keys() | own.keys()
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            assert merged[key] == presets._merged(base[key], value)
        else:
            assert merged[key] == value
    assert presets._merged(merged, own) == merged
    assert presets._merged({}, base) == base == presets._merged(base, {})


@pytest.mark.parametrize(
    ("files", "settings", "sentence"),
    [
        ({}, {"a": {"preset": "x"}}, r"^params.yaml: a\.preset is 'x', expected one of none \(is \S+ there\?\); "),
        ({"y": "{}", "z": "{}"}, {"a": [{"preset": "x"}]}, r"a\.0\.preset is 'x', expected one of y, z; change it"),
        ({"y": "{}"}, {"preset": ["y"]}, r"preset is \['y'\], expected one of y"),
        ({"y": "{}"}, {"preset": None}, "preset is None, expected one of y"),
        ({"y": "{in: {preset: q}}"}, {"preset": "y"}, r"y\.yaml: in\.preset is 'q', expected one of y"),
        ({"y": "{preset: y}"}, {"preset": "y"}, r"y\.yaml: preset is 'y', and so presets go in a circle, y to y; name"),
        (
            {"x": "{preset: y}", "y": "{in: {preset: z}}", "z": "{preset: y}"},
            {"preset": "x"},
            r"z\.yaml: preset is 'y', and so presets go in a circle, y to z to y; name another of x, y, z\.",
        ),
        ({"y": "- 1"}, {"preset": "y"}, r"y\.yaml is \[1\], but a preset is a mapping of settings"),
        ({"y": ""}, {"preset": "y"}, r"y\.yaml is None, but a preset is a mapping of settings"),
        ({"y": "a: ["}, {"preset": "y"}, r"y\.yaml is not YAML"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder: Path, files: dict, settings: dict, sentence: str) -> None:
    write(folder, **files)
    with pytest.raises(InputError, match=sentence) as caught:
        Presets("params.yaml").resolve(settings)
    assert "\n" not in str(caught.value)


def test_a_mistake_is_reported_with_the_file_that_has_it(folder: Path) -> None:
    shutil.copytree(PROJECT / "workflow/presets", folder, dirs_exist_ok=True)
    content = Presets("params.yaml").resolve(yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")))
    digits = content["pretrain"]["digits"]
    digits["optimiser"] = {"preset": "quick", "clip_norm": 1.0}
    for rate, sentence in {
        "learning_rate: -1, warmup_epochs: 1": r"quick\.yaml: pretrain\.digits\.optimiser\.learning_rate is -1",
        "learning_rat: 1": r"quick\.yaml: pretrain\.digits\.optimiser\.learning_rat is not a known key",
        "learning_rate: 1": r"^params\.yaml: pretrain\.digits\.optimiser\.warmup_epochs is missing",
    }.items():
        write(folder, quick=f"{{name: adamw, weight_decay: 0, schedule: cosine, {rate}}}")
        with pytest.raises(InputError, match=sentence):
            parse_params(content)


def test_all_tasks(tiny_params: Params) -> None:
    content = tiny_params.model_dump(mode="json")
    content["experiments"]["digits"]["tasks"] = "all"
    assert parse_params(content).experiments["digits"].tasks == load_dataset("digits").tasks
    content["experiments"]["moons"] = {**content["experiments"]["digits"]}
    with pytest.raises(InputError, match="unknown dataset 'moons'"):
        parse_params(content)
    content["experiments"] = {"digits": {**content["experiments"]["digits"], "tasks": "some"}}
    with pytest.raises(InputError, match=r"experiments\.digits\.tasks is 'some'"):
        parse_params(content)


def test_what_is_recorded_is_resolved(folder: Path, tiny_params: Params, tiny_dataset: DatasetSpec) -> None:
    content = tiny_params.model_dump(mode="json")
    arguments = {"dataset": "tiny", "source": "mnist"}
    plain = settings_of(Project(parse_params(content), tiny_dataset, Paths()), "pretrain", arguments)
    recipe = content["pretrain"]["tiny"]
    write(folder, short=yaml.safe_dump({"epochs": recipe.pop("epochs"), "optimiser": recipe.pop("optimiser")}))
    recipe["preset"] = "short"
    assert settings_of(Project(parse_params(content), tiny_dataset, Paths()), "pretrain", arguments) == plain
    write(folder, short=(folder / "short.yaml").read_text().replace("epochs: 2", "epochs: 3"))
    assert settings_of(Project(parse_params(content), tiny_dataset, Paths()), "pretrain", arguments) != plain


# CDTrans' recipes


def resolved(name: str, **own: Any) -> dict[str, Any]:
    return Presets("params.yaml").resolve({"preset": name, **own})


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("dataset", CDTRANS)
def test_pretraining_is_cdtrans_own(dataset: str, backbone: str) -> None:
    recipe = Pretrain.model_validate(resolved(preset_of(dataset, "pretrain"), model={"preset": backbone}))
    (epochs, base), _ = CDTRANS[dataset]
    assert (recipe.epochs, recipe.batch_size, recipe.label_smoothing, recipe.held_out) == (epochs, 64, 0.1, 0)
    check_training(recipe, epochs, base)
    size = backbone.removeprefix("deit_")
    assert recipe.model == Model(
        name=f"deit_{size}_patch16_224",
        weights=f"timm:deit_{size}_distilled_patch16_224",
        image_size=224,
        resize=256,
        channels=3,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        patch_size=None,
        dim=None,
        depth=None,
        heads=None,
        drop_path=0.1,
    )


@pytest.mark.parametrize("dataset", CDTRANS)
def test_adaptation_is_cdtrans_own(dataset: str) -> None:
    recipe = AdaptRecipe.model_validate(resolved(preset_of(dataset, "adapt")))
    _, (epochs, base) = CDTRANS[dataset]
    assert (recipe.epochs, recipe.batch_size, recipe.refresh_epochs) == (epochs, 64, 10)
    assert (recipe.max_pairs, recipe.averaging) == (None, 0)
    check_training(recipe, epochs, base)


def check_training(recipe: Pretrain | AdaptRecipe, epochs: int, base: float) -> None:
    """What both stages share, and the rate of a weight and of a bias in each epoch."""
    assert recipe.augment.model_dump() == {"flip": True, "rotate": 0, "zoom": 0, "shear": 0, "shift": 0}
    assert (recipe.precision, recipe.threads, recipe.optimiser.clip_norm) == ("bfloat16", 8, 1)
    layer = nn.Linear(2, 2)
    optimiser = build_optimiser(recipe.optimiser, [layer])
    assert type(optimiser) is torch.optim.SGD
    for group in optimiser.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, False, 1e-4)
    for epoch in range(1, epochs + 1):
        set_learning_rate(optimiser, recipe.optimiser, recipe.epochs, epoch, fraction=0.5)
        weight, bias = (group["lr"] for group in optimiser.param_groups)
        assert weight == pytest.approx(reference.rate(base, epoch, epochs))
        assert bias == pytest.approx(reference.rate(base, epoch, epochs, bias=True))


def test_the_odd_rates_are_kept() -> None:
    """Ten epochs of warm-up in ten; VisDA's cliff from 0.90 to 0.50 of the rate at epoch 10."""

    def rates(dataset: str) -> list[float]:
        recipe = Pretrain.model_validate(resolved(preset_of(dataset, "pretrain")))
        optimiser = build_optimiser(recipe.optimiser, [nn.Linear(2, 2)])
        found = []
        for epoch in range(1, recipe.epochs + 1):
            set_learning_rate(optimiser, recipe.optimiser, recipe.epochs, epoch, fraction=0)
            found.append(optimiser.param_groups[0]["lr"] / recipe.optimiser.learning_rate)
        return found

    assert rates("office_home") == pytest.approx([*(0.01 + 0.099 * epoch for epoch in range(1, 10)), 0.002])
    assert rates("visda")[8:10] == pytest.approx([0.901, 0.501])
    assert rates("visda")[-1] == pytest.approx(0.002)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_backbones_are_deit(backbone: str) -> None:
    with torch.device("meta"):
        built = build_backbone(Model.model_validate(resolved(backbone)))
    width, heads, parameters = BACKBONES[backbone]
    assert (built.embed_dim, len(built.blocks), built.blocks[0].attn.num_heads) == (width, 12, heads)
    assert built.patch_embed.grid_size == (14, 14)
    assert built.norm.eps == 1e-6
    assert sum(p.numel() for p in built.parameters()) == parameters


def test_the_entries_of_params_yaml_are_the_recipes() -> None:
    """All tasks, three methods and three seeds of the four datasets, with DeiT-B; digits stays the default."""
    params = load_params(PROJECT / "params.yaml")
    assert params.datasets == ("digits",)
    for dataset in CDTRANS:
        experiment = params.experiments[dataset]
        assert experiment.tasks == load_dataset(dataset).tasks
        assert (experiment.methods, experiment.seeds) == (("source_only", "cdtrans", "dacsm"), (0, 1, 2))
        pretrain = resolved(preset_of(dataset, "pretrain"), model={"preset": "deit_base"})
        assert params.recipe("pretrain", dataset) == Pretrain.model_validate(pretrain)
        assert params.recipe("adapt", dataset) == AdaptRecipe.model_validate(resolved(preset_of(dataset, "adapt")))
        assert params.recipe("shard", dataset) == Shard.model_validate(resolved("photographs_256"))


def test_photographs_are_stored_at_the_size_that_the_models_squash_them_to() -> None:
    stored = Shard.model_validate(resolved("photographs_256"))
    assert stored.image_size == resolved("deit_base")["resize"] == 256
    assert stored.encoding == "jpeg"


def test_every_preset_says_what_it_is() -> None:
    for name in presets.preset_names():
        text = (presets.PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# "), name
        assert resolved(name)


def test_the_docs_have_the_rates_that_are_taken() -> None:
    """The table of docs/cdtrans.md: the rates of epochs 1, 2, 9, 10, 11 and the last."""
    text = (PROJECT / "docs/cdtrans.md").read_text(encoding="utf-8")
    stages = {"cdtrans_pretrain": "pretraining, 10 epochs", "cdtrans_visda_pretrain": "pretraining, 20 epochs (VisDA)"}
    for name, shown in {**stages, "cdtrans_adapt": "adaptation, 40 epochs"}.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {shown} |")]
        found = [float(cell) for cell in line.split("|")[2:-1] if cell.strip()]
        epochs = resolved(name)["epochs"]
        taken = [epoch for epoch in (1, 2, 9, 10, 11) if epoch <= epochs]
        assert found == [round(reference.rate(1, epoch, epochs), 3) for epoch in (*taken, epochs)]
