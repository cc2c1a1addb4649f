"""A target without labels: from a flat folder of images to a table in which there is no accuracy."""

import csv
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from dacsm.config import datasets as catalog
from dacsm.config.datasets import load_dataset
from dacsm.config.params import Params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.raw.describe import describe_folders
from dacsm.data.shards import read_labels, read_names
from dacsm.evaluation.unlabelled import describe_predictions
from dacsm.ledger.audit.numbers import metrics_findings, recomputing, text_findings
from dacsm.ledger.cell import describe_cell
from dacsm.ledger.dvc_file import plots_of
from dacsm.ledger.recommend import describe_recommendation
from dacsm.ledger.runs import run_of
from dacsm.report.unlabelled import collect_unlabelled
from dacsm.report.unlabelled_pages import NO_LABELS, unlabelled_latex, unlabelled_page
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.stages.adapt import adapt
from dacsm.stages.download import download
from dacsm.stages.evaluate import evaluate
from dacsm.stages.pretrain import pretrain
from dacsm.stages.shard import shard
from dacsm.stages.summarise import summarise
from dacsm.stages.table import table

CLASSES = ("cat", "dog", "emu")
PER_CLASS = 6
TASK, METHODS, SEEDS = "photos-scans", ("source_only", "cdtrans", "shot"), (0, 1)
CPU = Compute(torch.device("cpu"))
ACCURACY = re.compile(r"accuracy_by|overall|per_class|oracle|recall")  # what only labels give


def draw_images(root: Path) -> None:
    """Photos of three classes, and scans of the same without folders, whose names do not tell the class."""
    random = np.random.default_rng(0)
    for domain in ("photos", "scans"):
        for number in range(len(CLASSES) * PER_CLASS):
            grey = 40 + 80 * (number // PER_CLASS) + random.integers(-20, 20, (28, 28))
            folder = CLASSES[number // PER_CLASS] if domain == "photos" else "."
            path = root / domain / folder / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey.astype(np.uint8)).save(path)


def sort_by_class(folder: Path) -> None:
    """Give flat images their folders of classes; the order of their paths stays as it was."""
    for number, path in enumerate(sorted(folder.iterdir())):
        (folder / CLASSES[number // PER_CLASS]).mkdir(exist_ok=True)
        path.rename(folder / CLASSES[number // PER_CLASS] / path.name)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(catalog, "CATALOG", tmp_path / "catalog")
    draw_images(tmp_path / "mine")
    return tmp_path / "mine"


def read(params: Params, experiment: dict[str, Any] | None = None, **folder: object) -> Params:
    """The params with the folder as the dataset `mine`."""
    content = params.model_dump(mode="json")
    content["folders"] = {"mine": {"path": "mine", "channels": 1} | folder}
    for stage in (content["shard"], content["pretrain"], content["adapt"]["recipes"]):
        stage["mine"] = stage["tiny"]
    content["pretrain"]["mine"] |= {"batch_size": 4}
    content["adapt"]["recipes"]["mine"] |= {"batch_size": 4}
    plain = {"tasks": [TASK], "methods": METHODS, "seeds": SEEDS}
    content["experiments"] = {"mine": plain | (experiment or {})}
    content |= {"datasets": ["mine"], "tables": {"mine": "mine"}}
    describe_folders(content, "params.yaml")
    return parse_params(content)


def opened(params: Params, root: Path) -> Project:
    return Project(params, params.load_dataset_of("mine"), Paths(root))


def sharded(project: Project) -> Project:
    for archive in project.dataset.archives:
        download(project, archive)
    for domain in project.dataset.domains:
        shard(project, domain)
    return project


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True)
class Made:
    """Runs on the flat target, and on its twin with labels."""

    flat: Project
    twin: Project

    def evaluated(self, method: str, name: str, seed: int = 0) -> Path:
        return self.flat.paths.evaluated("mine", method, TASK, seed) / name


@pytest.fixture(scope="module")
def made(tiny_params: Params, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder, projects = tmp_path_factory.mktemp("unlabelled"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw_images(folder / "mine")
        for name in ("flat", "twin"):
            patch.setattr(catalog, "CATALOG", folder / f"catalog_{name}")
            if name == "twin":
                sort_by_class(folder / "mine/scans")
            project = sharded(opened(read(tiny_params), folder / name))
            for seed in SEEDS if name == "flat" else SEEDS[:1]:
                pretrain(project, "photos", seed, CPU)
                for method in METHODS if name == "flat" else METHODS[:2]:
                    if method != "source_only":
                        adapt(project, method, TASK, seed, CPU)
                    evaluate(project, method, TASK, seed, CPU)
            projects.append(project)
        patch.setattr(catalog, "CATALOG", folder / "catalog_flat")
        table(projects[0], "mine")
        yield Made(*projects)


# From the folder to the shards


def test_a_flat_folder_is_a_target_without_labels(mine: Path, tiny_params: Params) -> None:
    params = read(tiny_params, {"tasks": "all"})
    dataset = load_dataset("mine")
    assert [facts.labelled for facts in dataset.domains.values()] == [True, False]
    assert dataset.classes == CLASSES
    assert dataset.tasks == params.experiment("mine").tasks == (TASK,)
    assert dataset.domains["scans"].per_class is None
    assert "where they have labels" in dataset.protocol
    (mine / "scans/.hidden").mkdir()
    (mine / "scans/.hidden/x.png").write_bytes(b"")
    read(tiny_params)  # hidden files are no change
    shutil.copy(mine / "scans/000.png", mine / "scans/new.png")
    with pytest.raises(InputError, match=r"scans has other images than when .*mine\.yaml was written"):
        read(tiny_params)


def dates(root: Path) -> None:
    for number, path in enumerate(sorted((root / "scans").iterdir())):
        (root / f"scans/2024-0{number % 2}").mkdir(exist_ok=True)
        path.rename(root / f"scans/2024-0{number % 2}" / path.name)


def mixed(root: Path) -> None:
    (root / "scans/cat").mkdir()
    (root / "scans/003.png").rename(root / "scans/cat/003.png")


def nested(root: Path) -> None:
    (root / "scans/cat/2024").mkdir(parents=True)
    (root / "scans/003.png").rename(root / "scans/cat/2024/003.png")


def flat(root: Path) -> None:
    for path in sorted((root / "photos").glob("*/*")):
        path.rename(root / "photos" / path.name)


@pytest.mark.parametrize(
    ("change", "folder", "sentence"),
    [
        (dates, {}, "has the folders cat, dog, emu, and the other domains have 2024-00, 2024-01, with none in common"),
        (dates, {}, "for a domain without labels, put its images directly into its folder, mine/<domain>/<image>"),
        (mixed, {}, "others in folders of classes, such as mine/scans/cat/003.png; move it into one of these"),
        (nested, {}, "mine/scans/cat/2024/003.png is not where images are expected, mine/scans/<class>/<image>"),
        (lambda root: (root / "new").mkdir(), {}, "mine/new has no images; put some there, or remove it"),
        (flat, {}, "has 2 domains and 0 classes, expected at least two of both"),
        (lambda root: None, {"held_out": 0.2}, "folders.mine.held_out is 0.2, but mine/scans has no labels"),
    ],
)
def test_a_folder_that_cannot_be_told(
    mine: Path, tiny_params: Params, change: Any, folder: dict[str, object], sentence: str
) -> None:
    change(mine)
    with pytest.raises(InputError, match=re.escape(sentence)):
        read(tiny_params, **folder)
    assert not (mine.parent / "catalog/mine.yaml").exists()


@pytest.mark.parametrize(
    ("domain", "changed", "sentence"),
    [
        ("scans", {"held_out": 0.5}, "domains.scans has held_out, but no labels"),
        ("scans", {"per_class": [6, 6, 6]}, "domains.scans has per_class, but no labels"),
        ("photos", {"evaluated_on": "scans"}, "domains.photos.evaluated_on is 'scans', which has no labels"),
        ("", {"development_tasks": [TASK]}, "development_tasks is 'photos-scans', whose target has no labels"),
        ("", {"reader": "digits"}, "domains.scans.labelled is false, which only a folder of images can be"),
        ("photos", {"labelled": False, "per_class": None}, "no domain has labels (labelled: false), and one should"),
    ],
)
def test_nothing_is_measured_without_labels(
    mine: Path, tiny_params: Params, domain: str, changed: dict[str, Any], sentence: str
) -> None:
    read(tiny_params)
    path = catalog.CATALOG / "mine.yaml"
    content = yaml.safe_load(path.read_text()) | {"tasks": [TASK]}
    (content["domains"][domain] if domain else content).update(changed)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=re.escape(sentence)):
        load_dataset("mine")


def test_shards_have_names_and_no_labels(mine: Path, tiny_params: Params, tmp_path: Path) -> None:
    (mine / "scans/007.png").write_bytes(b"no image")
    params = read(tiny_params)
    path = catalog.CATALOG / "mine.yaml"
    path.write_text(path.read_text().replace("labelled: false", "labelled: false\n    max_unreadable: 0.1"))
    project = sharded(opened(params, tmp_path / "root"))
    folder = project.paths.shards("mine", "scans")
    names = {f"{number:03d}.png" for number in range(18)}
    assert set(read_names(folder)) == names - {"007.png"}
    assert {row["label"] for row in rows_of(folder / "labels.csv")} == {""}
    assert rows_of(folder / "counts.csv") == []
    assert [(row["label"], row["name"]) for row in rows_of(folder / "unreadable.csv")] == [("", "007.png")]
    with pytest.raises(InputError, match=r"labels\.csv has no labels: the domain scans can only be a target"):
        read_labels(folder)
    assert sum(int(row["images"]) for row in rows_of(project.paths.shards("mine", "photos") / "counts.csv")) == 18


# What is refused


def test_a_table_has_accuracies_or_none(mine: Path, tiny_params: Params) -> None:
    shutil.copytree(mine / "photos", mine / "paintings")
    params = read(tiny_params, {"tasks": "all"})
    with pytest.raises(
        InputError,
        match=r"experiments\.mine\.tasks has targets with labels \(paintings-photos, photos-paintings\) and without "
        r"\(paintings-scans, photos-scans\), but a table has either",
    ):
        params.load_dataset_of("mine")


@pytest.mark.parametrize(
    ("stage", "arguments", "sentence"),
    [
        ("pretrain", {"source": "scans", "seed": 0}, "no model can be trained on it; name one of photos"),
        ("adapt", {"method": "cdtrans", "task": "scans-photos", "seed": 0}, "it can only be a target; name one of"),
        ("evaluate", {"method": "cdtrans", "task": "scans-photos", "seed": 0}, "it can only be a target"),
        ("rescale", {"method": "cdtrans", "task": TASK, "seed": 0}, "its accuracy is known at no scale"),
        ("scales", {"experiment": "mine"}, "its accuracy is known at no scale"),
    ],
)
def test_runs_that_need_labels(
    mine: Path, tiny_params: Params, stage: str, arguments: dict[str, Any], sentence: str
) -> None:
    project = opened(read(tiny_params), Path())
    with pytest.raises(InputError, match=f"^the domain scans of mine has no labels, so that {sentence}"):
        run_of(project, stage, **arguments)


# Runs


def test_labels_are_never_needed(made: Made) -> None:
    """The twin has the same images in the same order, and labels: models and predictions are equal, bit for bit."""
    for name in ("index.json", "offsets.npy", "000000.tar"):
        files = [project.paths.shards("mine", "scans") / name for project in (made.flat, made.twin)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert len(set(read_labels(made.twin.paths.shards("mine", "scans")))) == 3
    for name in ("model.safetensors", "last.safetensors", "epochs.npz", "log.csv"):
        files = [project.paths.adapted("mine", "cdtrans", TASK, 0) / name for project in (made.flat, made.twin)]
        assert files[0].read_bytes() == files[1].read_bytes()
    for method in METHODS[:2]:
        both = [
            rows_of(project.paths.evaluated("mine", method, TASK, 0) / "predictions.csv")
            for project in (made.flat, made.twin)
        ]
        assert [[row[key] for key in ("index", "predicted", "probability")] for row in both[0]] == [
            [row[key] for key in ("index", "predicted", "probability")] for row in both[1]
        ]


def test_predictions_name_each_image_and_its_class(made: Made) -> None:
    rows = rows_of(made.evaluated("cdtrans", "predictions.csv"))
    assert list(rows[0]) == ["index", "name", "predicted", "class", "probability"]
    assert [row["name"] for row in rows] == read_names(made.flat.paths.shards("mine", "scans"))
    assert all(row["class"] == CLASSES[int(row["predicted"])] for row in rows)
    assert all(1 / 3 <= float(row["probability"]) <= 1 for row in rows)


def test_metrics_have_scores_and_nothing_of_accuracy(made: Made) -> None:
    for method in METHODS:
        text = made.evaluated(method, "metrics.json").read_text()
        assert not ACCURACY.search(text)
        metrics = json.loads(text)
        selected, rows = metrics["selected"], rows_of(made.evaluated(method, "predictions.csv"))
        assert metrics["images"] == len(rows) == 18
        counts = {name: sum(row["class"] == name for row in rows) for name in CLASSES}
        assert selected["predicted"] == {name: round(100 * count / 18, 2) for name, count in counts.items()}
        confidence = np.mean([float(row["probability"]) for row in rows])
        assert selected["mean_confidence"] == round(100 * confidence, 2)
        assert {"infomax", "entropy", "class_ami"} <= selected["scores"].keys()
        assert None not in [selected["scores"][name] for name in ("infomax", "entropy", "bnm", "snd", "class_ami")]
    adapted = json.loads(made.evaluated("cdtrans", "metrics.json").read_text())
    for name, score in adapted["selected"]["scores"].items():
        assert adapted["validators"][name]["scores"][adapted["selected"]["epoch"] - 1] == score
    twin = made.twin.paths.evaluated("mine", "cdtrans", TASK, 0) / "metrics.json"
    of_twin = json.loads(twin.read_text())["validators"]
    assert {name: one["scores"] for name, one in of_twin.items()} == {
        name: one["scores"] for name, one in adapted["validators"].items()
    }


def test_the_table_pretends_no_accuracy(made: Made) -> None:
    paths = made.flat.paths
    text = paths.table("mine", "md").read_text()
    assert text.splitlines()[2].startswith("**The target has no labels, so there is no accuracy")
    files = [paths.table("mine", kind) for kind in ("csv", "tex")]
    files += [of("mine") for of in (paths.differences, paths.validators, paths.costs, paths.metrics)]
    for path in files:
        found = re.sub(r"source.{0,2}_accuracy|no accuracy", "", path.read_text())
        assert "accuracy" not in found
        assert not ACCURACY.search(found)
    plots = {path.name for path in paths.plots("mine").iterdir()}
    assert plots == {f"predicted_{TASK}.png", *(f"predicted_{method}_{TASK}.csv" for method in METHODS)}


def test_the_page_has_no_accuracy(made: Made) -> None:
    summarise(made.flat, "mine")
    text = re.sub(r"base64,[^\"]+", "", made.flat.paths.report("mine").read_text())
    assert NO_LABELS in text
    assert not ACCURACY.search(text)
    assert "after the fact" not in text
    assert [text.count(f"<h4>{group} sure</h4>") for group in ("Most", "Least")] == [len(METHODS)] * 2
    assert "of the target&#39;s images with seed 0, the 6 with the highest probability" in text
    for row in unlabelled_rows(made):
        assert all(cell in text for cell in row)


def unlabelled_rows(made: Made) -> list[list[str]]:
    """The cells of the page of Markdown, as HTML has them."""
    lines = made.flat.paths.table("mine", "md").read_text().splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|") and not line.startswith("|:")]
    return [[cell.strip(" ") for cell in row] for row in rows]


def test_every_number_of_the_table(made: Made) -> None:
    paths = made.flat.paths
    rows = {row["method"]: row for row in rows_of(paths.table("mine"))}
    assert list(rows) == list(METHODS)
    for method, row in rows.items():
        runs = [json.loads(made.evaluated(method, "metrics.json", seed).read_text())["selected"] for seed in SEEDS]
        classes = [rows_of(made.evaluated(method, "predictions.csv", seed)) for seed in SEEDS]
        same = np.mean([one["class"] == other["class"] for one, other in zip(*classes, strict=True)])
        assert row["agreement_between_seeds"] == f"{100 * same:.1f}"
        for column, values in {
            "mean_confidence": [run["mean_confidence"] for run in runs],
            "predicted_dog": [run["predicted"]["dog"] for run in runs],
        }.items():
            assert (row[column], row[f"{column}_std"]) == (f"{np.mean(values):.1f}", f"{np.std(values, ddof=1):.1f}")
        assert row["score_infomax"] == f"{np.mean([run['scores']['infomax'] for run in runs]):.4f}"
        assert sum(float(row[f"predicted_{name}"]) for name in CLASSES) == pytest.approx(100, abs=0.16)
    pairs = rows_of(paths.differences("mine"))
    assert [(row["method"], row["other"]) for row in pairs] == [
        ("source_only", "cdtrans"), ("source_only", "shot"), ("cdtrans", "shot")
    ]  # fmt: skip
    scores = rows_of(paths.validators("mine"))
    assert [row["method"] for row in scores if row["default"] == "yes"] == ["cdtrans", "shot"]


def test_a_title_may_have_any_letters(made: Made) -> None:
    dataset = made.flat.dataset.model_copy(update={"title": r"50 % {of} my_{ \images"})
    runs = collect_unlabelled(dataset, made.flat.params.experiment("mine"), made.flat.paths)
    assert r"50 \% \{of\} my\_\{ \textbackslash{}images, photos $\to$ scans, a target" in unlabelled_latex(runs)
    assert unlabelled_page(runs).startswith(f"# {dataset.title}\n")


def test_the_audit_checks_what_can_be_checked(made: Made, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made.flat.paths.root, tmp_path / "copy"))
    project = Project(made.flat.params, made.flat.dataset, Paths(root))

    def findings() -> list[str]:
        recomputed = recomputing(project, deep=True)
        runs = [run_of(project, "evaluate", method=method, task=TASK, seed=0) for method in METHODS[:2]]
        found = [finding.text for run in runs for finding in metrics_findings(run, recomputed)]
        return found + [
            one.text for one in text_findings(run_of(project, "table", experiment="mine"), project, recomputed)
        ]

    assert findings() == []
    folder = project.paths.evaluated("mine", "cdtrans", TASK, 0)
    for file, old, new, sentence in (
        ("predictions.csv", "000.png", "zzz.png", "does not have the target's images"),
        ("metrics.json", '"mean_confidence": ', '"mean_confidence": 1', "says selected.mean_confidence 1"),
        ("metrics.json", '"dog": ', '"dog": 1', "says selected.predicted.dog 1"),
        ("predictions.csv", "0,", "9,", "is not|does not|class indices"),
    ):
        before = (folder / file).read_text()
        (folder / file).write_text(before.replace(old, new, 1))
        assert any(re.search(sentence, found) for found in findings())
        (folder / file).write_text(before)
    path = project.paths.table("mine", "md")
    path.write_text(path.read_text().replace("no labels", "labels", 1))
    assert any("says in line 3" in found for found in findings())


def test_a_cell_is_a_class_the_confidence_or_a_score(made: Made) -> None:
    lines = list(describe_cell(made.flat, "mine", "shot", "dog", None))
    row = next(row for row in rows_of(made.flat.paths.table("mine")) if row["method"] == "shot")
    of = f"{row['predicted_dog']} ± {row['predicted_dog_std']}"
    assert lines[0] == f"mine, shot, images predicted as dog of photos → scans: {of}"
    assert "no labels, so that there is no accuracy" in lines[1]
    assert "mean confidence of photos → scans" in next(
        describe_cell(made.flat, "mine", "shot", "mean_confidence", None)
    )
    score = next(describe_cell(made.flat, "mine", "shot", "score_infomax", TASK))
    assert score.endswith(f"{row['score_infomax']} ± {row['score_infomax_std']}")
    with pytest.raises(InputError, match="whose target has no labels and so no accuracy, has no cell 'overall'"):
        list(describe_cell(made.flat, "mine", "shot", "overall", None))


def test_methods_can_be_recommended(made: Made) -> None:
    assert "would choose" in "\n".join(describe_recommendation(made.flat, "mine"))


def test_dvc_draws_the_classes(made: Made) -> None:
    entries = [next(iter(entry.values())) for entry in plots_of(made.flat, made.flat.params.experiment("mine"))]
    drawn = [(Path(path), column, entry["x"]) for entry in entries for path, column in entry["y"].items()]
    of_table = [entry for entry in drawn if entry[0].parent == made.flat.paths.plots("mine")]
    assert len(of_table) == len(METHODS)
    for path, *columns in of_table:
        assert set(columns) == set(rows_of(path)[0])


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        (
            "metrics.json",
            lambda text: text.replace('"scores"', '"marks"', 1),
            "is not of a target without labels: sel",
        ),
        ("metrics.json", lambda text: text.replace('"emu"', '"gnu"'), "does not hold the 3 classes of mine"),
        ("metrics.json", lambda text: "", "cannot be read"),
        ("predictions.csv", lambda text: text.partition("\n")[0] + "\n", "expected 18 class indices from 0 to 2"),
        ("predictions.csv", lambda text: "name\nx\n", "cannot be read"),
    ],
)
def test_runs_of_something_else_are_refused(made: Made, tmp_path: Path, file: str, change: Any, sentence: str) -> None:
    root = Path(shutil.copytree(made.flat.paths.root / "results", tmp_path / "copy/results")).parent
    path = Paths(root).evaluated("mine", "shot", TASK, 1) / file
    path.write_text(change(path.read_text()))
    with pytest.raises(
        InputError, match=rf"seed1/{file} .*{sentence}.*`dacsm evaluate mine shot photos-scans --seed 1`"
    ):
        collect_unlabelled(made.flat.dataset, made.flat.params.experiment("mine"), Paths(root))


# Properties

predictions = st.integers(1, 60).flatmap(
    lambda images: st.tuples(
        npst.arrays(np.int64, images, elements=st.integers(0, 2)),
        npst.arrays(float, images, elements=st.floats(0.3334, 1)),
    )
)


@given(predictions, st.randoms(use_true_random=False))
def test_percentages_of_classes_are_of_all_images(pair: tuple[np.ndarray, np.ndarray], random: Any) -> None:
    predicted, probabilities = pair[0], [f"{one:.4f}" for one in pair[1]]
    found = describe_predictions(predicted, probabilities, CLASSES)
    assert sum(found["predicted"].values()) == pytest.approx(100, abs=0.0151)
    assert min(pair[1]) - 1e-4 <= found["mean_confidence"] / 100 <= max(pair[1]) + 1e-4
    order = list(range(len(predicted)))
    random.shuffle(order)
    again = describe_predictions(predicted[order], [probabilities[place] for place in order], CLASSES)
    assert again["predicted"] == found["predicted"]
    assert again["mean_confidence"] == pytest.approx(found["mean_confidence"], abs=0.0101)


def test_the_confidence_of_an_epoch_without_checkpoint_is_not_known() -> None:
    assert describe_predictions(np.array([0, 1]), ["", ""], CLASSES)["mean_confidence"] is None
