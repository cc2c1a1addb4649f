"""The parts of a running adaptation."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dacsm.config.kinds.cdtrans import Method
from dacsm.config.params import AdaptRecipe
from dacsm.data.seeding import torch_generator
from dacsm.methods.cdtrans.parts.noise import BeneficialNoise
from dacsm.models.classifier import Classifier
from dacsm.runtime.device import Compute
from dacsm.runtime.resume import Generators, Stateful
from dacsm.training.optim import build_optimiser


@dataclass
class Run:
    """What trains, by which recipe and method, and where."""

    recipe: AdaptRecipe
    method: Method
    seed: int
    compute: Compute
    classifier: Classifier
    noise: BeneficialNoise | None
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None

    @property
    def evaluated(self) -> Classifier:
        """The model that predicts: the weight average, where there is one."""
        return self.classifier if self.average is None else self.average.module

    @property
    def parts(self) -> dict[str, Stateful | None]:
        """What changes from step to step."""
        generators = Generators(self.compute.device, *([] if self.noise is None else [self.noise.generator]))
        modules = {"classifier": self.classifier, "noise": self.noise, "average": self.average}
        return {**modules, "optimiser": self.optimiser, "generators": generators}


def start_run(recipe: AdaptRecipe, method: Method, seed: int, compute: Compute, classifier: Classifier) -> Run:
    """A run whose classifier has the source model's weights, before its first step."""
    noise = None
    if method.style.weight or method.noise.weight or method.attention_dropout:
        noise = BeneficialNoise(classifier, method, torch_generator(compute.device, seed, "noise")).to(compute.device)
    modules: list[nn.Module] = [classifier] if noise is None else [classifier, noise]
    average = None
    if recipe.averaging:
        average = AveragedModel(classifier, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging), use_buffers=True)
    optimiser = build_optimiser(recipe.optimiser, modules)
    return Run(recipe, method, seed, compute, classifier, noise, optimiser, average)
