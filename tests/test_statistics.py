"""Paired differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dacsm.statistics import paired_difference

values_by_seed = st.dictionaries(st.integers(0, 9), st.floats(0, 100), min_size=1)


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
    assert there.mean == pytest.approx(np.mean([first[seed] - second[seed] for seed in common]))
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
    assert paired_difference(same, same).verdict == "not shown"
