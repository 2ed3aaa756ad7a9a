"""The standard cell of data sets: the same crystal, whatever the axes; special positions exact."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalgen.crystals import Crystal
from xtalgen.structure.lattice import lattice_from_parameters, lattice_to_parameters
from xtalgen.structure.standard_cell import standardise

UNIMODULAR = [
    matrix
    for matrix in (np.array(entries).reshape(3, 3) for entries in itertools.product((-1, 0, 1), repeat=9))
    if round(np.linalg.det(matrix)) == 1
]


def shortest_distances(cell):
    apart = cell.frac_coords[:, None] - cell.frac_coords[None]
    images = np.array(list(itertools.product(range(-4, 5), repeat=3)))
    vectors = (apart[:, :, None] - np.rint(apart)[:, :, None] + images) @ cell.lattice
    distances = np.linalg.norm(vectors, axis=-1)
    return np.sort(distances, axis=-1)[:, :, :8]


def lengths_of(cell):
    return np.sort(lattice_to_parameters(cell.lattice)[0])


cells = st.builds(
    lambda lengths, angles, seed, n: Crystal(
        "",
        "ok",
        lattice_from_parameters(np.array(lengths), np.array(angles)),
        np.random.default_rng(seed).random((n, 3)),
        np.full(n, 26, dtype=np.uint8),
    ),
    st.tuples(*[st.floats(3, 6)] * 3),
    st.tuples(*[st.floats(70, 110)] * 3),
    st.integers(0, 2**32),
    st.integers(1, 3),
)


@settings(max_examples=40, deadline=None)
@given(cells, st.sampled_from(UNIMODULAR))
def test_standard_cell_keeps_distances_and_ignores_the_choice_of_axes(cell, axes):
    standard = standardise(cell)
    np.testing.assert_allclose(shortest_distances(standard), shortest_distances(cell), atol=1e-6)
    other = Crystal("", "ok", axes @ cell.lattice, cell.frac_coords @ np.linalg.inv(axes), cell.atomic_numbers)
    np.testing.assert_allclose(lengths_of(standardise(other)), lengths_of(standard), atol=1e-3)
    assert abs(np.linalg.det(standard.lattice)) == pytest.approx(abs(np.linalg.det(cell.lattice)))


@settings(max_examples=20, deadline=None)
@given(cells)
def test_standardising_twice_keeps_the_crystal(cell):
    # Not always the axes: pymatgen, hence CDVAE, takes axes whose angles lie within one degree for the same.
    once = standardise(cell)
    twice = standardise(once)
    np.testing.assert_allclose(lengths_of(twice), lengths_of(once), atol=1e-7)
    np.testing.assert_allclose(shortest_distances(twice), shortest_distances(once), atol=1e-6)


def test_special_positions_stay_exact():
    rows = np.array([[0.0, 2.82, 2.82], [2.82, 0.0, 2.82], [2.82, 2.82, 0.0]])
    skewed = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    cell = Crystal(
        "",
        "ok",
        skewed @ rows,
        (np.array([[0, 0, 0], [0.5, 0.5, 0.5]]) @ np.linalg.inv(skewed)).round(12),
        np.array([11, 17], np.uint8),
    )
    assert set(standardise(cell).frac_coords.flatten().tolist()) == {0.0, 0.5}
