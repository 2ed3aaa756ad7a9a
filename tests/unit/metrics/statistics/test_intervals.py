import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from xtalgen.metrics.statistics.intervals import Bootstrap, missing, rate


@given(st.integers(1, 20000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_rate_is_wilson(case):
    count, n = case
    found, known = rate(count, n), binomtest(count, n).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_rate_of_nothing_has_a_reason():
    assert rate(0, 0).value is None
    assert rate(0, 0).reason


def test_bootstrap_of_a_mean_agrees_with_theory():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=2000)
    found = Bootstrap(values, np.mean, reason="none").estimate(seed=1)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_bootstrap_is_seeded():
    values = np.arange(50.0)
    first, again, other = (Bootstrap(values, np.median, reason="none").estimate(seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high) or first != other


def test_no_values_is_null_with_reason():
    found = Bootstrap(np.array([]), np.mean, reason="no valid crystal").estimate(seed=0)
    assert found == missing("no valid crystal")
    assert json.loads(json.dumps(found.as_json()))["reason"] == "no valid crystal"
    assert "reason" not in rate(1, 2).as_json()
