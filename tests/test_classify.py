"""Pictures of the user's own: what is found, what is said of them, and what happens to those that cannot be read."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dacsm.cli.main import main
from dacsm.config.params import Model
from dacsm.data.transforms import centre_view, normalise
from dacsm.evaluation.classify import classify, pictures
from dacsm.models.classifier import Classifier, Description, load_checkpoint, save_checkpoint
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError

CPU = Compute(torch.device("cpu"))
CLASSES = ("circle", "square", "triangle")


def checkpoint(folder: Path, channels: int) -> Path:
    """A small network with random weights, whose classes are not all alike."""
    model = Model(
        name="vit_tiny_patch16_224",
        weights="none",
        image_size=14,
        resize=16,
        channels=channels,
        mean=(0.4,) * channels,
        std=(0.2,) * channels,
        patch_size=7,
        dim=16,
        depth=1,
        heads=2,
        drop_path=0,
    )
    torch.manual_seed(0)
    classifier = Classifier(Description(model, CLASSES))
    torch.nn.init.normal_(classifier.head.weight, std=1)
    path = folder / f"model{channels}.safetensors"
    save_checkpoint(path, classifier.description, classifier.state_dict())
    return path


@pytest.fixture
def grey(tmp_path) -> Path:
    return checkpoint(tmp_path, 1)


def picture(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_every_kind_of_picture_is_seen_as_the_model_wants_it(tmp_path, channels, mode):
    path = checkpoint(tmp_path, channels)
    made = picture(tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png"), 0, mode)
    (found,) = classify(path, [made], 3, CPU)
    classifier = load_checkpoint(path)
    model = classifier.description.model
    with Image.open(made) as image, torch.no_grad():
        view = centre_view(image.convert("L" if channels == 1 else "RGB"), model)
        expected = classifier(normalise(view[None], model)).softmax(1)[0]
    assert [name for name, _ in found.classes] == [CLASSES[i] for i in expected.argsort(descending=True)]
    assert [chance for _, chance in found.classes] == pytest.approx(expected.sort(descending=True).values.tolist())


def test_sixteen_bits_are_scaled_to_eight(tmp_path, grey):
    shades = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(shades).save(tmp_path / "eight.png")
    Image.fromarray(shades.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    eight, sixteen = classify(grey, [tmp_path / "eight.png", tmp_path / "sixteen.png"], 3, CPU)
    assert eight.classes == sixteen.classes


def test_folders_are_searched_by_suffix_in_order(tmp_path):
    names = ["b.png", "a.JPG", "deep/er/c.jpeg", "deep/d.webp"]
    for name in (*names, "notes.txt", ".hidden.png"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).touch()
    inside = sorted(tmp_path / "p" / name for name in names)
    assert pictures([tmp_path / "p"]) == inside
    assert pictures([tmp_path / "p/notes.txt", tmp_path / "p"]) == [tmp_path / "p/notes.txt", *inside]


def test_what_is_not_there_is_said_at_once(tmp_path, grey):
    (tmp_path / "empty").mkdir()
    for name, words in (("empty", "has no pictures"), ("absent", "was not found")):
        with pytest.raises(InputError, match=words):
            next(classify(grey, [tmp_path / name], 1, CPU))


@pytest.mark.parametrize("workers", [0, 2])
def test_many_pictures_keep_their_order(tmp_path, grey, monkeypatch, workers):
    monkeypatch.setattr("dacsm.evaluation.classify.BATCH", 3)
    files = [picture(tmp_path / "p" / f"{number}.png", number) for number in range(8)]
    files[4].write_bytes(b"no picture")
    together = list(classify(grey, [tmp_path / "p"], 2, Compute(CPU.device, workers)))
    assert [result.path for result in together] == files
    assert [result.problem is not None for result in together] == [number == 4 for number in range(8)]
    for file, result in zip(files, together, strict=True):
        (alone,) = classify(grey, [file], 2, CPU)
        assert [name for name, _ in alone.classes] == [name for name, _ in result.classes]


def test_pictures_are_read_as_they_are_needed(tmp_path, grey, monkeypatch):
    monkeypatch.setattr("dacsm.evaluation.classify.BATCH", 2)
    files = [picture(tmp_path / f"{number}.png", number) for number in range(6)]
    results = classify(grey, files, 1, CPU)
    next(results)
    files[5].unlink()
    assert [result.problem is not None for result in results] == [False] * 4 + [True]


def test_the_command_prints_a_line_a_picture(tmp_path, grey, capsys):
    files = [picture(tmp_path / "p" / f"{number}.png", number) for number in range(2)]
    assert main(["predict", str(grey), str(tmp_path / "p")]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == [str(file) for file in files]
    assert all(row[1] in CLASSES and 0 < float(row[2]) <= 1 and len(row) == 3 for row in rows)

    assert main(["predict", str(grey), str(files[0]), "--top", "9", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == str(files[0])
    assert printed["classes"][0]["class"] == rows[0][1]
    assert sum(one["probability"] for one in printed["classes"]) == pytest.approx(1, abs=1e-5)


def test_unreadable_pictures_are_named_and_left_out(tmp_path, grey, capsys):
    good = picture(tmp_path / "p/good.png", 0)
    cut = picture(tmp_path / "p/cut.png", 1)
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / "p/zero.jpg").touch()
    assert main(["predict", str(grey), str(tmp_path / "p")]) == 2
    printed = capsys.readouterr()
    assert [line.split("\t")[0] for line in printed.out.splitlines()] == [str(good)]
    *named, last = printed.err.splitlines()
    assert ["cut.png" in named[0], "zero.jpg" in named[1], len(named)] == [True, True, 2]
    assert last == "dacsm: 2 of 3 pictures could not be read, as said above; mend or leave them out."


@pytest.mark.parametrize("top", ["0", "-1", "many"])
def test_top_is_a_count(top, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["predict", "model.safetensors", "picture.png", "--top", top])
    assert ended.value.code == 2
    assert "is not a whole number from 1" in capsys.readouterr().err
