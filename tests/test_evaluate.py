"""Evaluation: what the metrics say of predictions, and which files it refuses to join."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import confusion_matrix

from dacsm.adaptation import scores
from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.evaluation.metrics import class_recalls, measure
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.stages.adapt import adapt
from dacsm.stages.evaluate import evaluate
from dacsm.stages.pretrain import pretrain

CLASSES = ("a", "b", "c")
CPU = Compute(torch.device("cpu"))
TASK = "synthetic-mnist"
LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2])
SCORES = {  # of each epoch
    "infomax": [0.1, 0.2, 0.4, 0.3],
    "entropy": [0.5, 0.5, 0.1, 0.5],
    "source_accuracy": [np.nan] * 4,
}
GUESSES = [  # each epoch's predictions of LABELS: 3, 7, 7 and 6 of 8 are right
    [0, 1, 2, 1, 0, 2, 2, 0],
    [0, 0, 0, 1, 1, 1, 2, 1],
    [0, 0, 1, 1, 1, 1, 2, 2],
    [0, 0, 2, 1, 1, 2, 2, 2],
]


@pytest.fixture
def dataset(tiny_dataset: DatasetSpec) -> DatasetSpec:
    return tiny_dataset.model_copy(update={"classes": CLASSES})


@dataclass
class FakeRun:
    """A run whose checkpoint says what `predicted` holds, and whose shards have the labels `labels`."""

    paths: Paths
    labels: np.ndarray
    predicted: np.ndarray

    @property
    def folder(self) -> Path:
        return self.paths.adapted("tiny", "cdtrans", TASK, 0)

    def write_epochs(self, **changed: object) -> None:
        epochs = {
            "predicted": np.array(GUESSES),
            "pseudo_labels": np.array([LABELS, 0 * LABELS, *GUESSES[2:]]),
            "logits": np.zeros((4, 5, 3), np.float16),
            "features": np.zeros((4, 2, 6), np.float16),
            "source_accuracy": np.full(4, np.nan),
            "kept": np.array(3),
        } | changed
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez(self.folder / "epochs.npz", **epochs)

    def metrics(self, method: str = "cdtrans") -> dict:
        return json.loads((self.paths.evaluated("tiny", method, TASK, 0) / "metrics.json").read_text())

    def predictions(self, method: str = "cdtrans") -> list[dict[str, str]]:
        with (self.paths.evaluated("tiny", method, TASK, 0) / "predictions.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    run = FakeRun(Paths(tmp_path), LABELS, np.array(GUESSES[2]))

    def predict(*_: object, **__: object) -> SimpleNamespace:
        logits = torch.from_numpy(np.log(3) * np.eye(len(CLASSES), dtype=np.float32)[run.predicted])
        return SimpleNamespace(predicted=run.predicted, logits=logits)  # the predicted class has 3/5

    description = SimpleNamespace(model=SimpleNamespace(resize=28, name="deit"))
    of_table = {name: (lambda epoch, of=table: of[epoch.number - 1]) for name, table in SCORES.items()}
    monkeypatch.setattr("dacsm.adaptation.scores.VALIDATORS", of_table)
    monkeypatch.setattr("dacsm.stages.evaluate.read_index", lambda folder: SimpleNamespace(images=len(run.labels)))
    monkeypatch.setattr("dacsm.evaluation.evaluated_model.read_labels", lambda folder: run.labels)
    monkeypatch.setattr("dacsm.evaluation.evaluated_model.ShardedImages", lambda folder: None)
    monkeypatch.setattr("dacsm.evaluation.evaluated_model.require_size", lambda images, size: None)
    monkeypatch.setattr("dacsm.evaluation.evaluated_model.predict", predict)
    monkeypatch.setattr(
        "dacsm.evaluation.evaluated_model.load_checkpoint",
        lambda path, device: SimpleNamespace(description=description),
    )
    run.write_epochs()
    return run


@pytest.fixture
def evaluated(fake: FakeRun, tiny_params: Params, dataset: DatasetSpec) -> Callable[..., FakeRun]:
    def run(method: str = "cdtrans", dataset: DatasetSpec = dataset) -> FakeRun:
        evaluate(Project(tiny_params, dataset, fake.paths), method, TASK, 0, CPU)
        return fake

    return run


labels_and_predictions = st.integers(1, 40).flatmap(
    lambda images: st.tuples(*[npst.arrays(np.int64, images, elements=st.integers(0, 2)) for _ in range(2)])
)


@given(labels_and_predictions)
def test_metrics_agree_with_the_confusion_matrix(pair: tuple[np.ndarray, np.ndarray]) -> None:
    labels, predicted = pair
    metrics = measure(labels, predicted, CLASSES)
    confusion = confusion_matrix(labels, predicted, labels=range(len(CLASSES)))
    assert confusion.sum() == len(labels)
    assert metrics["overall"] == round(100 * np.trace(confusion) / len(labels), 2)
    shares = {CLASSES[i]: confusion[i, i] / row.sum() for i, row in enumerate(confusion) if row.sum()}
    assert metrics["mean_per_class"] == pytest.approx(100 * np.mean(list(shares.values())), abs=0.0051)
    for name in CLASSES:
        expected = 100 * shares[name] if name in shares else None
        assert metrics["per_class"][name] == (expected if expected is None else pytest.approx(expected, abs=0.0051))


@given(labels_and_predictions, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(pair: tuple[np.ndarray, np.ndarray], random) -> None:
    labels, predicted = pair
    order = list(range(len(labels)))
    random.shuffle(order)
    assert measure(labels[order], predicted[order], CLASSES) == measure(labels, predicted, CLASSES)


@given(labels_and_predictions, st.permutations(range(3)))
def test_renaming_the_classes_permutes_their_accuracies(pair: tuple[np.ndarray, np.ndarray], names: list[int]) -> None:
    labels, predicted = pair
    renamed = np.array(names)
    before, after = class_recalls(labels, predicted, 3), class_recalls(renamed[labels], renamed[predicted], 3)
    assert np.array_equal(after[renamed], before, equal_nan=True)


def test_a_class_without_images_is_null_and_outside_the_mean() -> None:
    metrics = measure(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2]), CLASSES)
    assert metrics["per_class"] == {"a": 50.0, "b": None, "c": 100.0}
    assert metrics["mean_per_class"] == 75.0
    assert "NaN" not in json.dumps(metrics)


def test_selected_last_and_oracle_are_told_apart(evaluated: Callable[..., FakeRun], dataset: DatasetSpec) -> None:
    metrics = evaluated().metrics()
    assert metrics["protocol"] == dataset.protocol
    assert metrics["images"] == 8
    chosen = {kind: (metrics[kind]["selection"], metrics[kind]["epoch"]) for kind in ("selected", "last", "oracle")}
    # Epoch 2 has recalls 1, 1, 1/2, epoch 3 has 2/3, 1, 1: the same overall, the third better per class.
    assert chosen == {"selected": ("infomax", 3), "last": ("last epoch", 4), "oracle": ("oracle (target labels)", 3)}
    assert metrics["selected"]["mean_per_class"] == 88.89
    assert metrics["selected"]["per_class"] == dict(zip(CLASSES, (66.67, 100.0, 100.0), strict=True))
    assert metrics["last"]["overall"] == 75.0
    assert metrics["pseudo_label_accuracy"] == [100.0, 37.5, 87.5, 75.0]


def test_the_headline_measure_decides_the_oracle_and_the_first_of_equals_wins(
    evaluated: Callable[..., FakeRun], dataset: DatasetSpec
) -> None:
    metrics = evaluated(dataset=dataset.model_copy(update={"headline": "overall"})).metrics()
    assert metrics["oracle"]["epoch"] == 2


def test_every_validator_is_judged_and_one_without_scores_says_so(evaluated: Callable[..., FakeRun]) -> None:
    metrics = evaluated().metrics()
    assert metrics["validator"] == "infomax"
    first = round(100 * (1 / 3 + 1 / 3 + 1 / 2) / 3, 2)
    assert metrics["validators"] == {
        "infomax": {"epoch": 3, "mean_per_class": 88.89, "overall": 87.5, "scores": [0.1, 0.2, 0.4, 0.3]},
        "entropy": {"epoch": 1, "mean_per_class": first, "overall": 37.5, "scores": [0.5, 0.5, 0.1, 0.5]},
        "source_accuracy": {"epoch": None, "mean_per_class": None, "overall": None, "scores": [None] * 4},
    }


def test_every_epoch_is_measured(evaluated: Callable[..., FakeRun]) -> None:
    metrics = evaluated().metrics()
    every = [measure(LABELS, np.array(guesses), CLASSES) for guesses in GUESSES]
    for name in ("mean_per_class", "overall"):
        assert metrics["accuracy_by_epoch"][name] == [epoch[name] for epoch in every]
    for kind in ("selected", "last", "oracle"):
        assert metrics["accuracy_by_epoch"]["overall"][metrics[kind]["epoch"] - 1] == metrics[kind]["overall"]


def test_epochs_of_a_run_that_diverged_are_not_chosen(
    evaluated: Callable[..., FakeRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCORES, "entropy", [np.nan, 0.3, np.inf, 0.1])
    monkeypatch.setitem(scores.VALIDATORS, "entropy", lambda epoch: SCORES["entropy"][epoch.number - 1])
    found = evaluated().metrics()["validators"]["entropy"]
    assert found["epoch"] == 2
    assert found["scores"] == [None, 0.3, None, 0.1]


def test_predictions_have_a_row_per_image(evaluated: Callable[..., FakeRun]) -> None:
    rows = evaluated().predictions()
    assert [int(row["index"]) for row in rows] == list(range(8))
    assert [int(row["label"]) for row in rows] == LABELS.tolist()
    assert [int(row["predicted"]) for row in rows] == GUESSES[2]
    assert {row["probability"] for row in rows} == {"0.6000"}


def test_source_only_has_its_last_epoch_and_no_oracle(evaluated: Callable[..., FakeRun], tiny_params: Params) -> None:
    metrics = evaluated("source_only").metrics("source_only")
    assert metrics["selected"] == metrics["last"]
    assert metrics["selected"]["selection"] == "last epoch"
    assert metrics["selected"]["epoch"] == tiny_params.recipe("pretrain", "tiny").epochs
    assert metrics["selected"]["mean_per_class"] == 88.89
    assert not {"oracle", "validators", "accuracy_by_epoch", "pseudo_label_accuracy"} & metrics.keys()


def test_a_checkpoint_of_another_run_is_refused(fake: FakeRun, evaluated: Callable[..., FakeRun]) -> None:
    fake.predicted = np.array(GUESSES[1])
    with pytest.raises(InputError, match=r"do not belong together: 2 of 8 .*`dacsm adapt tiny cdtrans synthetic-mnist"):
        evaluated()


def test_a_validator_that_now_selects_another_epoch_decides_the_metrics(
    fake: FakeRun, evaluated: Callable[..., FakeRun], capsys: pytest.CaptureFixture
) -> None:
    """The checkpoint is still of the epoch that was selected when it was adapted, and a line says so."""
    fake.write_epochs(kept=np.array(2))
    fake.predicted = np.array(GUESSES[1])
    metrics = evaluated().metrics()
    said = capsys.readouterr().err
    assert "model.safetensors is of epoch 2, but infomax now selects epoch 3" in said
    assert "`snakemake --forcerun adapt`" in said
    assert (metrics["selected"]["epoch"], metrics["selected"]["mean_per_class"]) == (3, 88.89)
    rows = fake.predictions()
    assert [int(row["predicted"]) for row in rows] == GUESSES[2]
    assert {row["probability"] for row in rows} == {""}
    fake.write_epochs(kept=np.array(3))
    fake.predicted = np.array(GUESSES[2])
    evaluated()
    assert capsys.readouterr().err == ""


def test_a_few_flipped_images_are_told_and_change_no_number(
    fake: FakeRun, evaluated: Callable[..., FakeRun], capsys: pytest.CaptureFixture
) -> None:
    many = 100
    fake.labels = np.tile(LABELS, many)
    fake.predicted = np.tile(GUESSES[2], many)
    tiled = {key: np.tile(np.array(GUESSES), many) for key in ("predicted", "pseudo_labels")}
    fake.write_epochs(**tiled)
    before = evaluated().metrics(), fake.predictions()
    assert capsys.readouterr().err == ""
    fake.predicted[0] = 2
    after = evaluated().metrics(), fake.predictions()
    assert "1 of 800 images" in capsys.readouterr().err
    assert after[0] == before[0]
    assert [row["predicted"] for row in after[1]] == [row["predicted"] for row in before[1]]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"predicted": np.zeros((4, 7), int)}, r"predicted has shape \(4, 7\), expected \(4, 8\)"),
        ({"pseudo_labels": np.zeros((3, 8), int)}, r"pseudo_labels has shape \(3, 8\), expected \(4, 8\)"),
        ({"logits": np.zeros((4, 5, 2))}, r"logits has shape \(4, 5, 2\), expected \(4, any, 3\)"),
        ({"features": np.zeros((4, 5))}, r"features has shape \(4, 5\), expected \(4, any, any\)"),
        ({"source_accuracy": np.zeros((4, 2))}, r"source_accuracy has shape \(4, 2\), expected \(4,\)"),
        ({"predicted": np.array(3)}, r"predicted has shape \(\), expected \(0, 8\)"),
        ({"kept": np.array(5)}, "kept is epoch 5, expected one of 1 to 4"),
        ({"kept": np.array(0)}, "kept is epoch 0"),
        ({"predicted": np.full((4, 8), 3)}, "class indices from 3 to 3, expected 0 to 2"),
        ({"logits": np.array([{}], dtype=object)}, "cannot be read"),
    ],
)
def test_epochs_that_do_not_fit_are_refused(
    fake: FakeRun, evaluated: Callable[..., FakeRun], changed: dict[str, np.ndarray], sentence: str
) -> None:
    fake.write_epochs(**changed)
    with pytest.raises(InputError, match=rf"epochs\.npz.*{sentence}.*`dacsm adapt tiny cdtrans"):
        evaluated()


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short"])
def test_missing_or_damaged_epochs_are_named(
    fake: FakeRun, evaluated: Callable[..., FakeRun], content: bytes | None
) -> None:
    path = fake.folder / "epochs.npz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"epochs\.npz (was not found|cannot be read).*`dacsm adapt tiny cdtrans"):
        evaluated()


def test_labels_and_images_must_be_as_many(fake: FakeRun, evaluated: Callable[..., FakeRun]) -> None:
    fake.labels = LABELS[:-1]
    with pytest.raises(InputError, match=r"logits of shape \(8, 3\).*expected \(7, 3\)"):
        evaluated()


def test_labels_must_be_classes_of_the_dataset(fake: FakeRun, evaluated: Callable[..., FakeRun]) -> None:
    fake.labels = LABELS + 1
    with pytest.raises(InputError, match=r"class indices from 1 to 3, expected 0 to 2.*`dacsm shard tiny mnist`"):
        evaluated()


def test_unknown_names_are_refused(fake: FakeRun, evaluated: Callable[..., FakeRun]) -> None:
    with pytest.raises(InputError, match="has no 'nothing'"):
        evaluated("nothing")


def test_a_trained_run_reproduces_its_record_exactly(
    tiny_params: Params,
    tiny_dataset: DatasetSpec,
    tiny_paths: Paths,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """On a CPU the checkpoint says again what the record of its epoch says, to the last image."""
    paths = Paths(tmp_path)
    paths.root.joinpath("data").symlink_to(tiny_paths.root / "data")
    pretrain(Project(tiny_params, tiny_dataset, paths), "synthetic", 0, CPU)
    adapt(Project(tiny_params, tiny_dataset, paths), "cdtrans", TASK, 0, CPU)
    capsys.readouterr()
    outputs = []
    for _ in range(2):
        for method in ("source_only", "cdtrans"):
            evaluate(Project(tiny_params, tiny_dataset, paths), method, TASK, 0, CPU)
        assert "another class" not in capsys.readouterr().err
        files = sorted((tmp_path / "results/tiny/evaluated").rglob("*.*"))
        outputs.append({path.relative_to(tmp_path): path.read_bytes() for path in files})
    assert len(outputs[0]) == 4
    assert outputs[0] == outputs[1]
