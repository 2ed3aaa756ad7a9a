"""Codecs of lattices on the device."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalgen.models.manifolds.lattices import (
    angles_to_logit,
    gram_from_parameters,
    lattice_from_parameters,
    lattice_to_parameters,
    logit_to_angles,
)
from xtalgen.structure import lattice as numpy_lattice

three_lengths = st.lists(st.floats(1.5, 40.0), min_size=3, max_size=3)
# Any three angles in this range make a cell.
three_angles = st.lists(st.floats(61.0, 119.0), min_size=3, max_size=3)


def tensors(lengths, angles):
    return torch.tensor(lengths, dtype=torch.float64), torch.tensor(angles, dtype=torch.float64)


def is_cell(angles):
    cosines = torch.deg2rad(angles).cos()
    return 1 - (cosines**2).sum() + 2 * cosines.prod() > 1e-3


@settings(deadline=None)
@given(three_lengths, three_angles)
def test_parameters_survive_the_matrix(lengths, angles):
    lengths, angles = tensors(lengths, angles)
    if not is_cell(angles):
        return
    found_lengths, found_angles = lattice_to_parameters(lattice_from_parameters(lengths, angles))
    torch.testing.assert_close(found_lengths, lengths, rtol=1e-9, atol=0)
    torch.testing.assert_close(found_angles, angles, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(three_lengths, three_angles)
def test_equals_the_numpy_side(lengths, angles):
    expected = numpy_lattice.lattice_from_parameters(np.array(lengths), np.array(angles))
    found = lattice_from_parameters(*tensors(lengths, angles)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12 * max(lengths))


@settings(deadline=None)
@given(three_lengths, three_angles)
def test_gram_matrix_is_that_of_the_rows(lengths, angles):
    lengths, angles = tensors(lengths, angles)
    if not is_cell(angles):
        return
    rows = lattice_from_parameters(lengths, angles)
    torch.testing.assert_close(gram_from_parameters(lengths, angles), rows @ rows.T, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.floats(59.95, 120.05), min_size=1, max_size=5))
def test_angles_survive_the_logit(angles):
    angles = torch.tensor(angles, dtype=torch.float64)
    torch.testing.assert_close(logit_to_angles(angles_to_logit(angles)), angles, rtol=0, atol=1e-9)


def test_known_logits():
    assert angles_to_logit(torch.tensor(90.0)).abs() < 1e-6
    # logit(0.1 / 60.2), the smallest of a Niggli-reduced cell
    assert abs(angles_to_logit(torch.tensor(60.0, dtype=torch.float64)) + 6.398595) < 1e-5
