"""`dacsm init`: what it finds in folders and archives, what it asks and proposes, and what it writes."""

import csv
import io
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from test_published_datasets import copied
from tiny_project import ProjectFolder

from dacsm.cli.init import recipe
from dacsm.cli.main import main
from dacsm.config import datasets as catalog
from dacsm.config.datasets import load_dataset
from dacsm.config.params import load_params
from dacsm.config.yaml_file import read_yaml
from dacsm.ledger.plan import Time
from dacsm.runtime.device import Compute

PROJECT = Path(__file__).parents[1]
PETS = {"photo/dog": 9, "photo/cat": 12, "sketch/dog": 8, "sketch/cat": 8}


def draw(root: Path, counts: dict[str, int], side: int = 24, grey: bool = False, start: int = 0) -> Path:
    """Images of random pixels, so many in each folder."""
    random = np.random.default_rng(start)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 255, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels[..., 0] if grey else pixels).save(root / folder / f"{number}.png")
    return root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the settings of this project, in which nothing is measured and nobody answers."""
    (tmp_path / "project/workflow/datasets").mkdir(parents=True)
    (tmp_path / "project/workflow/presets").symlink_to(PROJECT / "workflow/presets")
    shutil.copy(PROJECT / "params.yaml", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(catalog, "CATALOG", Path("workflow/datasets"))
    for file in (PROJECT / "workflow/datasets").glob("*.yaml"):
        shutil.copy(file, catalog.CATALOG)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(recipe, "time_of", lambda *_, **__: Time({("pretrain", ""): [1.0]}, {}))
    return tmp_path / "project"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let a person at a terminal give these answers; returns the questions, as they come."""

    def given(*words: str) -> list[str]:
        left, asked = iter(words), []
        monkeypatch.setattr("sys.stdin", type("Terminal", (io.StringIO,), {"isatty": lambda _: True})())
        monkeypatch.setattr("builtins.input", lambda question: (asked.append(question), next(left))[1])
        return asked

    return given


def init(*words: object) -> int:
    return main(["init", *map(str, words), "--device", "cpu"])


def entries(name: str) -> dict[str, object]:
    """What params.yaml has of a dataset, by key."""
    content = read_yaml(Path("params.yaml"))
    places = {key: content.get(key, {}) for key in ("folders", "experiments", "shard", "pretrain", "resources")}
    return {
        key: place[name] for key, place in (places | {"recipes": content["adapt"]["recipes"]}).items() if name in place
    }


def test_a_folder_is_named_where_it_lies(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("params.yaml").read_text()
    draw(tmp_path / "pets", PETS)
    assert init(tmp_path / "pets") == 0
    printed = capsys.readouterr().out
    assert "pets: 37 images, 2 domains, 2 classes" in printed
    assert re.search(r"photo +21 +2 +9 \(dog\) to 12 \(cat\) +24×24 +colour", printed)
    assert printed.endswith("results/pets/report.html\n")
    found = entries("pets")
    assert found["folders"] == {"path": str(tmp_path / "pets"), "title": "pets", "channels": 3}
    assert found["experiments"]["tasks"] == ["photo-sketch"]  # from the largest
    assert not Path("data").exists()
    after = Path("params.yaml").read_text()
    lines = iter(after.splitlines())
    assert all(line in lines for line in before.splitlines())  # all that was there, in its order
    params = load_params(Path("params.yaml"))
    assert load_dataset("pets").classes == ("cat", "dog")
    assert params.pretrain["pets"].batch_size <= 21 - round(0.1 * 21)
    assert params.pretrain["pets"].model.channels == len(params.pretrain["pets"].model.mean) == 3


def test_a_second_time_changes_nothing(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "pets", PETS)
    assert init(tmp_path / "pets") == 0
    before = Path("params.yaml").read_bytes()
    assert init(tmp_path / "pets") == 0
    assert "has folders.pets already" in capsys.readouterr().out
    assert Path("params.yaml").read_bytes() == before
    assert init(tmp_path / "pets", "--name", "more") == 0
    assert entries("more")["experiments"] == entries("pets")["experiments"]
    assert entries("more")["folders"]["title"] == "more"  # as it was called


def test_grey_digits_have_the_recipe_of_digits(project: Path, tmp_path: Path) -> None:
    counts = {f"{domain}/{label}": 200 for domain in ("large", "small") for label in "01"}
    draw(tmp_path / "mine", counts, side=28, grey=True)
    assert init(tmp_path / "mine") == 0
    found = entries("mine")
    assert found["shard"] == read_yaml(Path("params.yaml"))["shard"]["digits"]
    assert found["pretrain"]["preset"] == "small_images_pretrain"
    assert found["pretrain"]["model"] == {"mean": [0.5], "std": [0.29]}  # noise is brighter than digits are
    assert found["folders"]["channels"] == 1


def test_photographs_want_weights_and_a_gpu_has_its_recipe(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "pets", PETS, side=150)
    (tmp_path / "w.pth").touch()
    assert init(tmp_path / "pets", "--weights", tmp_path / "w.pth") == 0
    found = entries("pets")
    assert found["shard"] == {"preset": "photographs_small"}
    assert found["pretrain"]["model"] == {"weights": str(tmp_path / "w.pth")}
    assert "resources" not in found
    monkeypatch.setattr("dacsm.cli.init.choose_compute", lambda _: Compute(torch.device("cuda")))
    monkeypatch.setattr(recipe, "device_name", lambda _: "a GPU")
    assert init(tmp_path / "pets", "--name", "fast") == 0
    found = entries("fast")
    assert found["shard"] == {"preset": "photographs_256"}
    assert found["pretrain"]["preset"] == "cdtrans_pretrain"
    assert found["pretrain"]["model"] == {"preset": "deit_base"}
    assert found["recipes"]["preset"] == "cdtrans_adapt"
    assert found["resources"] == {"preset": "one_gpu"}

    def full(*_: object, **__: object) -> Time:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recipe, "time_of", full)
    assert init(tmp_path / "pets", "--name", "fastest") == 2
    assert "too little free memory for deit_base_patch16_224" in capsys.readouterr().err


def test_an_unlabelled_domain_is_the_target(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "pets", PETS | {"new": 30})
    assert init(tmp_path / "pets") == 0
    assert "target   new: 30 images, unlabelled" in capsys.readouterr().out
    assert entries("pets")["experiments"]["tasks"] == ["photo-new"]
    assert entries("pets")["folders"]["path"] == str(tmp_path / "pets")


def test_domains_that_share_nothing_are_left_out(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "pets", PETS | {"new": 30, "newer": 20, "tools/saw": 9, "tools/axe": 9})
    assert init(tmp_path / "pets") == 0
    printed = capsys.readouterr().out
    assert "- newer is left out: it has no class of the source" in printed
    assert "- tools is left out: it has no class of the source" in printed
    assert {path.name for path in Path("data/raw/pets/images").iterdir()} == {"photo", "sketch", "new"}


@pytest.mark.parametrize("target", [{"2024/05": 9, "2024/06": 9}, {".": 18}, {"x/dog": 9, "x/cat": 9}])
def test_a_target_elsewhere_is_linked(
    target: dict[str, int], project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "pets", {"dog": 10, "cat": 10})
    draw(tmp_path / "my holidays", target, start=1)
    assert init(tmp_path / "pets", "--target", tmp_path / "my holidays") == 0
    assert entries("pets")["experiments"]["tasks"] == ["pets-my_holidays"]
    folder = Path("data/raw/pets/images")
    assert entries("pets")["folders"]["path"] == str(folder)
    labelled = "x/dog" in target
    assert load_dataset("pets").domains["my_holidays"].labelled == labelled
    assert sum(path.is_file() for path in (folder / "my_holidays").glob("*/*" if labelled else "*")) == 18
    assert sum(path.is_file() for path in (folder / "pets").glob("*/*")) == 20
    assert labelled or "unlabelled" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_is_unpacked_once(kind: str, project: Path, tmp_path: Path) -> None:
    draw(tmp_path / "packed/pets", PETS)
    (tmp_path / "packed/pets/photo/.hidden.png").write_bytes(b"x")
    archive = tmp_path / f"my-pets.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted((tmp_path / "packed").rglob("*")):
                packed.write(path, path.relative_to(tmp_path / "packed"))
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as packed:
            packed.add(tmp_path / "packed", "./")
    assert init(archive) == 0
    folder = Path("data/raw/my_pets/images")
    original = {
        str(p.relative_to(tmp_path / "packed/pets")): p.read_bytes() for p in tmp_path.glob("packed/pets/*/*/*")
    }
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*/*")} == original
    assert [path.name for path in Path("data/raw").rglob(".*")] == []
    before = folder.stat().st_mtime_ns
    shutil.copy(PROJECT / "params.yaml", "params.yaml")
    Path("workflow/datasets/my_pets.yaml").unlink()
    assert init(archive) == 0  # the folder is there, and as it should be
    assert folder.stat().st_mtime_ns == before


def hostile(archive: Path, kind: str) -> Path:
    """An archive with a file that would be written outside, a link that leads out, or more than can be."""
    image = io.BytesIO()
    Image.new("L", (9, 9)).save(image, "png")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for place in PETS:
            for number in range(8):
                packed.writestr(f"{place}/{number}.png", image.getvalue())
        if kind == "outside":
            packed.writestr("../../evil.png", image.getvalue())
        if kind == "bomb":
            packed.writestr("photo/dog/big.png", bytes(2**26 + 1))
        if kind == "link":
            entry = zipfile.ZipInfo("photo/dog/link.png")
            entry.external_attr = 0o120777 << 16
            packed.writestr(entry, "/etc/passwd")
    return archive


@pytest.mark.parametrize(
    ("kind", "sentence"), [("outside", "leads out of"), ("link", "leads out of"), ("bomb", "unpacks to more than")]
)
def test_a_hostile_archive_is_refused(
    kind: str, sentence: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(hostile(tmp_path / "pets.zip", kind)) == 2
    assert sentence in capsys.readouterr().err
    assert not list(project.rglob("*.png"))
    assert Path("params.yaml").read_bytes() == (PROJECT / "params.yaml").read_bytes()


REFUSED = [
    ({}, (), "holds no images .it is empty."),
    ({"a/dog": 1, "a/cat": 1, "b": 1}, (), "a has 2 images, expected at least 8"),
    ({"photo/dog": 9, "photo/cat": 9}, (), "holds one domain, photo; adapting needs another"),
    ({"photo/dog": 9, "sketch/dog": 9}, (), "photo has one class, dog, expected at least two"),
    ({"dog": 9, "cat": 9}, (), "if cat, dog are classes, it is one domain"),
    ({".": 9}, (), "holds images without classes"),
    (PETS | {"sketch/Dog": 3}, (), "sketch has the folders 'Dog' and 'dog', which look like one class"),
    (PETS | {"photo/overall": 9}, (), "classes has 'overall', which means something else .*; rename that folder"),
    (PETS, ("--source", "paintings"), "--source is 'paintings', which is no domain with classes; name one of photo,"),
    (PETS, ("--source", "photo", "--source", "sketch"), "names every domain, so that there is none to adapt to"),
    (PETS, ("--source", "photo", "--target", "photo"), "photo is the target, so that it cannot be a source"),
    (
        PETS,
        ("--target", "nowhere"),
        r"--target is 'nowhere', which is no domain of .* \(photo, sketch\), and no folder",
    ),
    (PETS, ("--name", "a-b"), "--name is 'a-b', but it should be"),
    (PETS, ("--name", "digits"), "the name 'digits' is taken by experiments in params.yaml"),
    (PETS, ("--weights", "none.pth"), "--weights is 'none.pth', which is no file"),
    (PETS, ("--weights", "timm:deit"), "--weights is for photographs"),
    (PETS, ("--params", "nowhere.yaml"), "nowhere.yaml was not found; run from the project's folder"),
]


@pytest.mark.parametrize(("counts", "words", "sentence"), REFUSED)
def test_what_cannot_be_used_is_one_sentence(
    counts: dict[str, int],
    words: tuple[str, ...],
    sentence: str,
    project: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "pets").mkdir()
    draw(tmp_path / "pets", counts, side=8)
    assert init(tmp_path / "pets", *words) == 2
    printed = capsys.readouterr().err
    assert re.search(sentence, printed)
    assert printed.count("\n") == 1
    assert Path("params.yaml").read_bytes() == (PROJECT / "params.yaml").read_bytes()
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "was not found; name a folder, a tar"),
        (b"", "is no folder, tar, tar.gz or zip"),
        (b"PK\3\4 and no more", "is no folder, tar, tar.gz or zip"),
        (b"\x1f\x8b and no more", "cannot be read as an archive"),
    ],
)
def test_a_file_that_is_no_archive(
    content: bytes | None, sentence: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("file").write_bytes(content)
    assert init("file") == 2
    assert sentence in capsys.readouterr().err


def test_settings_that_may_not_be_written(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "pets", PETS)
    Path("params.yaml").chmod(0o444)
    assert init(tmp_path / "pets") == 2
    assert "params.yaml may not be written; allow that" in capsys.readouterr().err


def test_names_of_folders_become_names_of_the_project(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {
        "real world/Dog": 9,
        "real world/Big Cat": 9,
        "sketch-2/dog": 9,
        "sketch-2/big_cat": 10,
        "sketch-2/emu": 2,
    }
    draw(tmp_path / "My Photos-2", counts)
    (tmp_path / "My Photos-2/notes.txt").write_text("no image")
    assert init(tmp_path / "My Photos-2", "--target", "sketch-2") == 0
    printed = capsys.readouterr().out
    assert "the folder 'Big Cat' is taken as the class 'big_cat'" in printed  # as the larger domain has it
    assert "real_world lacks emu" in printed
    assert "no source has emu" in printed
    assert "1 file of another kind than images (1 .txt)" in printed
    assert entries("My_Photos_2")["experiments"]["tasks"] == ["real_world-sketch_2"]
    assert load_dataset("My_Photos_2").classes == ("big_cat", "dog", "emu")


def test_what_is_odd_is_said(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pets = draw(tmp_path / "pets", PETS)
    shutil.copy(pets / "photo/dog/0.png", pets / "sketch/cat/again.png")
    (pets / "photo/cat/0.png").write_bytes((pets / "photo/cat/0.png").read_bytes()[:200])
    (pets / "photo/loose.png").write_bytes((pets / "photo/cat/1.png").read_bytes())
    (pets / "logo.png").write_bytes(b"x")
    (pets / "photo/.DS_Store").touch()
    assert init(pets, "--source", "photo") == 0
    printed = capsys.readouterr().out
    assert "1 of the 21 images of photo that were looked at cannot be read, such as photo/cat/0.png" in printed
    assert "1 image in several domains, byte for byte, such as photo/dog/0.png and sketch/cat/again" in printed
    assert "1 image of photo in no class's folder" in printed
    assert "1 image in no domain, such as logo.png" in printed
    assert "1 hidden file" in printed
    linked = Path("data/raw/pets/images")
    assert sum(path.is_file() for path in linked.rglob("*")) == 38
    assert all(path.is_symlink() for path in linked.glob("*/*/*"))


def test_a_person_is_asked_three_times(
    project: Path, tmp_path: Path, answers: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "pets", PETS | {"clipart/dog": 8, "clipart/cat": 9})
    asked = answers("sketch", "paintings", "photo, clipart", "2")
    assert init(tmp_path / "pets") == 0
    assert [question.strip().split(" (")[0] for question in asked] == [
        "Which domain is adapted to",
        "Which domain is learnt from",
        "Which domain is learnt from",
        "Write these settings, for how many seeds? n writes nothing.\n  one of 1, 2, 3, n [3]:",
    ]
    assert "'paintings' is not one, or several" in capsys.readouterr().out
    experiment = entries("pets")["experiments"]
    assert experiment["tasks"] == ["photo-sketch", "clipart-sketch"]
    assert experiment["seeds"] == [0, 1]


def test_enter_takes_what_is_proposed_and_n_writes_nothing(
    project: Path, tmp_path: Path, answers: Callable[..., list[str]]
) -> None:
    draw(tmp_path / "pets", PETS)
    answers("", "n")
    assert init(tmp_path / "pets") == 0
    assert entries("pets") == {}
    answers("", "")
    assert init(tmp_path / "pets") == 0
    assert entries("pets")["experiments"]["tasks"] == ["photo-sketch"]
    assert len(answers()) == 0
    assert init(tmp_path / "pets", "--yes", "--name", "more") == 0


def test_long_runs_are_proposed_with_one_seed(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "time_of", lambda *_, **__: Time({("pretrain", ""): [5.0]}, {}))
    draw(tmp_path / "pets", PETS)
    assert init(tmp_path / "pets") == 0
    assert entries("pets")["experiments"]["seeds"] == [0]


@pytest.mark.slow
@pytest.mark.long
def test_from_a_folder_to_its_table(tmp_path: Path) -> None:
    project: ProjectFolder = copied(tmp_path / "project")
    draw(tmp_path / "my pets", {"photo/dog": 20, "photo/cat": 20, "sketch/Dog": 10, "sketch/cat": 10}, side=28)
    printed = project.run("python", "-m", "dacsm", "init", "../my pets", "--yes")
    assert "recipe   small colour images" in printed
    file = project.folder / "params.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["experiments"]["my_pets"] |= {"seeds": [0], "methods": ["source_only", "cdtrans"]}
    content["pretrain"]["my_pets"]["epochs"] = content["adapt"]["recipes"]["my_pets"]["epochs"] = 1
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    project.snakemake("results/my_pets_table.csv")
    with (project.folder / "results/my_pets_table.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert {row["method"] for row in rows} == {"source_only", "cdtrans"}
    assert {"cat", "dog"} < rows[0].keys()
