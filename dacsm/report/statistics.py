"""Means, spreads, paired differences and rank correlations; and how many seeds a difference wants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95
POWER = 0.8  # of a test: how often it finds a difference that is there
EFFECT = 2.0  # points; the difference that an experiment should be able to see
BETTER, WORSE, NOT_TOLD_APART = "better", "worse", "not told apart"
FEWEST_RANKED = 3  # two points have a rank correlation of one, whatever they are
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
        return self.column_by_seed(SUMMARIES.index(summary) - len(SUMMARIES))

    def column_by_seed(self, column: int) -> dict[int, float]:
        """One column of `accuracy` for each seed."""
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
    """A paired difference over seeds, in the unit of the values; a single seed has neither deviation nor interval."""

    by_seed: Mapping[int, float]  # of the common seeds, in their order
    mean: float
    deviation: float | None  # sample standard deviation of the differences: how finely such seeds can measure
    half_width: float | None  # of the interval about the mean

    @property
    def seeds(self) -> int:
        return len(self.by_seed)

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)

    @property
    def verdict(self) -> str:
        """BETTER or WORSE only where there is an interval and it excludes zero."""
        low, high = self.interval or (0.0, 0.0)
        return BETTER if low > 0 else WORSE if high < 0 else NOT_TOLD_APART


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """The mean of first − second over the seeds that both have, with its 95 % interval by Student's t.

    The same seed gives both methods the same source model, so that its luck cancels in the difference. NaN stays NaN.

    Raises:
        ValueError: where they have no seed in common.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError("no seed in common")
    # Rounded, so that the last bit of a sum over tasks makes no equal runs differ.
    differences = np.round([first[seed] - second[seed] for seed in seeds], 10)
    by_seed, mean = dict(zip(seeds, differences.tolist(), strict=True)), float(differences.mean())
    if len(seeds) == 1:
        return Difference(by_seed, mean, None, None)
    spread = float(differences.std(ddof=1))
    half_width = _critical(len(seeds) - 1) * spread / len(seeds) ** 0.5
    return Difference(by_seed, mean, spread, half_width)


@lru_cache
def _critical(degrees: int) -> float:
    """The value that Student's t exceeds in either direction in 5 % of all cases."""
    from scipy.stats import t

    return float(t.ppf((1 + CONFIDENCE) / 2, df=degrees))


def power_of_seeds(seeds: int, deviation: float, effect: float = EFFECT) -> float:
    """How often a two-sided paired t-test at 5 % over `seeds` seeds finds a true difference of `effect`.

    Where the differences of single seeds are normal with that standard deviation, their t statistic is noncentral t
    with seeds − 1 degrees of freedom and noncentrality effect · sqrt(seeds) / deviation (Cohen, Statistical Power
    Analysis for the Behavioral Sciences, 2nd edition 1988, chapter 2).
    """
    from scipy.stats import nct

    if deviation <= effect / 1000:
        return 1.0  # to the last digit, and scipy would divide by zero
    degrees, shift = seeds - 1, effect * seeds**0.5 / deviation
    critical = _critical(degrees)
    # The wrong side counts too, and is under 1e-9 where scipy's distribution ends in NaN.
    wrong_side = nct.cdf(-critical, degrees, shift) if shift < 6 else 0.0
    return float(nct.sf(critical, degrees, shift) + wrong_side)


def seeds_needed(deviation: float, effect: float = EFFECT) -> int:
    """The fewest seeds, at least two, with which `power_of_seeds` reaches POWER."""
    few, many = 1, 2  # too few, and perhaps enough
    while power_of_seeds(many, deviation, effect) < POWER:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        enough = power_of_seeds(middle, deviation, effect) >= POWER
        few, many = (few, middle) if enough else (middle, many)
    return many


def deviation_bounds(seeds: int) -> tuple[float, float]:
    """Between which multiples of a standard deviation measured over `seeds` seeds the true one lies (95 %, normal).

    The squares follow the chi-squared distribution with seeds − 1 degrees of freedom.
    """
    from scipy.stats import chi2

    degrees, tail = seeds - 1, (1 - CONFIDENCE) / 2
    return tuple(float((degrees / chi2.ppf(share, degrees)) ** 0.5) for share in (1 - tail, tail))


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation of the pairs in which both are finite; equal values share their mean rank.

    NaN where fewer than FEWEST_RANKED pairs are left, or one side has but one value.
    """
    from scipy.stats import spearmanr

    pairs = np.array([first, second], dtype=float)
    pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
    if pairs.shape[1] < FEWEST_RANKED or (pairs == pairs[:, :1]).all(axis=1).any():
        return float("nan")
    return float(spearmanr(*pairs).statistic)
