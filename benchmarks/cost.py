"""What a step of DACSM costs over one of CDTrans, and what each part adds: for DeiT-S at 224 pixels and for digits.

python -m benchmarks.cost                # two threads for DeiT-S; digits with the threads of its recipe
python -m benchmarks.cost --device cuda  # the same where there is a GPU, with as many pairs as the recipes have
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

from benchmarks.report import Measurement, now, report
from dacsm.compute import choose_compute
from dacsm.models.classifier import Classifier, Description
from dacsm.params import AdaptRecipe, Method, Model, Params, load_params
from dacsm.training.run import Run, start_run
from dacsm.training.step import Batch, step_losses

RATIO = 1.4  # of a CDTrans step, averaged over the steps with and without views at other scales
PROJECT = Path(__file__).parents[1]
# Parts of dacsm alone, by the settings that are left as in dacsm; the rest is off.
PARTS = {
    "translated style": ("style",),
    "learned noise": ("noise",),
    "the mix stream's cross-entropy": ("mix_cross_entropy",),
    "token pyramid": ("pyramid",),
    "consistency over object scale": ("consistency",),
}


class Steps:
    """A model with random weights that trains by a method on made-up pairs."""

    def __init__(self, recipe: AdaptRecipe, model: Model, classes: int, method: Method, device: str, pairs: int):
        torch.manual_seed(0)
        compute = choose_compute(device)
        names = tuple(f"class {number}" for number in range(classes))
        self.classifier = Classifier(Description(model, names)).to(compute.device).train()
        self.run: Run = start_run(recipe, method, 0, compute, self.classifier)
        if self.run.noise is not None:
            self.run.noise.progress = 0.5
        shape = (3, pairs, model.channels, model.image_size, model.image_size)
        self.source, self.target, self.views = torch.randn(shape, device=compute.device)
        self.labels = torch.arange(pairs, device=compute.device) % classes
        self.beliefs = torch.zeros(pairs, classes, device=compute.device).log_softmax(dim=1)
        self.parameters = [p for group in self.run.optimiser.param_groups for p in group["params"]]

    def step(self, number: int) -> None:
        settings = self.run.method.consistency
        seen = (self.views, self.beliefs) if settings.weight and number % settings.every == 0 else None
        _, total = step_losses(self.run, Batch(self.source, self.target, self.labels, self.labels, seen))
        self.run.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.run.optimiser.step()

    def time(self, steps: int) -> float:
        """Seconds of processor time a step, or of the clock on a GPU, over so many steps."""
        cuda = self.source.is_cuda
        if cuda:
            torch.cuda.synchronize()
        start = now()
        for number in range(steps):
            self.step(number)
        if cuda:
            torch.cuda.synchronize()
        taken = now() - start
        return (taken.seconds if cuda else taken.processor) / steps


def measured(recipe: AdaptRecipe, model: Model, classes: int, whole: Method, repeats: int, device: str, pairs: int):
    """Each form's time over CDTrans', in turns, so that what else the machine does hits all alike."""
    fields = {name: getattr(whole, name) for parts in PARTS.values() for name in parts}
    alone = {name: Method(**{part: fields[part] for part in parts}) for name, parts in PARTS.items()}
    used = {name: method for name, method in alone.items() if method != Method()}
    forms = {
        name: Steps(recipe, model, classes, method, device, pairs)
        for name, method in {"CDTrans": Method(), **used, "DACSM": whole}.items()
    }
    cycle = 2 * whole.consistency.every
    times: dict[str, list[float]] = {name: [] for name in forms}
    for repeat in range(repeats + 1):
        for name in list(forms)[:: 1 if repeat % 2 else -1]:
            times[name].append(forms[name].time(cycle))
    base = times["CDTrans"][1:]  # the first warms up

    def ratio(name: str) -> float:
        return statistics.median(form / plain for form, plain in zip(times[name][1:], base, strict=True))

    return [
        Measurement("a step of CDTrans", statistics.median(base), "s"),
        *(Measurement(f"{name}, added to CDTrans alone", 100 * (ratio(name) - 1), "%") for name in used),
        Measurement("DACSM / CDTrans", ratio("DACSM"), "", RATIO),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    params: Params = load_params(PROJECT / "params.yaml")
    method = params.method("dacsm")
    torch.set_num_threads(params.recipe("adapt", "digits").threads)
    recipe, model = params.recipe("adapt", "digits"), params.recipe("pretrain", "digits").model
    found = measured(recipe, model, 10, method, 2 * options.repeats, options.device, recipe.batch_size)
    missed = report(f"A step on digits, {recipe.batch_size} pairs, {options.device}", found)
    torch.set_num_threads(options.threads)
    recipe, model = params.recipe("adapt", "visda"), params.recipe("pretrain", "visda").model
    model = model.model_copy(update={"name": "deit_small_patch16_224", "weights": "none"})
    pairs = recipe.batch_size if options.device == "cuda" else 8
    found = measured(recipe, model, 12, method, options.repeats, options.device, pairs)
    return missed | report(f"A step of DeiT-S at 224 pixels, {pairs} pairs, {options.device}", found)


if __name__ == "__main__":
    sys.exit(main())
