"""Wrapping, shortest displacements and mean removal on the flat torus."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalgen.models.manifolds import torus

numbers = st.floats(-1e3, 1e3, allow_nan=False)


@settings(deadline=None)
@given(numbers)
def test_wrap_stays_below_one_and_keeps_the_point(value):
    exact = torch.tensor(value, dtype=torch.float64)
    wrapped = torus.wrap(exact)
    assert 0.0 <= wrapped < 1.0
    assert abs(torch.remainder(exact - wrapped + 0.5, 1.0) - 0.5) < 1e-9


def test_wrap_of_a_tiny_negative_number_is_zero():
    assert torus.wrap(torch.tensor(-1e-12)) == 0.0


@settings(deadline=None)
@given(numbers, numbers)
def test_log_map_is_the_formula_of_the_paper(start, end):
    shift = torus.log_map(torch.tensor(start, dtype=torch.float64), torch.tensor(end, dtype=torch.float64)).item()
    angle = 2 * math.pi * (end - start)
    expected = math.atan2(math.sin(angle), math.cos(angle)) / (2 * math.pi)
    # At half a cell both directions are shortest.
    assert abs(abs(shift) - abs(expected)) < 1e-9
    assert abs(shift - expected) < 1e-9 or abs(abs(expected) - 0.5) < 1e-9


@settings(deadline=None)
@given(numbers, numbers)
def test_log_map_of_the_reverse_is_the_negative(start, end):
    start, end = torch.tensor(start), torch.tensor(end)
    assert torus.log_map(start, end) == -torus.log_map(end, start)


def test_remove_mean_ignores_padding():
    vectors = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0], [100.0, 100, 100]]])
    mask = torch.tensor([[True, True, False]])
    assert torus.remove_mean(vectors, mask).tolist() == [[[-1, 0, 0], [1, 0, 0], [0, 0, 0]]]
