import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pymatgen.core import Lattice

from xtalgen.structure.lattice import lattice_from_parameters, lattice_to_parameters

lengths = st.tuples(*[st.floats(0.5, 50)] * 3).map(np.array)
angles = st.tuples(*[st.floats(20, 160)] * 3).map(np.array)


def cosine(angles):
    alpha, beta, gamma = np.radians(angles)
    return (np.cos(alpha) * np.cos(beta) - np.cos(gamma)) / (np.sin(alpha) * np.sin(beta))


@given(lengths, angles)
def test_equals_pymatgen(lengths, angles):
    assume(abs(cosine(angles)) < 1)
    wanted = Lattice.from_parameters(*lengths, *angles).matrix
    np.testing.assert_allclose(lattice_from_parameters(lengths, angles), wanted, atol=1e-9)


@given(lengths, angles)
def test_parameters_survive_the_round_trip(lengths, angles):
    assume(abs(cosine(angles)) < 0.999)
    lattice = lattice_from_parameters(lengths, angles)
    assert np.linalg.det(lattice) > 0
    back_lengths, back_angles = lattice_to_parameters(lattice)
    np.testing.assert_allclose(back_lengths, lengths, rtol=1e-9)
    np.testing.assert_allclose(back_angles, angles, atol=1e-6)


@given(lengths, angles, st.integers(0, 2**32))
def test_parameters_ignore_rotation(lengths, angles, seed):
    assume(abs(cosine(angles)) < 0.999)
    lattice = lattice_from_parameters(lengths, angles)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    back_lengths, back_angles = lattice_to_parameters(lattice @ rotation)
    np.testing.assert_allclose(back_lengths, lengths, rtol=1e-9)
    np.testing.assert_allclose(back_angles, angles, atol=1e-6)


def test_orientation_is_canonical():
    lattice = lattice_from_parameters(np.array([3.0, 4.0, 5.0]), np.array([80.0, 95.0, 110.0]))
    assert lattice[0, 1] == 0  # a in the xz plane
    assert lattice[2].tolist() == [0, 0, 5]  # c along z
    np.testing.assert_allclose(
        lattice_from_parameters(np.array([3.0, 4.0, 5.0]), np.array([90.0, 90.0, 90.0])), np.diag([3, 4, 5]), atol=1e-12
    )


def test_batches_equal_single_lattices():
    generator = np.random.default_rng(0)
    lengths, angles = generator.uniform(2, 9, (4, 5, 3)), generator.uniform(70, 110, (4, 5, 3))
    lattices = lattice_from_parameters(lengths, angles)
    assert lattices.shape == (4, 5, 3, 3)
    np.testing.assert_array_equal(lattices[2, 3], lattice_from_parameters(lengths[2, 3], angles[2, 3]))
    back_lengths, back_angles = lattice_to_parameters(lattices)
    np.testing.assert_allclose(back_lengths, lengths)
    np.testing.assert_allclose(back_angles, angles)


@pytest.mark.parametrize("angles", [[30.0, 30.0, 100.0], [150.0, 150.0, 150.0], [60.0, 60.0, 120.0]])
def test_impossible_angles_give_a_flat_cell_not_nan(angles):
    lattice = lattice_from_parameters(np.array([3.0, 4.0, 5.0]), np.array(angles))
    assert np.all(np.isfinite(lattice))
    assert abs(np.linalg.det(lattice)) < 1e-6
