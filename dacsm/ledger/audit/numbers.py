"""The numbers computed anew: a run's metrics from its predictions, and the table from all of them."""

import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dacsm.config.params import SOURCE_ONLY
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.audit.finding import Finding
from dacsm.ledger.audit.traces import differences
from dacsm.ledger.runs import Run, runs_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, write_json

if TYPE_CHECKING:
    from dacsm.evaluation.epochs import Epochs

AGAIN = "remove it, then run `snakemake`."


class Recomputed:
    """What the metrics.json of each run of a dataset has to say, computed once."""

    def __init__(self, project: Project, deep: bool) -> None:
        self.project, self.deep = project, deep
        self.known: dict[Path, dict[str, Any]] = {}

    def __call__(self, run: Run) -> dict[str, Any]:
        """The content for an evaluation.

        Raises InputError where predictions.csv is not of the target's images, or not of the epoch that was selected.
        """
        if run.place not in self.known:
            self.known[run.place] = _recompute(run, self.project, self.deep)
        return self.known[run.place]


def metrics_findings(run: Run, recomputed: Recomputed) -> Iterator[Finding]:
    """Where a run's metrics.json is not what its predictions, its epochs and the target's labels give."""
    path = run.place / "metrics.json"
    if not all(file.is_file() for file in (*run.inputs, *run.outputs)):
        return  # said already
    try:
        expected, found = recomputed(run), read_json(path, "dacsm evaluate")
    except InputError as error:
        yield Finding(str(run.place), "numbers", str(error))
        return
    kept, selected = expected.get("checkpoint_epoch"), expected["selected"]["epoch"]
    if kept not in (None, selected):
        model = run.inputs[0]
        text = f"is of epoch {kept}, but epoch {selected} is selected now; run `snakemake --forcerun adapt -- {model}`."
        yield Finding(str(model), "output", text)
    for key, (written, computed) in list(differences(found, expected).items())[:1]:
        yield Finding(str(path), "numbers", f"says {key} {written}, where its predictions give {computed}; {AGAIN}")


def _recompute(run: Run, project: Project, deep: bool) -> dict[str, Any]:
    from dacsm.adaptation.scores import score_epochs
    from dacsm.data.index import read_index
    from dacsm.data.shards import read_labels
    from dacsm.evaluation.epochs import read_epochs
    from dacsm.evaluation.metrics import measure_elsewhere, measure_epochs, measure_source_model
    from dacsm.evaluation.outputs import best_epoch

    params, dataset, paths = project.params, project.dataset, project.paths
    method, target = run.arguments["method"], dataset.split_task(run.arguments["task"])[1]
    measured_on = dataset.evaluation_domain(target)
    labels = read_labels(paths.shards(dataset.name, measured_on))
    path = run.place / "predictions.csv"
    predicted = _read_predictions(path, labels, len(dataset.classes))
    found = read_json(run.place / "metrics.json", "snakemake")
    written = found if isinstance(found, dict) else {}
    facts = {**run.arguments, "backbone": written.get("backbone")}  # that of the checkpoint
    facts |= {"protocol": dataset.protocol, "images": len(labels)}
    trained = params.recipe("pretrain", dataset.name).epochs
    if method == SOURCE_ONLY:
        return {**facts, **measure_source_model(labels, predicted, trained, dataset.classes)}
    validator = params.recipe("adapt", dataset.name).validator
    adapted_on = read_index(paths.shards(dataset.name, target)).images
    epochs = read_epochs(run.inputs[1], "dacsm adapt", images=adapted_on, classes=len(dataset.classes))
    if measured_on != target:  # predictions.csv is of the kept epoch, and nothing on disk tells of the last
        found = measure_elsewhere(labels, predicted, predicted, epochs, validator, dataset)
        return {**facts, **found, "last": written.get("last")}
    scores = score_epochs(epochs) if deep else _partly_scored(epochs, validator, written)
    selected = best_epoch(scores[validator])
    if not np.array_equal(predicted, epochs.predicted[selected - 1]):
        raise InputError(f"{path} is not what epoch {selected} of {run.inputs[1]} predicts; {AGAIN}")
    return {**facts, **measure_epochs(labels, epochs, scores, validator, dataset)}


def _partly_scored(epochs: "Epochs", validator: str, written: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
    """The scores of one validator anew, and those of the others as metrics.json has them; all anew where it has not."""
    from dacsm.adaptation.scores import VALIDATORS, score_epochs

    try:
        of_others = {name: written["validators"][name]["scores"] for name in VALIDATORS}
        scores = {
            name: np.array(found, dtype=float).reshape(len(epochs.predicted)) for name, found in of_others.items()
        }
    except (KeyError, TypeError, ValueError):
        return score_epochs(epochs)
    return {**scores, **score_epochs(epochs, [validator])}


def _read_predictions(path: Path, labels: np.ndarray, classes: int) -> np.ndarray:
    """The predicted class numbers (N,), once the file is seen to be of the images with these labels (N,)."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(int(row["index"]), int(row["label"]), int(row["predicted"])) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}); {AGAIN}") from error
    indices, written, predicted = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    if not (np.array_equal(indices, np.arange(len(labels))) and np.array_equal(written, labels)):
        raise InputError(f"{path} has not the labels that lie beside the target's shards; {AGAIN}")
    if len(predicted) and not 0 <= predicted.min() <= predicted.max() < classes:
        raise InputError(f"{path} has class numbers outside 0 to {classes - 1}; {AGAIN}")
    return predicted


def table_findings(run: Run, project: Project, recomputed: Recomputed) -> Iterator[Finding]:
    """Where the table's texts or its metrics are not what the predictions of all runs give."""
    from dacsm.stages.table import write_numbers

    experiment = project.params.experiment(run.arguments["experiment"])
    evaluated = runs_of(project, experiment, ["evaluate"])
    inputs = [file for other in evaluated for file in (*other.inputs, *other.outputs)]

    def write(anew: Paths) -> None:
        for other in evaluated:
            write_json(anew.root / other.outputs[0].relative_to(project.paths.root), recomputed(other))
        write_numbers(replace(project, paths=anew), experiment.name)

    yield from _other_text(run, project, inputs, write, "the predictions")


def scales_findings(run: Run, project: Project) -> Iterator[Finding]:
    """Where the table of scales is not what the rescaled runs give."""
    from dacsm.stages.scales import write_scales

    def write(anew: Paths) -> None:
        for path in run.inputs:
            write_json(anew.root / path.relative_to(project.paths.root), read_json(path, "snakemake"))
        write_scales(replace(project, paths=anew), run.arguments["experiment"])

    yield from _other_text(run, project, run.inputs, write, "the rescaled runs")


def _other_text(
    run: Run, project: Project, inputs: Sequence[Path], write: Callable[[Paths], None], givers: str
) -> Iterator[Finding]:
    """Where a text file of a run is not what `write` makes anew under another root."""
    files = [file for file in run.outputs if file.suffix != ".png"]
    if not all(file.is_file() for file in (*inputs, *files)):
        return  # said already
    with tempfile.TemporaryDirectory() as folder:
        anew = Paths(Path(folder))
        try:
            write(anew)
        except InputError as error:
            yield Finding(str(run.place), "numbers", f"cannot be computed anew: {error}")
            return
        for path in files:
            twin = anew.root / path.relative_to(project.paths.root)
            found, expected = (file.read_text(encoding="utf-8").splitlines() for file in (path, twin))
            if found != expected:
                line, was, wanted = _first_difference(found, expected)
                text = f"says in line {line} {was!r}, where {givers} give {wanted!r}; {AGAIN}"
                yield Finding(str(path), "numbers", text)


def _first_difference(found: list[str], expected: list[str]) -> tuple[int, str, str]:
    """The number, counted from 1, and both readings of the first line that differs."""
    for number in range(max(len(found), len(expected))):
        was, wanted = (lines[number].strip() if number < len(lines) else "" for lines in (found, expected))
        if was != wanted:
            return number + 1, was, wanted
    return len(found), "", ""
