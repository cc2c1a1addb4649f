"""Optional stage: a model measured on its target with objects shown smaller and larger.

As in `evaluate`, the target's labels are read here and change nothing that was trained or selected.
"""

import time

from dacsm.config.project import Project
from dacsm.evaluation.evaluated_model import evaluated_model, evaluated_on, predict_domain
from dacsm.evaluation.metrics import measure
from dacsm.runtime.device import Compute
from dacsm.runtime.files import write_json


def rescale(project: Project, method: str, task: str, seed: int, compute: Compute) -> dict[str, float]:
    """Measure one run on its target at every scale of `rescale.scales`; write metrics.json.

    The image keeps its size: the objects in it are drawn smaller or larger about its centre; what comes from outside is
    black. Returns what was measured, for the run's record. Raises InputError where a file is missing, or checkpoint and
    shards do not belong together.
    """
    params, dataset = project.params, project.dataset
    model = evaluated_model(project, method, task, seed)
    shards, labels = evaluated_on(project, task)
    shape = (len(labels), len(dataset.classes))
    found, backbone = {}, ""
    started = time.perf_counter()
    for scale in params.rescale.scales:
        predictions, backbone = predict_domain(model, shards, shape, compute, scale=scale)
        found[f"{scale:g}"] = measure(labels, predictions.predicted, dataset.classes)
    seconds = time.perf_counter() - started
    facts = {"dataset": dataset.name, "method": method, "task": task, "seed": seed, "backbone": backbone}
    facts |= {"protocol": dataset.protocol, "images": len(labels)}
    write_json(project.paths.rescaled(dataset.name, method, task, seed) / "metrics.json", {**facts, "scales": found})
    return {"images_per_second": round(len(found) * len(labels) / max(seconds, 1e-9), 1)}
