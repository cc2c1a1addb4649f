"""What a step of each method costs over one of CDTrans, and what each part of DACSM adds: for DeiT-S and for digits.

python -m benchmarks.cost                # two threads for DeiT-S; digits with the threads of its recipe
python -m benchmarks.cost --device cuda  # the same where there is a GPU, with as many pairs as the recipes have
"""

import argparse
import statistics
import sys
from pathlib import Path

import torch

from benchmarks.report import Measurement, now, report
from dacsm.config.kinds.cdtrans import Settings
from dacsm.config.params import AdaptRecipe, Model, Params, load_params
from dacsm.ledger.speed import AdaptationSteps
from dacsm.models.classifier import Classifier, Description
from dacsm.runtime.device import choose_compute

RATIO = 1.4  # of a CDTrans step, averaged over the steps with and without views at other scales
PROJECT = Path(__file__).parents[1]
# Parts of dacsm alone, by the settings that are left as in dacsm; the rest is off.
PARTS = {
    "translated style": ("style",),
    "learned noise": ("noise",),
    "the mix stream's cross-entropy": ("mix_cross_entropy",),
    "token pyramid": ("pyramid",),
    "consistency over object scale": ("consistency",),
    "masked consistency": ("masking",),
}
METHODS = ("shot", "cdan", "mic")  # of other kinds


def timed(form: AdaptationSteps, steps: int, pairs: int) -> float:
    """Seconds of processor time a step, or of the clock on a GPU, over so many steps."""
    cuda = form.method.compute.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = now()
    for _ in range(steps):
        form.step(pairs)
    if cuda:
        torch.cuda.synchronize()
    taken = now() - start
    return (taken.seconds if cuda else taken.processor) / steps


def measured(
    recipe: AdaptRecipe, model: Model, classes: int, params: Params, repeats: int, device: str, pairs: int
) -> list[Measurement]:
    """Each form's time over CDTrans', in turns, so that what else the machine does hits all alike."""
    whole, richest = params.method("dacsm"), params.method("dacsm_mic")
    fields = {name: getattr(richest, name) for parts in PARTS.values() for name in parts}
    plain = Settings(kind="cdtrans")
    alone = {name: plain.model_copy(update={part: fields[part] for part in parts}) for name, parts in PARTS.items()}
    used = {name: method for name, method in alone.items() if method != plain}
    description = Description(model, tuple(f"class {number}" for number in range(classes)))
    compute = choose_compute(device)
    forms, others = {}, {method: params.method(method) for method in METHODS}
    for name, method in {"CDTrans": plain, **used, "DACSM": whole, **others}.items():
        torch.manual_seed(0)
        forms[name] = AdaptationSteps(recipe, method, Classifier(description).to(compute.device), compute)
    cycle = 2 * whole.consistency.every
    times: dict[str, list[float]] = {name: [] for name in forms}
    for repeat in range(repeats + 1):
        for name in list(forms)[:: 1 if repeat % 2 else -1]:
            times[name].append(timed(forms[name], cycle, pairs))
    base = times["CDTrans"][1:]  # the first warms up

    def ratio(name: str) -> float:
        return statistics.median(form / plain for form, plain in zip(times[name][1:], base, strict=True))

    return [
        Measurement("a step of CDTrans", statistics.median(base), "s"),
        *(Measurement(f"{name}, added to CDTrans alone", 100 * (ratio(name) - 1), "%") for name in used),
        *(Measurement(f"{method} / CDTrans", ratio(method)) for method in METHODS),
        Measurement("DACSM / CDTrans", ratio("DACSM"), "", RATIO),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    params: Params = load_params(PROJECT / "params.yaml")
    torch.set_num_threads(params.recipe("adapt", "digits").threads)
    recipe, model = params.recipe("adapt", "digits"), params.recipe("pretrain", "digits").model
    found = measured(recipe, model, 10, params, 2 * options.repeats, options.device, recipe.batch_size)
    missed = report(f"A step on digits, {recipe.batch_size} pairs, {options.device}", found)
    torch.set_num_threads(options.threads)
    recipe, model = params.recipe("adapt", "visda"), params.recipe("pretrain", "visda").model
    model = model.model_copy(update={"name": "deit_small_patch16_224", "weights": "none"})
    pairs = recipe.batch_size if options.device == "cuda" else 8
    found = measured(recipe, model, 12, params, options.repeats, options.device, pairs)
    return missed | report(f"A step of DeiT-S at 224 pixels, {pairs} pairs, {options.device}", found)


if __name__ == "__main__":
    sys.exit(main())
