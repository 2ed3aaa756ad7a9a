import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core.local_env import CN_OPT_PARAMS, LocalStructOrderParams

from tolerances import ANGLES, SUMS
from xtalgen.featurizers.order_parameters import FIRST, LARGEST, MOTIFS, N_FEATURES, order_parameters

PLACES = [(number, place) for number, names in MOTIFS.items() for place in range(len(names))]


def ours(vectors, nearness=None):
    """Returns the order parameters of all these neighbours, and whether they are certain."""
    n = len(vectors)
    padded, shells = np.ones((1, 12, 3)), np.zeros((1, LARGEST + 1))
    padded[0, :n], shells[0, n] = vectors, 1.0
    nearness = np.arange(12.0, 0.0, -1.0) if nearness is None else np.asarray(nearness)
    values, certain = order_parameters(padded, np.resize(nearness, (1, 12)), shells)
    return values[0, FIRST[n] + 1 : FIRST[n + 1]], bool(certain[0])


def pymatgens(vectors):
    n = len(vectors)
    sites = [SimpleNamespace(coords=vector) for vector in [np.zeros(3), *vectors]]
    found = []
    for name in MOTIFS[n]:
        kind, *parameters = CN_OPT_PARAMS.get(n, {}).get(name, ["sgl_bd" if n == 1 else name])
        computed = LocalStructOrderParams([kind], parameters=parameters or [None])
        found.append(computed.get_order_parameters(sites, 0, indices_neighs=list(range(1, n + 1)))[0] or 0)
    return np.array(found, dtype=float)


def rotation(generator):
    matrix, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    return matrix


def ring(n):
    return [(math.cos(2 * math.pi * k / n), math.sin(2 * math.pi * k / n), 0.0) for k in range(n)]


POLES = [(0.0, 0, 1), (0.0, 0, -1)]
CUBE = [(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
TETRAHEDRON = [(1.0, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
CUBOCTAHEDRON = [tuple(np.roll([0.0, x, y], k)) for k in range(3) for x in (-1, 1) for y in (-1, 1)]
PERFECT = {
    (2, "linear"): POLES,
    (2, "L-shaped"): [(1.0, 0, 0), (0, 1.0, 0)],
    (3, "trigonal planar"): ring(3),
    (3, "T-shaped"): [(1.0, 0, 0), (0, 1.0, 0), (-1.0, 0, 0)],
    (4, "square co-planar"): ring(4),
    (4, "tetrahedral"): TETRAHEDRON,
    (4, "trigonal pyramidal"): [*ring(3), POLES[0]],
    (5, "pentagonal planar"): ring(5),
    (5, "square pyramidal"): [*ring(4), POLES[0]],
    (5, "trigonal bipyramidal"): [*ring(3), *POLES],
    (6, "hexagonal planar"): ring(6),
    (6, "octahedral"): [*ring(4), *POLES],
    (6, "pentagonal pyramidal"): [*ring(5), POLES[0]],
    (7, "hexagonal pyramidal"): [*ring(6), POLES[0]],
    (7, "pentagonal bipyramidal"): [*ring(5), *POLES],
    (8, "body-centered cubic"): CUBE,
    (8, "hexagonal bipyramidal"): [*ring(6), *POLES],
    (12, "cuboctahedral"): CUBOCTAHEDRON,
}


def test_fingerprint_has_61_places():
    assert N_FEATURES == 61
    assert len(PLACES) == 61 - 24


@pytest.mark.parametrize("n", list(MOTIFS))
def test_random_neighbours_as_in_pymatgen(n):
    generator = np.random.default_rng(n)
    for _ in range(3):
        vectors = generator.normal(size=(n, 3)) * 2
        np.testing.assert_allclose(ours(vectors)[0], pymatgens(vectors), atol=SUMS, rtol=0)


@pytest.mark.parametrize(("number", "name"), PERFECT)
def test_perfect_polyhedra(number, name):
    """They are recognised, and their angles at thresholds and in one line are treated as in pymatgen."""
    generator = np.random.default_rng(number)
    vectors = 2.1 * np.array(PERFECT[number, name]) @ rotation(generator)
    values, _ = ours(vectors)
    assert values[MOTIFS[number].index(name)] == pytest.approx(1.0, abs=2e-3)
    np.testing.assert_allclose(values, pymatgens(vectors), atol=ANGLES, rtol=0)
    distorted = vectors + generator.normal(0, 1e-9, vectors.shape)  # azimuths of what is nearly in one line
    np.testing.assert_allclose(ours(distorted)[0], pymatgens(distorted), atol=ANGLES, rtol=0)


def test_thresholds_are_those_of_pymatgen():
    """Neighbours at exactly 135° or 75° from one another, where a step function decides."""
    for degrees in (75.0, 90.0, 105.0, 135.0, 150.0, 160.0):
        angle = math.radians(degrees)
        tilted = [math.sin(angle), 0.0, math.cos(angle)]
        for n in (4, 5, 6, 8, 12):
            vectors = np.array([*POLES[:1], tilted, *np.random.default_rng(n).normal(size=(n - 2, 3))])
            np.testing.assert_allclose(ours(vectors)[0], pymatgens(vectors), atol=ANGLES, rtol=0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_rotation_and_scale_change_nothing(seed, n):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(n, 3))
    np.testing.assert_allclose(ours(vectors)[0], ours(3.0 * vectors @ rotation(generator))[0], atol=1e-6)


def test_order_of_equal_neighbours_matters_in_a_distorted_cube_only():
    equal = np.ones(12)
    assert ours(np.array(CUBE), equal)[1]
    twisted = np.array(CUBE) + 0.2 * np.random.default_rng(2).normal(size=(8, 3))
    assert abs(ours(twisted)[0][0] - ours(twisted[::-1])[0][0]) > 1e-6
    assert not ours(twisted, equal)[1]
    assert ours(twisted)[1]


def test_nothing_near_is_zero():
    values, certain = order_parameters(np.ones((2, 12, 3)), np.zeros((2, 12)), np.zeros((2, 25)))
    assert not values.any()
    assert certain.all()
