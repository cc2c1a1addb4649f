"""SHOT, CDAN, DANN, minimum class confusion and MIC restated in float64, from their papers and public programs.

Nothing here is taken from the package. Sums are written out where that is bearable.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-5  # that the public programs add inside logarithms


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(row)) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def entropy(probabilities: list[float], epsilon: float = 0.0) -> float:
    return -sum(p * math.log(p + epsilon) for p in probabilities if p + epsilon > 0)


def information(logits: list[list[float]], epsilon: float = 0.0) -> float:
    """SHOT: mean entropy of the predictions, less the entropy of the mean prediction."""
    rows = [softmax(row) for row in logits]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return sum(entropy(row, epsilon) for row in rows) / len(rows) - entropy(mean, epsilon)


def shot_labels(features: np.ndarray, logits: np.ndarray) -> list[int]:
    """SHOT: two rounds of centroids by cosine, first weighted by probability, then of the labels found.

    Classes without a member in the labels of the round before take no part.
    """
    extended = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    extended /= np.linalg.norm(extended, axis=1, keepdims=True)
    weights = np.array([softmax(row) for row in logits.tolist()])
    labels = weights.argmax(axis=1)
    for _ in range(2):
        centroids = (weights.T @ extended) / (1e-8 + weights.sum(axis=0)[:, None])
        present = np.unique(labels)
        distances = np.empty((len(features), len(present)))
        for column, label in enumerate(present):
            centroid = centroids[label]
            distances[:, column] = 1 - extended @ centroid / np.linalg.norm(centroid)
        labels = present[distances.argmin(axis=1)]
        weights = np.eye(logits.shape[1])[labels]
    return labels.tolist()


def certainties(rows: list[list[float]], epsilon: float = 0.0) -> list[float]:
    """CDAN+E: 1 + exp(−entropy), scaled to a mean of 1."""
    weights = [1 + math.exp(-entropy(row, epsilon)) for row in rows]
    return [weight * len(weights) / sum(weights) for weight in weights]


def confusion(logits: list[list[float]], temperature: float, epsilon: float = 0.0) -> float:
    """MCC: the class correlation matrix, its rows normed, summed off the diagonal, over the number of classes."""
    rows = [softmax([value / temperature for value in row]) for row in logits]
    weights, classes = certainties(rows, epsilon), range(len(rows[0]))
    matrix = [
        [sum(w * row[i] * row[j] for w, row in zip(weights, rows, strict=True)) for j in classes] for i in classes
    ]
    total = 0.0
    for i in classes:
        total += sum(matrix[i][j] for j in classes if j != i) / sum(matrix[i])
    return total / len(classes)


def outer(features: list[float], probabilities: list[float]) -> list[float]:
    return [p * f for p in probabilities for f in features]


def discriminate(state: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """The discriminator in training, (N, J) to probabilities of the source (N,): norms take the batch's statistics."""
    x = inputs
    for linear, norm in ((0, 1), (3, 4)):
        x = x @ state[f"{linear}.weight"].T + state[f"{linear}.bias"]
        mean = x.mean(dim=0)
        variance = (x - mean).square().mean(dim=0)
        x = (x - mean) / (variance + 1e-5).sqrt() * state[f"{norm}.weight"] + state[f"{norm}.bias"]
        x = x.clamp(min=0)
    return torch.sigmoid(x @ state["6.weight"].T + state["6.bias"])[:, 0]


def adversarial(state: dict[str, Tensor], joint: Tensor, factor: float, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of the discriminator, the first half of (2 B, J) being of the source; its gradient reversed.

    Forward it is the plain loss; to what made `joint` the gradient comes with −factor.
    """
    reversed_ = (1 + factor) * joint.detach() - factor * joint
    found = discriminate(state, reversed_)
    half = len(found) // 2
    each = -torch.cat([found[:half].log(), (1 - found[half:]).log()])
    return (each if weights is None else weights * each).mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -F.log_softmax(logits.double(), dim=1)[range(len(labels)), labels].mean()
