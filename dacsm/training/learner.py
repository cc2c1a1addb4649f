"""What trains in an adaptation, step by step, and the weight average that is evaluated where the recipe has one."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dacsm.config.params import AdaptRecipe
from dacsm.models.classifier import Classifier
from dacsm.runtime.device import Compute
from dacsm.runtime.resume import Generators, Stateful
from dacsm.training.optim import build_optimiser, descend, set_learning_rate


class WeightAverage(AveragedModel):
    """PyTorch's, which copies its counter to the GPU at each step and so waits for it, without that copy."""

    def update_parameters(self, model: nn.Module) -> None:
        if not self.n_averaged:  # on the CPU
            super().update_parameters(model)
            return
        averaged, current = ([*each.parameters(), *each.buffers()] for each in (self.module, model))
        for floating in (True, False):
            chosen = [place for place, tensor in enumerate(averaged) if tensor.is_floating_point() == floating]
            self.multi_avg_fn(*([each[place].detach() for place in chosen] for each in (averaged, current)), None)
        self.n_averaged += 1


class Learner:
    """A classifier, the optimiser of it and of other modules, and its weight average."""

    def __init__(self, recipe: AdaptRecipe, classifier: Classifier, modules: tuple[nn.Module, ...], compute: Compute):
        self.recipe, self.classifier, self.compute = recipe, classifier, compute
        self.average = None
        if recipe.averaging:
            averaging = get_ema_multi_avg_fn(recipe.averaging)
            self.average = WeightAverage(classifier, multi_avg_fn=averaging, use_buffers=True)
        self.optimiser = build_optimiser(recipe.optimiser, [classifier, *modules])
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]

    @property
    def evaluated(self) -> Classifier:
        """The model that predicts: the weight average, where there is one."""
        return self.classifier if self.average is None else self.average.module

    @property
    def parts(self) -> dict[str, Stateful | None]:
        """What changes from step to step."""
        parts = {"classifier": self.classifier, "average": self.average, "optimiser": self.optimiser}
        return {**parts, "generators": Generators(self.compute.device)}

    def step(self, loss: Tensor, epoch: int, fraction: float) -> None:
        """Descend along a loss, with the learning rate of an epoch of which `fraction` in [0, 1) has passed."""
        set_learning_rate(self.optimiser, self.recipe.optimiser, self.recipe.epochs, epoch, fraction)
        descend(loss, self.optimiser, self.parameters, self.recipe.optimiser.clip_norm)
        if self.average is not None:
            self.average.update_parameters(self.classifier)
