"""The numbers computed anew: a run's metrics from its predictions, and the table from all of them."""

import csv
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import SOURCE_ONLY
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.audit.traces import Finding, differences
from dacsm.ledger.pipeline import recipe_behind
from dacsm.ledger.runs import Run, runs_of
from dacsm.report.measured import read_predictions
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, reading, write_json

if TYPE_CHECKING:
    from dacsm.evaluation.metrics import Epochs

AGAIN = "remove it, then run `snakemake`."


Recomputed = Callable[[Run], dict[str, Any]]  # what the metrics.json of an evaluation has to say


def recomputing(project: Project, deep: bool) -> Recomputed:
    """Computes each run's metrics once.

    It raises InputError where predictions.csv is not of the target's images, or not of the epoch that was selected.
    """
    known: dict[Path, dict[str, Any]] = {}

    def recomputed(run: Run) -> dict[str, Any]:
        if run.place not in known:
            known[run.place] = _recompute(run, project, deep)
        return known[run.place]

    return recomputed


def _same_number(written: Any, computed: Any) -> bool:
    """Whether two values are equal but for the rounding of another processor; accuracies have two decimals."""
    if isinstance(written, list) and isinstance(computed, list):
        return len(written) == len(computed) and all(map(_same_number, written, computed))
    numbers = all(isinstance(value, float | int) for value in (written, computed))
    return math.isclose(written, computed, rel_tol=1e-6, abs_tol=1e-9) if numbers else written == computed


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
    unlike = {key: both for key, both in differences(found, expected).items() if not _same_number(*both)}
    for key, (written, computed) in list(unlike.items())[:1]:
        yield Finding(str(path), "numbers", f"says {key} {written}, where its predictions give {computed}; {AGAIN}")


def _recompute(run: Run, project: Project, deep: bool) -> dict[str, Any]:
    """What metrics.json of an evaluation has to say; of a source model without labels, its scores are as written."""
    from dacsm.adaptation.scores import score_epochs
    from dacsm.data.shards import read_index, read_labels
    from dacsm.evaluation.metrics import measure_run, read_epochs
    from dacsm.evaluation.outputs import best_epoch
    from dacsm.evaluation.unlabelled import describe_run

    dataset, paths, path = project.dataset, project.paths, run.place / "predictions.csv"
    method, task = run.arguments["method"], run.arguments["task"]
    target = dataset.split_task(task)[1]
    measured_on = dataset.evaluation_domain(target)
    labelled = dataset.domains[target].labelled
    written = read_json(run.place / "metrics.json", "snakemake")
    recipe = project.params.recipe(recipe_behind(run.arguments), dataset.name)
    if labelled:
        labels = read_labels(paths.shards(dataset.name, measured_on))
        indices, written_labels, predicted = read_predictions(dataset, (method, task, run.arguments["seed"]), paths).T
        if not (np.array_equal(indices, np.arange(len(labels))) and np.array_equal(written_labels, labels)):
            raise InputError(f"{path} has not the labels that lie beside the target's shards; {AGAIN}")
    else:
        predicted, probabilities = _predicted_unlabelled(path, paths.shards(dataset.name, target), dataset)
    epochs = None
    scores: Mapping[str, np.ndarray] = {}
    if method != SOURCE_ONLY:
        images = read_index(paths.shards(dataset.name, target)).images
        epochs = read_epochs(run.inputs[1], "dacsm adapt", images=images, classes=len(dataset.classes))
        if measured_on == target:
            scores = score_epochs(epochs) if deep else _partly_scored(epochs, recipe.validator, written)
            selected = best_epoch(scores[recipe.validator])
            if not np.array_equal(predicted, epochs.predicted[selected - 1]):
                raise InputError(f"{path} is not what epoch {selected} of {run.inputs[1]} predicts; {AGAIN}")
    if labelled:
        found = measure_run(labels, predicted, predicted, epochs, scores, recipe, dataset)
        if measured_on != target and epochs is not None:  # nothing on disk tells of the last epoch
            found["last"] = written.get("last")
    else:
        if epochs is None:
            with reading(run.place / "metrics.json", "snakemake"):
                scores = {name: np.array([one], dtype=float) for name, one in written["selected"]["scores"].items()}
        found = describe_run(predicted, probabilities, epochs, scores, recipe, dataset.classes)
    # The backbone is that of the checkpoint, and as written
    facts = {**run.arguments, "backbone": written.get("backbone"), "protocol": dataset.protocol}
    return {**facts, "images": len(predicted), **found}


def _predicted_unlabelled(path: Path, shards: Path, dataset: DatasetSpec) -> tuple[np.ndarray, list[str]]:
    """The predicted classes (N,) and their probabilities as written; raises InputError unless the names are right."""
    from dacsm.data.shards import read_names
    from dacsm.evaluation.unlabelled import COLUMNS

    names = read_names(shards)
    with reading(path, "snakemake"), path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
        columns = {name: [row[name] for row in rows] for name in COLUMNS}
        predicted = np.array(columns["predicted"], dtype=np.int64)
        if not len(predicted) or not 0 <= predicted.min() <= predicted.max() < len(dataset.classes):
            raise ValueError(f"expected class indices from 0 to {len(dataset.classes) - 1}")
        _ = [float(probability) for probability in columns["probability"] if probability]  # they are numbers
    of_images = [*map(str, range(len(names)))], names, [dataset.classes[index] for index in predicted]
    if (columns["index"], columns["name"], columns["class"]) != of_images:
        raise InputError(f"{path} does not have the target's images and the classes' names; {AGAIN}")
    return predicted, columns["probability"]


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


def text_findings(run: Run, project: Project, recomputed: Recomputed) -> Iterator[Finding]:
    """Where a text of a table is not what the predictions of all its runs give, or one of scales what the rescaled do.

    It is written anew under another root, from the numbers computed anew, or for scales from those that are there.
    """
    from dacsm.stages import scales, table

    name, root = run.arguments["experiment"], project.paths.root
    evaluated = runs_of(project, project.params.experiment(name), ["evaluate"]) if run.stage == "table" else []
    inputs = [file for other in evaluated for file in (*other.inputs, *other.outputs)] or run.inputs
    texts = [file for file in run.outputs if file.suffix != ".png"]
    if not all(file.is_file() for file in (*inputs, *texts)):
        return  # said already
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        anew = replace(project, paths=Paths(folder))
        try:
            if run.stage == "table":
                for other in evaluated:
                    write_json(folder / other.outputs[0].relative_to(root), recomputed(other))
                    (folder / other.outputs[1].relative_to(root)).symlink_to(other.outputs[1].absolute())
                table.write_numbers(anew, name)
            else:
                for path in inputs:
                    write_json(folder / path.relative_to(root), read_json(path, "snakemake"))
                scales.write_scales(anew, name)
        except InputError as error:
            yield Finding(str(run.place), "numbers", f"cannot be computed anew: {error}")
            return
        givers = "the predictions" if run.stage == "table" else "the rescaled runs"
        for path in texts:
            both = (file.read_text(encoding="utf-8").splitlines() for file in (path, folder / path.relative_to(root)))
            for line, (found, expected) in enumerate(zip_longest(*both, fillvalue="no line"), start=1):
                if found != expected:
                    text = f"says in line {line} {found.strip()!r}, where {givers} give {expected.strip()!r}; {AGAIN}"
                    yield Finding(str(path), "numbers", text)
                    break
