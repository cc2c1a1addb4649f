"""An exported model: what is known of it, and the part of it that programs of the Hugging Face hub read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dacsm.config.datasets import DatasetSpec
from dacsm.evaluation.calibration import Calibration
from dacsm.evaluation.metrics import LAST

MEASURES = {"overall": "accuracy", "mean_per_class": "mean accuracy per class"}


@dataclass(frozen=True)
class Exported:
    """What a model card is about."""

    dataset: DatasetSpec
    method: str
    kind: str | None  # of the method; None for source_only
    task: str
    seed: int
    config: Mapping[str, Any]  # config.json
    metrics: Mapping[str, Any]  # metrics.json of the evaluation
    calibration: Mapping[str, Calibration]  # of `source` and `target`, where each could be measured
    differences: Mapping[str, float]  # the largest of the logits, of `timm` and of `onnx`, where it was written
    compared: int  # images for that
    made_from: Mapping[str, str]  # what, and which

    @property
    def name(self) -> str:
        return f"{self.dataset.name}-{self.method}-{self.task}-seed{self.seed}"

    @property
    def domains(self) -> tuple[str, str]:
        """The source and the target."""
        source, target = self.task.split("-")
        return source, target

    @property
    def classes(self) -> int:
        return len(self.dataset.classes)

    @property
    def measured(self) -> bool:
        """Whether the accuracy on the target is known: it is not, where the target has no labels."""
        return "overall" in self.metrics["selected"]


def front_matter(model: Exported) -> dict[str, Any]:
    """The facts at the head of a model card, as https://huggingface.co/docs/hub/model-cards lists them."""
    facts: dict[str, Any] = {
        "license": "other",
        "license_name": f"{model.dataset.name.replace('_', '-')}-data",
        "license_link": "LICENSE",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "domain-adaptation", "dacsm"],
        "datasets": [model.dataset.name],
    }
    if not model.measured:
        return facts
    (source, target), selected = model.domains, model.metrics["selected"]
    how = "last epoch" if selected["selection"] == LAST else f"epoch selected by {selected['selection']}"
    result = {
        "task": {"type": "image-classification", "name": f"unsupervised domain adaptation, {source} to {target}"},
        "dataset": {"name": f"{model.dataset.title}, {target}", "type": model.dataset.name, "split": target},
        "metrics": [
            {"type": "accuracy", "value": selected[key], "name": f"{what} in percent, {how}, without target labels"}
            for key, what in MEASURES.items()
        ],
    }
    return {**facts, "metrics": ["accuracy"], "model-index": [{"name": model.name, "results": [result]}]}
