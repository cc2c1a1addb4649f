"""Optional stage: a trained model for others, as a folder in the form of timm's models on the Hugging Face hub.

As in `evaluate`, the target's labels are read here and change nothing that was trained or selected: the temperature is
fitted to held-out images of the source.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dacsm.config import SOURCE_ONLY
from dacsm.config.project import Project
from dacsm.data.domains import held_out
from dacsm.data.shards import ShardedImages, read_labels, require_size
from dacsm.data.transforms import normalise
from dacsm.evaluation.calibration import BINS, Calibration, calibration, fit_temperature
from dacsm.evaluation.evaluated_model import SELECTED, EvaluatedModel, evaluated_model, evaluated_on
from dacsm.evaluation.predictions import CentreViews, predict
from dacsm.models.arithmetic import choose_arithmetic
from dacsm.models.classifier import Classifier, load_checkpoint
from dacsm.models.folded import fold, not_plain
from dacsm.models.hub_folder import CONFIG, WEIGHTS, hub_config, write_weights
from dacsm.models.onnx import onnx_logits, require_onnx, write_onnx
from dacsm.report.card.exported import Exported
from dacsm.report.card.model_card import model_card
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import exchanged, read_json, sha256, write_json, write_text
from dacsm.runtime.hashes import digest

CARD, LICENCE, ONNX = "README.md", "LICENSE", "model.onnx"
COMPARED = 100  # images of the target on which logits are compared
LARGEST = 1e-4  # difference of two logits that are the same but for rounding


def export(project: Project, method: str, task: str, seed: int, compute: Compute) -> dict[str, Any]:
    """Write timm's weights, config.json, the model card, LICENSE and, unless export.onnx is false, model.onnx.

    Returns what was measured, for the run's record. Raises InputError where a file is missing or not of the run, a
    package is not installed, the network is none of timm's alone, or a written form does not compute the same.
    """
    with_onnx = project.params.export.onnx
    if with_onnx:
        require_onnx()
    dataset, model = project.dataset, evaluated_model(project, method, task, seed)
    metrics = _metrics(project, method, task, seed, model)
    choose_arithmetic(model.recipe.arithmetic, model.recipe.threads)
    classifier = load_checkpoint(model.folder / SELECTED, compute.device)
    temperature, measured = _calibrated(project, task, classifier, compute)

    choose_arithmetic("native", model.recipe.threads)  # as others will compute
    classifier.to("cpu")
    network, arguments = fold(classifier)
    target = dataset.evaluation_domain(dataset.split_task(task)[1])
    images = _some_images(project.paths.shards(dataset.name, target), classifier)
    differences = {"timm": _difference(classifier, images, network(images))}
    if not differences["timm"] < LARGEST:  # also where it is not a number
        raise not_plain(classifier.description.model.name, f"its logits differ by {differences['timm']:.1e}")
    config = hub_config(network, arguments, classifier.description, temperature)
    config["calibration"] = {"bins": BINS, **{domain: asdict(found) for domain, found in measured.items()}}

    folder = project.paths.exported(dataset.name, method, task, seed)
    with exchanged(folder, (CONFIG, WEIGHTS, CARD, LICENCE, ONNX)) as new:
        write_weights(new / WEIGHTS, network)
        if with_onnx:
            write_onnx(network, images, new / ONNX)
            differences["onnx"] = _difference(network, images, onnx_logits(new / ONNX, images))
            if not differences["onnx"] < LARGEST:
                raise InputError(
                    f"{ONNX} gives logits that differ by {differences['onnx']:.1e} from PyTorch's, expected less than "
                    f"{LARGEST:.0e}; set export.onnx to false in params.yaml."
                )
        kind = None if method == SOURCE_ONLY else project.params.method(method).kind
        of_run = (dataset, method, kind, task, seed)
        made_from = dict(_made_from(project, model))
        card = Exported(*of_run, config, metrics, measured, differences, len(images), made_from)
        write_text(new / CARD, model_card(card))
        write_text(new / LICENCE, f"{dataset.title}, the data that this model was trained on: {dataset.licence}\n")
        write_json(new / CONFIG, config)
    return {
        "temperature": temperature,
        "images_compared": len(images),
        **{f"largest_difference_{form}": float(f"{value:.2e}") for form, value in differences.items()},
    }


def _metrics(project: Project, method: str, task: str, seed: int, model: EvaluatedModel) -> dict[str, Any]:
    """metrics.json of the evaluation; raises InputError where it is of another epoch than the checkpoint."""
    name = project.dataset.name
    path = project.paths.evaluated(name, method, task, seed) / "metrics.json"
    metrics = read_json(path, f"dacsm evaluate {name} {method} {task} --seed {seed}")
    kept, selected = metrics.get("checkpoint_epoch"), metrics["selected"]["epoch"]
    if kept not in (None, selected):
        raise InputError(
            f"{model.folder / SELECTED} is of epoch {kept}, but {path} has the numbers of epoch {selected}, which the "
            "validator selects by now; make the checkpoint anew with `snakemake --forcerun adapt`."
        )
    return metrics


def _calibrated(
    project: Project, task: str, classifier: Classifier, compute: Compute
) -> tuple[float | None, dict[str, Calibration]]:
    """The temperature fitted to held-out source images, and the calibration of these and of the target's images.

    Without held-out images there is no temperature, and on a target without labels nothing is measured.
    """
    name, size = project.dataset.name, classifier.description.model.resize
    source, _target = project.dataset.split_task(task)

    def logits_of(shards: Path, indices: np.ndarray | None = None) -> np.ndarray:
        images = ShardedImages(shards)
        require_size(images, size)
        return predict(classifier, images, compute, indices=indices).logits.numpy()

    temperature, measured = None, {}
    shards = project.paths.shards(name, source)
    labels = read_labels(shards)
    unseen = held_out(len(labels), project.params.recipe("pretrain", name).held_out).nonzero()[0]
    if len(unseen):
        logits = logits_of(shards, unseen)
        temperature = fit_temperature(logits, labels[unseen])
        measured["source"] = calibration(logits, labels[unseen], temperature)
    if project.dataset.has_labels(task):
        shards, labels = evaluated_on(project, task)
        measured["target"] = calibration(logits_of(shards), labels, temperature)
    return temperature, measured


def _some_images(shards: Path, classifier: Classifier) -> Tensor:
    """Normalised images of a domain (M, C, H, W): the first, whose order is random."""
    images, model = ShardedImages(shards), classifier.description.model
    views = CentreViews(images, model, np.arange(min(COMPARED, len(images))))
    return normalise(torch.stack(list(views)), model)


@torch.inference_mode()
def _difference(network: nn.Module, images: Tensor, logits: Tensor) -> float:
    """The largest difference of some logits (M, K) from those of a network."""
    return (network(images) - logits).abs().max().item()


def _made_from(project: Project, model: EvaluatedModel) -> Iterator[tuple[str, str]]:
    """What the card says of the checkpoint and, where its run record vouches for it, of what that was made from."""
    checkpoint, root = model.folder / SELECTED, project.paths.root
    found = sha256(checkpoint)
    yield "sha256 of the trained checkpoint", found
    yield "made by", model.made_by
    path = project.paths.record(model.folder)
    record = read_json(path, model.made_by) if path.is_file() else {}
    if record.get("outputs", {}).get(str(checkpoint)) != found:
        yield "run record", "none that vouches for this checkpoint"
        return
    commit = record["git"]["commit"]
    yield "commit", f"{commit}{'' if record['git']['clean'] else ', with changes'}" if commit else "none"
    yield "hash of its settings", digest(record["settings"])
    yield "hash of its code", digest(record["code"])
    for name, value in record["inputs"].items():
        place = Path(name)
        yield f"sha256 of {place.relative_to(root) if place.is_relative_to(root) else place}", value
    yield "packages", ", ".join(f"{name} {number}" for name, number in record["versions"].items() if number)
    yield "device", record["device"]
