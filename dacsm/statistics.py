"""Means, spreads and paired differences over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
SUMMARIES = ("mean_per_class", "overall")  # the last two columns of a row's accuracies


@dataclass(frozen=True)
class Row:
    """The accuracies of one method on one task over S seeds, under one way to choose the checkpoint."""

    task: str
    method: str
    selection: str
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]  # the chosen epoch of each seed
    accuracy: np.ndarray  # (S, K + 2) percent: each class, mean per class, overall; NaN for a class without images

    @property
    def mean(self) -> np.ndarray:
        return self.accuracy.mean(axis=0)  # (K + 2,)

    @property
    def spread(self) -> np.ndarray:
        """The sample standard deviation over seeds, (K + 2,); NaN for a single seed."""
        return deviation(self.accuracy)

    def by_seed(self, summary: str) -> dict[int, float]:
        """One of SUMMARIES for each seed."""
        column = SUMMARIES.index(summary) - len(SUMMARIES)
        return dict(zip(self.seeds, self.accuracy[:, column].tolist(), strict=True))


def deviation(values: np.ndarray) -> np.ndarray:
    """The sample standard deviation over seeds of (S, C) values, (C,); NaN for a single seed."""
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    return values.std(axis=0, ddof=1)


def average_tasks(rows: Sequence[Row], name: str) -> Row:
    """A method's rows on several tasks, averaged seed by seed: its spread is that of the average, over seeds."""
    first = rows[0]
    accuracy = np.mean([row.accuracy for row in rows], axis=0)
    return Row(name, first.method, first.selection, first.seeds, (), accuracy)


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds, in the unit of the values; no interval (None) for a single seed."""

    seeds: int
    mean: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """`better` or `worse` only where the interval excludes zero."""
        if self.interval is None:
            return "one seed: no interval"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "not shown"


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """The mean of first − second over the seeds that both have, with its 95 % t interval.

    The same seed gives both methods the same source model, so that its luck cancels in the difference.

    Raises:
        ValueError: where they have no seed in common.
    """
    from scipy.stats import t

    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError("no seed in common")
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    mean = float(differences.mean())
    if len(seeds) == 1:
        return Difference(1, mean, None)
    standard_error = float(differences.std(ddof=1)) / np.sqrt(len(seeds))
    half_width = float(t.ppf((1 + CONFIDENCE) / 2, df=len(seeds) - 1)) * standard_error
    return Difference(len(seeds), mean, (mean - half_width, mean + half_width))
