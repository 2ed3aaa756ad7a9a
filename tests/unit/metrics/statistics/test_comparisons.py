"""Tests between two rows: known p-values, paired against unpaired, noise is noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from xtalgen.metrics.statistics.comparisons import (
    compare_intervals,
    compare_paired,
    compare_rates,
    pack_outcomes,
    unpack_outcomes,
)


def packed(flags, ids=None):
    flags = np.array(flags, dtype=bool)
    return pack_outcomes(ids or [f"t{i:04d}" for i in range(len(flags))], {"hit": flags})


@given(st.lists(st.booleans(), max_size=40))
def test_outcomes_survive_packing(flags):
    assert unpack_outcomes(packed(flags), "hit").tolist() == flags
    assert unpack_outcomes(packed(flags), "other") is None
    assert unpack_outcomes({}, "hit") is None


def test_nine_thousand_outcomes_are_small():
    assert len(packed(np.random.default_rng(0).random(9046) < 0.5)["bits"]["hit"]) < 1600


@pytest.mark.parametrize(("wins", "losses"), [(8, 2), (5, 5), (30, 12), (0, 6), (0, 0)])
def test_paired_is_mcnemars_exact_test(wins, losses):
    both, neither = [True] * 20, [False] * 30
    one = packed(both + neither + [True] * wins + [False] * losses)
    other = packed(both + neither + [False] * wins + [True] * losses)
    known = binomtest(min(wins, losses), wins + losses).pvalue if wins + losses else 1.0
    assert compare_paired(one, other, "hit").p == pytest.approx(known)
    assert compare_paired(other, one, "hit").p == pytest.approx(known)


def test_other_questions_are_not_paired():
    one, other = packed([True, False]), packed([True, False], ids=["a", "b"])
    assert compare_paired(one, other, "hit") is None
    assert compare_paired({}, one, "hit") is None


def test_rates_are_fishers_exact_test():
    # Fisher's tea: 3 of 4 against 1 of 4.
    assert compare_rates(0.75, 4, 0.25, 4).p == pytest.approx(0.4857, abs=1e-4)
    assert compare_rates(0.8, 10_000, 0.794, 10_000).noise
    assert not compare_rates(0.8, 10_000, 0.78, 10_000).noise
    assert compare_rates(0.0, 0, 0.5, 10) is None


def test_values_are_compared_by_the_errors_of_their_intervals():
    # Standard errors of 3 and 4 make 5: a difference of 5 × 1.96 is at p = 0.05.
    z = 1.959963984540054
    found = compare_intervals(0.0, (-3 * z, 3 * z), 5 * z, (z, 9 * z))
    assert found.p == pytest.approx(0.05)
    assert found.noise
    assert compare_intervals(1.0, (1.0, 1.0), 2.0, (2.0, 2.0)) is None


def test_equal_models_rarely_differ():
    rng = np.random.default_rng(0)
    found = [
        compare_paired(packed(rng.random(60) < 0.6), packed(rng.random(60) < 0.6), "hit").noise for _ in range(200)
    ]
    assert np.mean(found) > 0.93
