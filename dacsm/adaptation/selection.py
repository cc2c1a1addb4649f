"""How well a validator likes an epoch of an adaptation."""

import math
from collections.abc import Callable
from importlib import import_module

from dacsm.evaluation.outputs import Outputs

Validator = Callable[[Outputs], float]


def load_validator(name: str) -> Validator:
    """The validator of that name."""
    return import_module(f"dacsm.adaptation.validators.{name}").score


def score_of(validator: Validator, epoch: Outputs) -> float:
    """A validator's score of an epoch; NaN where it has none, or training had diverged."""
    return float(validator(epoch)) if epoch.finite else math.nan
