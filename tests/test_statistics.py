"""What is said of differences between seeds, of how many seeds they want, and of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, spearmanr, ttest_1samp

from dacsm.report.statistics import deviation_bounds, paired_difference, power_of_seeds, rank_correlation, seeds_needed

percent = st.integers(0, 10_000).map(lambda hundredths: hundredths / 100)  # as metrics have them
values_by_seed = st.dictionaries(st.integers(0, 9), percent, min_size=1)


@given(values_by_seed, values_by_seed)
def test_paired_difference_takes_common_seeds_and_turns_its_sign(
    first: dict[int, float], second: dict[int, float]
) -> None:
    common = sorted(first.keys() & second.keys())
    if not common:
        with pytest.raises(ValueError, match="no seed in common"):
            paired_difference(first, second)
        return
    there, back = paired_difference(first, second), paired_difference(second, first)
    assert there.seeds == len(common)
    assert there.by_seed == pytest.approx({seed: first[seed] - second[seed] for seed in common})
    assert there.mean == pytest.approx(np.mean(list(there.by_seed.values())))
    assert back.mean == pytest.approx(-there.mean)
    if there.interval is None:
        assert len(common) == 1
        assert there.verdict not in ("better", "worse")
    else:
        assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
        assert {"better": "worse", "worse": "better"}.get(there.verdict, there.verdict) == back.verdict


def test_equal_runs_are_neither_better_nor_worse() -> None:
    same = {0: 70.0, 1: 71.0}
    assert paired_difference(same, same).interval == (0.0, 0.0)
    assert paired_difference(same, same).verdict == "not told apart"
    three = {0: 0.1 + 0.2 + 0.3, 1: 0.3}, {0: 0.3 + 0.2 + 0.1, 1: 0.3}
    assert paired_difference(*three).verdict == "not told apart"  # a sum in another order is no difference


@given(st.dictionaries(st.integers(0, 9), st.integers(-3000, 3000), min_size=2))
def test_intervals_are_those_of_the_t_test(hundredths: dict[int, int]) -> None:
    values = {seed: value / 100 for seed, value in hundredths.items()}
    found = paired_difference(values, dict.fromkeys(values, 0.0))
    if len(set(hundredths.values())) == 1:
        assert found.interval == pytest.approx((found.mean, found.mean))
        return
    assert found.interval == pytest.approx(tuple(ttest_1samp(list(values.values()), 0).confidence_interval(0.95)))
    assert found.deviation == pytest.approx(np.std(list(values.values()), ddof=1))
    assert found.half_width == pytest.approx((found.interval[1] - found.interval[0]) / 2)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_are_those_of_published_power_tables(effect: float, seeds: int) -> None:
    """Paired t-test, two-sided at 5 %, power 0.8, by the difference over its deviation: the values of G*Power."""
    assert seeds_needed(1.0, effect) == seeds
    assert seeds_needed(2.0 / effect) == seeds  # two points


def test_power_is_how_often_a_test_finds_the_difference() -> None:
    draws = np.random.default_rng(0).normal(2.0, 3.0, (20_000, 12))
    found = (ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean()
    assert power_of_seeds(12, deviation=3.0) == pytest.approx(found, abs=0.01)


@given(st.floats(0, 200), st.floats(0.1, 10))
def test_one_seed_less_is_too_few(deviation: float, effect: float) -> None:
    seeds = seeds_needed(deviation, effect)
    assert power_of_seeds(seeds, deviation, effect) >= 0.8
    assert seeds == 2 or power_of_seeds(seeds - 1, deviation, effect) < 0.8


def test_a_deviation_is_known_the_better_the_more_seeds() -> None:
    assert deviation_bounds(3) == pytest.approx((0.5207, 6.2847), abs=1e-4)  # tables of chi-squared
    assert deviation_bounds(10) == pytest.approx((0.6878, 1.8256), abs=1e-4)
    for seeds in (2, 5, 30):
        low, high = deviation_bounds(seeds)
        inside = chi2.cdf((seeds - 1) / low**2, seeds - 1) - chi2.cdf((seeds - 1) / high**2, seeds - 1)
        assert inside == pytest.approx(0.95)


def test_ranks_by_hand() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 99]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [9, 7, 5, 1]) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: covariance 4.5 over the root of 4.5 times 5.
    assert rank_correlation([1, 2, 2, 3], [10, 30, 20, 40]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


def test_ranks_without_order_have_no_correlation() -> None:
    nan = float("nan")
    assert np.isnan(rank_correlation([1, 2], [1, 2]))
    assert np.isnan(rank_correlation([1, nan, 3, 4], [1, 2, 3, nan]))
    assert np.isnan(rank_correlation([8, 8, 8], [70, 71, 72]))
    assert rank_correlation([1, nan, 3, 2], [1, 5, 3, 2]) == pytest.approx(1)  # what is left without the second


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=12))
def test_only_the_order_counts(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    found = rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert np.isnan(found)
        return
    assert found == pytest.approx(spearmanr(first, second).statistic)
    assert rank_correlation([value**3 for value in first], second) == pytest.approx(found)
    assert rank_correlation([-value for value in first], second) == pytest.approx(-found)
