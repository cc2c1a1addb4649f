"""The kinds of methods. Each is a module or folder here with a class `Kind`; its settings are in dacsm/config/kinds."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from dacsm.config.kinds import MethodSettings
from dacsm.config.params import AdaptRecipe
from dacsm.data.domains import Domains
from dacsm.evaluation.predictions import Predictions
from dacsm.models.classifier import Classifier
from dacsm.runtime.device import Compute
from dacsm.runtime.progress import TrainingProgress


class Method(ABC):
    """A running adaptation by a method of some kind: what dacsm/stages/adapt.py asks of it.

    Before some epochs, as the recipe says, comes `refresh`; in each epoch come `batches`, and `losses` for each batch;
    after it `end_epoch`. A kind that says nothing of a method here has none of it.

    Raises:
        InputError: when it is made, where the classifier's backbone is not what the kind asks for.
    """

    modules: tuple[nn.Module, ...] = ()  # what trains besides the classifier
    pseudo_labels: Tensor | None = None  # of the target's images, (T,), in use since the last refresh
    remark = ""  # what the line of progress says of an epoch

    def __init__(
        self,
        classifier: Classifier,  # the source model, which is adapted in place
        recipe: AdaptRecipe,
        settings: MethodSettings,
        domains: Domains,
        seed: int,
        compute: Compute,
    ):
        self.classifier, self.recipe, self.settings = classifier, recipe, settings
        self.domains, self.seed, self.compute = domains, seed, compute

    @property
    def refresh_epochs(self) -> int:
        """How many epochs there are from one refresh to the next."""
        return self.recipe.refresh_epochs

    def refresh(self, epoch: int, model: Classifier, progress: TrainingProgress) -> None:  # noqa: B027
        """Renew what training works from by what the model predicts, before an epoch, counted from 1.

        `model` is the classifier, or its weight average. Raises InputError where training cannot go on.
        """

    @abstractmethod
    def batches(self, epoch: int, start: int) -> tuple[Iterator[Any], int]:
        """The batches of an epoch without the first `start`, and how many the whole epoch has.

        A batch depends on seed, epoch and place alone, so that a killed run goes on with the same ones.
        """

    @abstractmethod
    def losses(self, batch: Any, passed: float) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a step by name, and what is descended along; `passed` is how much of training is over, 0..1."""

    def end_epoch(self, epoch: int, target: Predictions) -> dict[str, float]:
        """After an epoch, at whose end the model predicts `target`: what log.csv says of it besides the losses."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """What is kept of the trained method besides the classifier, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What changes in training, besides the classifier and torch's own generators: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Bring back what `state_dict` gave."""

    def made_up_batches(self, size: int) -> list[Any]:
        """Batches of random values, to be taken in turns when the speed of a step is measured; none: not measured."""
        return []


def load_kind(name: str) -> type[Method]:
    """The code of a kind of methods."""
    return import_module(f"dacsm.methods.{name}").Kind
