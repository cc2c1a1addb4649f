"""How far a classifier's confidence can be taken at its word, and the temperature that mends it.

Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599: temperature scaling is section 4.2, the
expected calibration error section 2. Logits are (N, K), labels class indices (N,).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15  # of equal width, as in the paper
LEAST, MOST = 0.05, 20.0  # of a temperature: where every image is classified right, none is low enough


@dataclass(frozen=True)
class Calibration:
    """Some labelled images' calibration, before and after the logits are divided by a temperature.

    Each is a pair. Negative log-likelihoods are in nats, calibration errors in percent. Without a temperature, what
    comes after is None.
    """

    images: int
    negative_log_likelihood: tuple[float, float | None]
    calibration_error: tuple[float, float | None]


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with 4 decimals by which the labels are most likely: 1 where none is better than that.

    The negative log-likelihood is convex in 1 / temperature, so that it has no second minimum.
    """

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(logits, labels, np.exp(log_temperature))

    found = minimize_scalar(loss, bounds=(np.log(LEAST), np.log(MOST)), method="bounded", options={"xatol": 1e-6})
    temperature = round(float(np.exp(found.x)), 4)
    better = negative_log_likelihood(logits, labels, temperature) < negative_log_likelihood(logits, labels)
    return temperature if better else 1.0


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """The mean over images, in nats."""
    logs = log_softmax(logits.astype(np.float64) / temperature, axis=1)  # (N, K)
    return float(-logs[np.arange(len(labels)), labels].mean())


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """The mean distance between confidence and accuracy, in 0..1, over bins of confidence weighted by their images.

    `confidence` (N,) is the probability of the predicted class, `right` (N,) bool whether it is the image's.
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # (N,): each holds its upper end
    return float(np.abs(np.bincount(bins, confidence - right)).sum() / len(confidence))


def calibration(logits: np.ndarray, labels: np.ndarray, temperature: float | None) -> Calibration:
    """What is measured of labelled images, rounded to 4 decimals."""

    def error(temperature: float) -> float:
        confidence = np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1))
        right = logits.argmax(axis=1) == labels  # of the logits: division may make equals of what differs little
        return 100 * expected_calibration_error(np.minimum(confidence, 1), right)

    def likelihood(temperature: float) -> float:
        return negative_log_likelihood(logits, labels, temperature)

    def both(measure: Callable[[float], float]) -> tuple[float, float | None]:
        return round(measure(1), 4), None if temperature is None else round(measure(temperature), 4)

    return Calibration(len(labels), both(likelihood), both(error))
