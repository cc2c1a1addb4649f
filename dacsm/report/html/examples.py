"""Target images that were classified right and wrong, by a rule and not by hand; and where pairs can be seen."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from dacsm.config import PARAMS_FILE, SOURCE_ONLY
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.shards import ShardedImages
from dacsm.report.html.content import Commands, Gallery, Part, Picture
from dacsm.report.measured import Evaluated, Runs, made_by
from dacsm.report.tables import arrow
from dacsm.runtime.files import reading

EACH = 6  # images of a run that are right, and as many that are wrong
MOST_RUNS = 12  # tasks times methods of which images are shown
SIDE = 112  # pixels; larger images are shrunk to it
QUALITY = 85


def example_section(runs: Evaluated, paths: Paths) -> Iterator[Part]:
    """Per run of the first seed, the wrong images of which it is most sure, and the right ones of which it is least.

    Where it is not known what is right: those of which it is most and least sure.
    """
    experiment = runs.experiment
    every = [(task, method) for task in experiment.tasks for method in experiment.methods]
    parts = [part for task, method in every[:MOST_RUNS] for part in _of_run(runs, task, method, paths)]
    if not parts:
        return
    rule = f"the {EACH} wrong ones with the highest probability of the predicted class, and the {EACH} right ones with"
    if not isinstance(runs, Runs):
        rule = f"the {EACH} with the highest probability of the predicted class, and the {EACH} with"
    yield (
        f"Chosen by a rule, and not by hand: of the target's images with seed {experiment.seeds[0]}, {rule} the "
        "lowest; of equal ones, the first. The probability is in brackets."
    )
    if len(every) > MOST_RUNS:
        yield f"Shown are the first {MOST_RUNS} of {len(every)} pairs of task and method, in the order of params.yaml."
    yield from parts


def _of_run(runs: Evaluated, task: str, method: str, paths: Paths) -> Iterator[Part]:
    dataset, seed = runs.dataset, runs.experiment.seeds[0]
    domain = dataset.evaluation_domain(dataset.split_task(task)[1])
    path = paths.evaluated(dataset.name, method, task, seed) / "predictions.csv"
    if not path.is_file():
        return
    yield f"## {method}, {arrow(task)}" if len(runs.experiment.tasks) > 1 else f"## {method}"
    found = _predictions(path, made_by("evaluate", dataset, method, task, seed))
    if found.empty:
        yield (
            "There are no probabilities: the checkpoint is of another epoch than the validator selects now "
            "(`snakemake --forcerun adapt` makes it again)."
        )
        return
    folder = paths.shards(dataset.name, domain)
    if not (folder / "index.json").is_file():
        yield f"The images are not here: {folder} has no index.json. `dvc pull` brings it, or `snakemake` makes it."
        return
    images = ShardedImages(folder)
    groups = [("Most sure", found, False), ("Least sure", found, True)]
    if "label" in found:
        right = found["label"] == found["predicted"]
        groups = [("Wrong, and most sure", found[~right], False), ("Right, and least sure", found[right], True)]
    for title, rows, upwards in groups:
        chosen = rows.sort_values(["probability", "index"], ascending=[upwards, True])[:EACH]
        if chosen.empty:
            yield f"No image is {title.split(',')[0].lower()}."
            continue
        yield Gallery(title, [_example(images, domain, row, dataset.classes) for row in chosen.to_dict("records")])


def _predictions(path: Path, command: str) -> pd.DataFrame:
    """The images with a probability: index, predicted class, probability, and label where that is known."""
    with reading(path, command):
        rows = pd.read_csv(path, usecols=lambda name: name in ("index", "label", "predicted", "probability"))
        return rows.dropna(subset=["probability"]).astype({"predicted": int})


def _example(images: ShardedImages, domain: str, row: Mapping[Any, Any], classes: tuple[str, ...]) -> Picture:
    index, predicted = int(row["index"]), classes[row["predicted"]]
    actual = classes[int(row["label"])] if "label" in row else predicted
    said = actual if actual == predicted else f"{actual}, taken for {predicted}"
    return Picture(_thumbnail(images[index]), f"image {index} of {domain}", f"{said} ({row['probability']:.2f})")


def _thumbnail(stored: Image.Image | np.ndarray) -> bytes:
    """A small one as it is, in PNG; a larger one shrunk, in JPEG."""
    if isinstance(stored, np.ndarray):  # (C, H, W)
        stored = Image.fromarray(stored[0] if len(stored) == 1 else np.ascontiguousarray(stored.transpose(1, 2, 0)))
    image = stored
    kept = io.BytesIO()
    if max(image.size) <= SIDE:
        image.save(kept, "PNG", optimize=True)
    else:
        image.thumbnail((SIDE, SIDE))
        image.save(kept, "JPEG", quality=QUALITY)
    return kept.getvalue()


def pair_section(runs: Evaluated, project: Project) -> Iterator[Part]:
    """How to see pairs: which source image is near a target image is not kept, and takes a model to find."""
    adapted = [method for method in runs.experiment.methods if method != SOURCE_ONLY]
    methods = [method for method in adapted if project.params.method(method).kind == "cdtrans"]
    if methods:
        yield (
            "Which source and target images were paired is not kept: it follows from the features of a model, and this "
            "page runs none. `dacsm explain` runs it, and draws pairs of the last epoch, with the model's attention:"
        )
        place = f"{runs.dataset.name} {methods[-1]} {runs.experiment.tasks[0]} --seed {runs.experiment.seeds[0]}"
        settings = f" --params {project.file}" * (project.file != PARAMS_FILE)
        yield Commands([f"dacsm explain {place}{settings}"])
