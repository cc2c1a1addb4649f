"""The pictures that explain: what is in them, that no target label is, and what is refused."""

import csv
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from small_model import MODEL

from dacsm.adaptation.pairing import Pairs
from dacsm.config.kinds.cdtrans import Pyramid, Settings
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.methods.cdtrans.attention import attention_maps, shown_layers
from dacsm.methods.cdtrans.parts.noise import BeneficialNoise
from dacsm.methods.cdtrans.parts.pyramid import pyramid_loss
from dacsm.methods.cdtrans.resolutions import pyramid_sides, scale_choice
from dacsm.models.classifier import Classifier, Description
from dacsm.models.plain_vit import embed
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.stages.adapt import adapt
from dacsm.stages.explain import evenly, explain, of_class, shown_pairs
from dacsm.stages.pretrain import pretrain

TASK = "synthetic-optdigits"
CPU = choose_compute("cpu")


@pytest.fixture(scope="module")
def trained(tiny_params, tiny_dataset, tiny_paths, tmp_path_factory) -> Paths:
    """A root with tiny's shards, and models that CDTrans and DACSM adapted."""
    paths = Paths(tmp_path_factory.mktemp("explained"))
    shutil.copytree(tiny_paths.root / "data", paths.root / "data")
    pretrain(Project(tiny_params, tiny_dataset, paths), "synthetic", 0, CPU)
    for method in ("cdtrans", "dacsm"):
        adapt(Project(tiny_params, tiny_dataset, paths), method, TASK, 0, CPU)
    return paths


def drawn(params, dataset, paths: Paths, method: str) -> dict[str, bytes]:
    """Explain a run, and what that writes."""
    explain(Project(params, dataset, paths), method, TASK, 0, CPU)
    return {path.name: path.read_bytes() for path in paths.explained("tiny", method, TASK, 0).iterdir()}


def test_the_pictures_of_a_method_with_noise_need_no_target_label(trained, tiny_params, tiny_dataset):
    pictures = drawn(tiny_params, tiny_dataset, trained, "dacsm")
    assert set(pictures) == {"attention.png", "noise.png", "scale_pairs.png", "scale_pairs.csv"}
    labels = trained.shards("tiny", "optdigits") / "labels.csv"
    hidden = labels.rename(labels.with_suffix(".hidden"))
    try:
        assert drawn(tiny_params, tiny_dataset, trained, "dacsm") == pictures
    finally:
        hidden.rename(labels)


def test_a_method_without_noise_has_the_plain_map_alone(trained, tiny_params, tiny_dataset):
    folders = [trained.explained("tiny", method, TASK, 0) for method in ("cdtrans", "dacsm")]
    folders[0].mkdir(parents=True, exist_ok=True)
    (folders[0] / "noise.png").write_bytes(b"of an earlier method of this name")
    assert set(drawn(tiny_params, tiny_dataset, trained, "cdtrans")) == {
        *("attention.png", "scale_pairs.png", "scale_pairs.csv")
    }
    drawn(tiny_params, tiny_dataset, trained, "dacsm")
    widths = [Image.open(folder / "attention.png").width for folder in folders]
    assert widths[1] > 1.5 * widths[0]  # three maps a layer, and not one


def test_the_choice_of_scales_adds_up_for_each_class(trained, tiny_params, tiny_dataset):
    drawn(tiny_params, tiny_dataset, trained, "cdtrans")
    with (trained.explained("tiny", "cdtrans", TASK, 0) / "scale_pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["source_cells"], row["target_cells"]) for row in rows} == {(a, b) for a in "421" for b in "421"}
    for name in {row["class"] for row in rows}:
        assert sum(float(row["choice"]) for row in rows if row["class"] == name) == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("log.csv", None, r"log.csv was not found; make it with `dacsm adapt tiny dacsm"),
        ("log.csv", b"epoch\n", r"log.csv cannot be read"),
        ("last.safetensors", None, r"last.safetensors was not found"),
        ("last.safetensors", b"no tensors", r"last.safetensors cannot be read as a checkpoint"),
    ],
)
def test_what_is_missing_or_damaged_is_one_sentence(
    trained, tiny_params, tiny_dataset, tmp_path, file, content, sentence
):
    paths = Paths(tmp_path)
    (tmp_path / "data").symlink_to(trained.root / "data")
    folder = paths.adapted("tiny", "dacsm", TASK, 0)
    shutil.copytree(trained.adapted("tiny", "dacsm", TASK, 0), folder)
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        explain(Project(tiny_params, tiny_dataset, paths), "dacsm", TASK, 0, CPU)


def test_a_checkpoint_without_the_noise_of_the_method_is_one_sentence(trained, tiny_params, tiny_dataset, tmp_path):
    paths = Paths(tmp_path)
    (tmp_path / "data").symlink_to(trained.root / "data")
    folder = paths.adapted("tiny", "dacsm", TASK, 0)
    shutil.copytree(trained.adapted("tiny", "dacsm", TASK, 0), folder)
    shutil.copy(folder / "model.safetensors", folder / "last.safetensors")
    sentence = r"last.safetensors has not the noise of this method .*Missing key.*`dacsm adapt tiny dacsm"
    with pytest.raises(InputError, match=sentence):
        explain(Project(tiny_params, tiny_dataset, paths), "dacsm", TASK, 0, CPU)


def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Description(MODEL, ("a", "b", "c"))).eval()


def images(seed: int) -> torch.Tensor:
    return torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


def noise_of(classifier: Classifier, strength: float | None = None, **parts) -> BeneficialNoise:
    noise = BeneficialNoise(classifier, Settings(kind="cdtrans", **parts), torch.Generator().manual_seed(0))
    noise.progress = 1.0
    if strength is not None:
        for layer in noise.logits:
            layer.strength.data.fill_(strength)
    return noise


def test_the_map_is_the_attention_of_the_sources_class_token_over_the_targets_patches():
    classifier = network()
    maps = attention_maps(classifier, images(1), images(2), None, 0)
    assert maps.layers == (1, 2, 3)
    assert maps.plain.shape == (4, 3, 4, 4)
    assert maps.noisy is None
    attention, norm = classifier.backbone.blocks[0].attn, classifier.backbone.blocks[0].norm1
    with torch.no_grad():
        source, target = (attention.qkv(norm(embed(classifier.backbone, images(seed)))) for seed in (1, 2))
        queries = source[:, 0, :32].unflatten(1, (2, 16))  # (B, heads, d) of the class token
        keys = target[:, :, 32:64].unflatten(2, (2, 16))  # (B, N, heads, d)
        weights = (torch.einsum("bhd,bnhd->bhn", queries, keys) / 4).softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(maps.plain[:, 0].flatten(1), 100 * weights[:, 1:])


def test_noise_of_no_strength_changes_no_map_and_strong_noise_does():
    classifier = network()
    weak, strong = (
        attention_maps(classifier, images(1), images(2), noise_of(classifier, strength, noise={"weight": 1}), 8)
        for strength in (-10.0, 0.5)
    )
    torch.testing.assert_close(weak.noisy, weak.plain)
    assert (strong.noisy - strong.plain).abs().max() > 1  # in points of the attention
    torch.testing.assert_close(strong.plain, weak.plain)


@given(st.integers(1, 40))
def test_the_shown_layers_rise_to_the_last(depth: int):
    layers = shown_layers(depth)
    assert layers == tuple(sorted(set(layers)))
    assert layers[0] >= 1
    assert layers[-1] == depth


def test_the_choice_is_that_of_the_loss():
    source, target = torch.randn(2, 5, 16, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    settings = Pyramid(weight=1, temperature=0.2, entropy=0.05)
    distance, choice = scale_choice(source, target, settings.temperature)
    assert distance.shape == choice.shape == (5, len(pyramid_sides(16)) ** 2)
    torch.testing.assert_close(choice.sum(dim=1), torch.ones(5))
    entropy = torch.special.entr(choice).sum(dim=1)
    expected = ((choice * distance).sum(dim=1) - settings.entropy * entropy).mean()
    torch.testing.assert_close(pyramid_loss(source, target, settings), expected)
    assert scale_choice(source, source, 0.2)[0][:, 0].abs().max() < 1e-5  # full size against itself


labelled_pairs = st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=30)


@given(labelled_pairs)
def test_a_classs_pairs_come_once_and_one_of_each_class_is_shown(rows: list[tuple[int, int, int]]):
    source, target, labels = np.array(rows, dtype=int).reshape(-1, 3).T
    pairs = Pairs(source, target, labels, labels)
    for label in range(4):
        numbers = of_class(pairs, label)
        wanted = {row[:2] for row in rows if row[2] == label}
        assert len(numbers) == len(wanted)
        assert {(int(source[n]), int(target[n])) for n in numbers} == wanted
    assert [labels[number] for number in shown_pairs(pairs, 4)] == sorted(set(labels))


@given(st.integers(0, 100), st.integers(2, 20))
def test_some_are_spread_over_all(count: int, most: int):
    chosen = evenly(list(range(count)), most)
    assert len(chosen) == min(count, most) == len(set(chosen))
    assert chosen == sorted(chosen)
    assert not count or (chosen[0], chosen[-1]) == (0, count - 1)
