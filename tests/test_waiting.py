"""A training step waits for no GPU: counted on a CPU, by the operations that would need an answer from the device."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from dacsm.config.project import Project
from dacsm.data.seeding import seed_torch
from dacsm.methods import load_kind
from dacsm.models.classifier import Classifier, Description
from dacsm.runtime.device import Compute
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.resume import Resume
from dacsm.stages import adapt, pretrain
from dacsm.training.learner import Learner, WeightAverage
from dacsm.training.loss_log import LossLog

# The program needs a number, or the size of what comes out; or it copies a number that it made up to the device.
WAITING = {
    "_local_scalar_dense", "bincount", "equal", "is_nonzero", "lift_fresh", "masked_select", "nonzero", "unique_dim",
    "_unique2", "repeat_interleave",
}  # fmt: skip
TASK = "synthetic-optdigits"
CPU = Compute(torch.device("cpu"), workers=1)  # so that this process does the step, and another makes its views


class Counted(TorchDispatchMode):
    """Counts the operations that wait, by name, while `on`."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.found = False, Counter()

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if self.on and (name in WAITING or by_mask):
            self.found[name] += 1
        return operation(*arguments, **(options or {}))


def waits(steps: Callable[[], Iterator[None]]) -> dict[str, int]:
    """What waited in all steps but the first, which may leave things for later ones on the device."""
    with Counted() as counted:
        for _ in steps():
            counted.on = True
    return dict(counted.found)


def test_what_waits_is_found():
    mask, values = torch.tensor([True, False]), torch.ones(2)

    def steps() -> Iterator[None]:
        yield
        values.sum().item()
        values[mask]
        torch.tensor([1.0])
        values.nonzero()
        yield

    assert waits(steps) == {"_local_scalar_dense": 1, "index": 1, "lift_fresh": 1, "nonzero": 1}


@pytest.mark.parametrize("method", ["cdtrans", "dacsm", "dacsm_mic", "shot", "cdan", "mic"])
def test_a_step_of_adaptation_waits_for_the_check_of_the_losses_alone(
    method, tiny_params, tiny_dataset, tiny_paths, monkeypatch
):
    monkeypatch.setitem(LossLog.INTERVALS, "cpu", 5)
    seed_torch(0)
    classifier = Classifier(Description(tiny_params.recipe("pretrain", "tiny").model, tiny_dataset.classes))
    recipe = tiny_params.adaptation("tiny", method).model_copy(update={"batch_size": 2, "max_pairs": 2 * 12})
    settings = tiny_params.method(method)
    domains = adapt._domains(Project(tiny_params, tiny_dataset, tiny_paths), method, TASK, 28)
    adaptation = load_kind(settings.kind)(classifier, recipe, settings, domains, 0, CPU)
    learner = Learner(recipe, classifier, adaptation.modules, CPU)
    adaptation.refresh(1, classifier, TrainingProgress("", 1))
    if settings.kind == "cdtrans":
        pairs = adaptation.matches.pairs
        repeated = torch.arange(30).numpy() % len(pairs)  # so that there are steps enough
        adaptation.matches.pairs = type(pairs)(*(column[repeated] for column in vars(pairs).values()))
    classifier.train()
    log = LossLog(1)

    def steps() -> Iterator[None]:
        for batch in adaptation.batches(1, 0)[0]:
            losses, total = adaptation.losses(batch, 0.5)
            learner.step(total, 1, 0.5)
            log.append(losses)
            yield

    found = waits(steps)
    assert (len(log.rows), log.checked) == (12, 10)
    assert found == {"_local_scalar_dense": 2}


def test_the_weight_average_is_pytorchs():
    """But for a copy of its counter to the GPU, which no operation on a CPU shows."""
    averaging = get_ema_multi_avg_fn(0.5)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    averages = [kind(model, multi_avg_fn=averaging, use_buffers=True) for kind in (WeightAverage, AveragedModel)]
    for _ in range(4):
        model(torch.randn(5, 3)).sum().backward()
        with torch.no_grad():
            model[0].weight.add_(model[0].weight.grad + 1)
        for average in averages:
            average.update_parameters(model)
    ours, theirs = (average.state_dict() for average in averages)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_a_step_of_pretraining_waits_for_the_check_of_the_losses_alone(
    tiny_params, tiny_dataset, tiny_paths, monkeypatch, tmp_path
):
    (tmp_path / "data").symlink_to(tiny_paths.root / "data")
    monkeypatch.setitem(LossLog.INTERVALS, "cpu", 5)
    counted, steps = Counted(), []

    def step(self: TrainingProgress, images: int, losses: Callable) -> None:
        steps.append(images)
        counted.on = len(steps) < 12

    monkeypatch.setattr(TrainingProgress, "step", step)
    recipe = tiny_params.pretrain["tiny"].model_copy(update={"batch_size": 5, "epochs": 1, "held_out": 0.0})
    params = tiny_params.model_copy(update={"pretrain": {"tiny": recipe}})
    paths = type(tiny_paths)(tmp_path)
    with counted:
        pretrain.pretrain(Project(params, tiny_dataset, paths), "synthetic", 0, CPU, Resume())
    assert steps == [5] * 12
    assert dict(counted.found) == {"_local_scalar_dense": 2}
