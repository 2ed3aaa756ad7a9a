import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import Voronoi

from crystal_cases import one_atom
from tolerances import ANGLES, SUMS
from xtalgen.featurizers.voronoi import CLOSED, DOUBTFUL, Cells, TooThinError, cells

ORIGIN = np.zeros((1, 3))


def faces(found, atom=0):
    """Returns solid angles and areas of the true faces of an atom: slivers of the last digit are left out."""
    part = slice(found.starts[atom], found.starts[atom + 1])
    real = found.areas[part] > 1e-9
    return found.angles[part][real], found.areas[part][real], found.vectors[part][real]


def random_crystal(seed):
    generator = np.random.default_rng(seed)
    lattice = np.diag(generator.uniform(3, 9, 3)) + generator.uniform(-1, 1, (3, 3))
    return lattice, generator.random((int(generator.integers(1, 9)), 3))


@pytest.mark.parametrize(
    ("lattice", "count", "distance"),
    [
        (3.0 * np.eye(3), 6, 3.0),
        (one_atom(edge=2.5).lattice, 12, 2.5),
        (np.array([[-1.5, 1.5, 1.5], [1.5, -1.5, 1.5], [1.5, 1.5, -1.5]]), 14, 1.5 * math.sqrt(3)),
    ],
    ids=["cube", "rhombic dodecahedron", "truncated octahedron"],
)
def test_known_cells(lattice, count, distance):
    found = cells(lattice, ORIGIN)
    angles, areas, vectors = faces(found)
    lengths = np.linalg.norm(vectors, axis=1)
    assert found.states.tolist() == [CLOSED]
    assert len(areas) == count
    assert lengths.min() == pytest.approx(distance)
    assert angles.sum() == pytest.approx(4 * math.pi, abs=SUMS)
    assert (areas * lengths).sum() / 6 == pytest.approx(np.linalg.det(lattice))
    np.testing.assert_allclose(found.images @ lattice, found.vectors, atol=SUMS)
    if count == 12:
        np.testing.assert_allclose(angles, math.pi / 3)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_cells_fill_the_crystal(seed):
    lattice, frac_coords = random_crystal(seed)
    found = cells(lattice, frac_coords, cutoff=30.0)
    volumes = found.areas * np.linalg.norm(found.vectors, axis=1) / 6
    assert volumes.sum() == pytest.approx(abs(np.linalg.det(lattice)), rel=1e-9)
    for atom in range(len(frac_coords)):
        part = slice(found.starts[atom], found.starts[atom + 1])
        assert found.angles[part].sum() == pytest.approx(4 * math.pi, abs=ANGLES)
        # Faces have no resultant.
        normals = found.vectors[part] / np.linalg.norm(found.vectors[part], axis=1, keepdims=True)
        np.testing.assert_allclose(found.areas[part] @ normals, 0.0, atol=ANGLES)
        ends = frac_coords[atom] @ lattice + found.vectors[part]
        shifted = (frac_coords[found.numbers[part]] + found.images[part]) @ lattice
        np.testing.assert_allclose(ends, shifted, atol=SUMS)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_faces_are_those_of_qhull(seed):
    lattice, frac_coords = random_crystal(seed)
    found = cells(lattice, frac_coords, cutoff=20.0)
    grid = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    points = ((frac_coords[:, None] + grid) @ lattice).reshape(-1, 3) - frac_coords[0] @ lattice
    points = points[np.argsort((points**2).sum(axis=1))][:400]
    diagram = Voronoi(points)
    known = [points[pair.max()] for pair in diagram.ridge_points if pair.min() == 0]
    _, areas, vectors = faces(found)
    assert len(known) >= len(areas)
    for vector, area in zip(vectors, areas, strict=True):
        if area > 1e-6:
            assert np.abs(known - vector).max(axis=1).min() < 1e-9


def test_open_cells_are_cut_from_farther_atoms():
    found = cells(16.0 * np.eye(3), ORIGIN)
    assert found.states.tolist() == [CLOSED]
    assert len(faces(found)[0]) == 6
    far = cells(1e6 * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
    assert len(far.states) == 2  # and it does not take for ever


def test_needle_that_would_fill_the_memory_is_refused():
    for edges in ([3.0, 3.0, 1e6], [0.05, 0.05, 900.0]):
        with pytest.raises(TooThinError, match="a million"):
            cells(np.diag(edges), ORIGIN)
    assert cells(np.diag([3.0, 3.0, 400.0]), ORIGIN).states.tolist() == [CLOSED]


def test_atoms_in_one_place_are_doubtful():
    found = cells(4.0 * np.eye(3), np.array([[0.0, 0, 0], [0, 0, 1e-6], [0.5, 0.5, 0.5]]))
    assert found.states.tolist() == [DOUBTFUL, DOUBTFUL, CLOSED]


def test_atom_at_the_cut_off_is_doubtful_only_where_it_matters():
    assert cells(3.5 * np.eye(3), ORIGIN).states.tolist() == [CLOSED]
    assert cells(7.0 * np.eye(3), ORIGIN).states.tolist() == [DOUBTFUL]


@pytest.mark.parametrize("wrong", [np.full((3, 3), np.nan), np.zeros((3, 3)), np.full((3, 3), np.inf)])
def test_broken_lattices_are_refused(wrong):
    with pytest.raises(ValueError, match="finite"):
        cells(wrong, ORIGIN)


def test_many_faces_do_not_overflow():
    """An atom in a cage of 400 others has more faces than there is room for."""
    generator = np.random.default_rng(0)
    shell = generator.normal(size=(400, 3))
    shell *= 3.0 / np.linalg.norm(shell, axis=1, keepdims=True)
    found = cells(40.0 * np.eye(3), (np.concatenate([ORIGIN, shell]) / 40.0) % 1.0)
    assert isinstance(found, Cells)
    assert found.states[0] == DOUBTFUL
