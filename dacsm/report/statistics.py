"""Paired differences over seeds, how many seeds they take, and rank correlations."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import chi2, nct, t

CONFIDENCE = 0.95
POWER = 0.8  # of a test: how often it finds a difference that is there
EFFECT = 2.0  # points; the difference that an experiment should be able to see
BETTER, WORSE, NOT_TOLD_APART = "better", "worse", "not told apart"
FEWEST_RANKED = 3  # two points have a rank correlation of one, whatever they are
MOST_SEEDS = 10**9  # to look for


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
    Raises ValueError where they have no seed in common.
    """
    # Rounded, so that the last bit of a sum over tasks makes no equal runs differ.
    by_seed = {seed: round(first[seed] - second[seed], 10) for seed in sorted(first.keys() & second.keys())}
    if not by_seed:
        raise ValueError("no seed in common")
    differences = np.array(list(by_seed.values()))
    mean, seeds = float(differences.mean()), len(differences)
    if seeds == 1:
        return Difference(by_seed, mean, None, None)
    deviation = float(differences.std(ddof=1))
    return Difference(by_seed, mean, deviation, _critical(seeds - 1) * deviation / seeds**0.5)


@lru_cache
def _critical(degrees: int) -> float:
    """The value that Student's t exceeds in either direction in 5 % of all cases."""
    return float(t.ppf((1 + CONFIDENCE) / 2, df=degrees))


def power_of_seeds(seeds: int, deviation: float, effect: float = EFFECT) -> float:
    """How often a two-sided paired t-test at 5 % over `seeds` seeds finds a true difference of `effect`.

    Where the differences of single seeds are normal with that standard deviation, their t statistic is noncentral t
    with seeds − 1 degrees of freedom and noncentrality effect · sqrt(seeds) / deviation (Cohen, Statistical Power
    Analysis for the Behavioral Sciences, 2nd edition 1988, chapter 2).
    """
    degrees, critical = seeds - 1, _critical(seeds - 1)
    if deviation * 100 * critical <= effect * seeds**0.5:
        return 1.0  # to the last digit, and scipy ends in NaN
    shift = effect * seeds**0.5 / deviation
    # The wrong side counts too, and is under 1e-9 where scipy's distribution ends in NaN.
    wrong_side = nct.cdf(-critical, degrees, shift) if shift < 6 else 0.0
    return float(nct.sf(critical, degrees, shift) + wrong_side)


def seeds_needed(deviation: float, effect: float = EFFECT) -> int:
    """The fewest seeds, at least two, with which `power_of_seeds` reaches POWER."""
    counts = range(2, MOST_SEEDS)
    return counts[bisect_left(counts, POWER, key=lambda seeds: power_of_seeds(seeds, deviation, effect))]


def deviation_bounds(seeds: int) -> tuple[float, float]:
    """Between which multiples of a standard deviation measured over `seeds` seeds the true one lies (95 %, normal).

    The squares follow the chi-squared distribution with seeds − 1 degrees of freedom.
    """
    low, high = ((seeds - 1) / bound for bound in chi2.interval(CONFIDENCE, seeds - 1)[::-1])
    return float(low) ** 0.5, float(high) ** 0.5


Numbers = Sequence[float] | np.ndarray | pd.Series


def rank_correlation(first: Numbers, second: Numbers) -> float:
    """Spearman's rank correlation of the pairs in which both are finite; equal values share their mean rank.

    NaN where fewer than FEWEST_RANKED pairs are left, or one side has but one value.
    """
    pairs = pd.DataFrame({"first": first, "second": second}, dtype=float).replace([np.inf, -np.inf], np.nan)
    return float(pairs.corr("spearman", min_periods=FEWEST_RANKED).loc["first", "second"])  # type: ignore[arg-type]  # a number
