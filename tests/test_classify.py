"""Pictures of the user's own: what is found, what is said of them, and what happens to those that cannot be read."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dacsm.cli.main import main
from dacsm.config.params import Model
from dacsm.data.pictures import count_pictures, pictures
from dacsm.data.transforms import centre_view, normalise
from dacsm.evaluation.classify import Classified, classify, load_trained
from dacsm.models.classifier import Classifier, Description, load_checkpoint, save_checkpoint
from dacsm.report.classified import write_classified
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
    (found,) = classify(load_trained(path), [made], 3, CPU)
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
    eight, sixteen = classify(load_trained(grey), [tmp_path / "eight.png", tmp_path / "sixteen.png"], 3, CPU)
    assert eight.classes == sixteen.classes


def test_folders_are_searched_by_suffix_in_order(tmp_path):
    names = ["b.png", "a.JPG", "deep/er/c.jpeg", "deep/d.webp"]
    for name in (*names, "notes.txt", ".hidden.png"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).touch()
    (tmp_path / "p/also").symlink_to(tmp_path / "p/deep", target_is_directory=True)  # folders are not followed twice
    inside = [str(file) for file in sorted(tmp_path / "p" / name for name in names)]
    notes = tmp_path / "p/notes.txt"
    assert list(pictures([tmp_path / "p"])) == inside
    assert list(pictures([notes, tmp_path / "p"])) == [str(notes), *inside]
    assert count_pictures([notes, tmp_path / "p"]) == 5


def test_what_is_not_there_is_said_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, words in (("empty", "has no pictures"), ("absent", "was not found")):
        with pytest.raises(InputError, match=words):
            count_pictures([tmp_path / name])


@pytest.mark.parametrize("workers", [0, 2])
def test_many_pictures_keep_their_order(tmp_path, grey, monkeypatch, workers):
    monkeypatch.setattr("dacsm.evaluation.classify.BATCH", 3)
    files = [picture(tmp_path / "p" / f"{number}.png", number) for number in range(8)]
    files[4].write_bytes(b"no picture")
    together = list(classify(load_trained(grey), [tmp_path / "p"], 2, Compute(CPU.device, workers)))
    assert [result.path for result in together] == [str(file) for file in files]
    assert [result.problem is not None for result in together] == [number == 4 for number in range(8)]
    for file, result in zip(files, together, strict=True):
        (alone,) = classify(load_trained(grey), [file], 2, CPU)
        assert [name for name, _ in alone.classes] == [name for name, _ in result.classes]


def test_pictures_are_read_as_they_are_needed(tmp_path, grey, monkeypatch):
    monkeypatch.setattr("dacsm.evaluation.classify.BATCH", 2)
    files = [picture(tmp_path / f"{number}.png", number) for number in range(6)]
    results = classify(load_trained(grey), files, 1, CPU)
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
    assert main(["predict", str(grey), str(tmp_path / "p")]) == 1
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


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as table:
        return list(csv.DictReader(table))


def test_a_table_has_a_row_a_picture_in_the_order_of_the_listing(tmp_path, grey, capsys):
    files = [picture(tmp_path / "p" / f"{number}.png", number) for number in range(5)]
    files[2].write_bytes(b"no picture")
    table = tmp_path / "out/table.csv"
    assert main(["predict", str(grey), str(tmp_path / "p"), "--csv", str(table), "--probabilities"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("2.png cannot be read") == 1
    assert "1 of 5 pictures could not be read" in printed.err
    rows = rows_of(table)
    assert [row["path"] for row in rows] == [str(file) for file in files if file != files[2]]
    for row in rows:
        chances = {name: float(row[name]) for name in CLASSES}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert (row["class"], float(row["probability"])) == max(chances.items(), key=lambda item: item[1])
    assert list(pd.read_csv(table)["path"]) == [row["path"] for row in rows]
    assert [file.name for file in table.parent.iterdir()] == ["table.csv"]

    assert main(["predict", str(grey), str(files[0]), "--csv", str(table)]) == 0
    assert list(rows_of(table)[0]) == ["path", "class", "probability"]


@settings(max_examples=50)
@given(names=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)))
def test_names_of_files_come_back_from_a_table_as_they_are(tmp_path_factory, names):
    table = tmp_path_factory.mktemp("names") / "table.csv"
    assert write_classified(table, (Classified(name, (("a", 0.75),)) for name in names)) == 0
    assert [row["path"] for row in rows_of(table)] == names


def test_a_name_that_is_no_text_does_not_stop_a_table(tmp_path, grey):
    odd = os.fsencode(tmp_path / "p") + b"/\xff,\n.png"
    made = picture(tmp_path / "p/plain.png", 0)
    os.rename(made, odd)  # noqa: PTH104 (bytes)
    table = tmp_path / "table.csv"
    assert main(["predict", str(grey), str(tmp_path / "p"), "--csv", str(table)]) == 0
    assert rows_of(table)[0]["path"].endswith("/\\udcff,\n.png")


def test_a_table_that_is_cut_leaves_the_old_one(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("the old one")

    def interrupted():
        yield Classified("a.png", (("a", 1.0),))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_classified(table, interrupted())
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("table.csv", "the old one")]


@pytest.mark.parametrize("workers", [0, 1])
def test_files_are_listed_only_a_little_ahead(tmp_path, grey, monkeypatch, workers):
    """So memory does not grow with their number."""
    made = picture(tmp_path / "p.png", 0)
    listed = []
    endless = (listed.append(1) or str(made) for _ in iter(int, 1))
    monkeypatch.setattr("dacsm.evaluation.classify.BATCH", 2)
    monkeypatch.setattr("dacsm.data.pictures.pictures", lambda _paths: endless)
    results = classify(load_trained(grey), [made], 1, Compute(CPU.device, workers))
    for taken in range(1, 20):
        next(results)
        assert len(listed) <= taken + 2 * (1 + 3 * workers)
    results.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--csv", "t.csv", "--json"], "--csv writes the best class of each picture; leave out --json and --top"),
        (["--csv", "t.csv", "--top", "1"], "leave out --json and --top"),
        (["--probabilities"], "--probabilities are columns of a file; name it with --csv"),
        (["--csv", "."], "--csv is ., which is a folder"),
        (["--csv", "a.png/t.csv"], "a.png/t.csv cannot be written"),
    ],
)
def test_a_table_that_cannot_be_is_said_in_one_sentence(tmp_path, grey, monkeypatch, capsys, options, sentence):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png", 0)
    assert main(["predict", str(grey), "a.png", *options]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_a_bar_on_a_terminal_leaves_stdout_alone(tmp_path, grey, monkeypatch, capsys):
    picture(tmp_path / "p/a.png", 0)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich then takes stderr for a terminal
    assert main(["predict", str(grey), str(tmp_path / "p")]) == 0
    printed = capsys.readouterr()
    assert "1/1" in printed.err
    assert printed.out.startswith(f"{tmp_path}/p/a.png\t")
    assert printed.out.count("\n") == 1
