import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from xtalgen.metrics.coverage import Cutoffs, coverage, cutoffs, minima


@given(st.integers(0, 10**6), st.integers(1, 1200), st.integers(1, 40), st.integers(1, 70))
def test_minima_equal_the_distance_matrix(seed, n, m, width):
    generator = np.random.default_rng(seed)
    a, b = generator.normal(size=(n, width)) + 100, generator.normal(size=(m, width)) + 100
    known = cdist(a, b)
    found = minima(a, b)
    np.testing.assert_allclose(found[0], known.min(axis=1), atol=1e-5)
    np.testing.assert_allclose(found[1], known.min(axis=0), atol=1e-5)


def test_a_set_covers_itself():
    generator = np.random.default_rng(0)
    prints = generator.random((700, 61)), generator.normal(size=(700, 132))
    found = coverage(prints, prints, Cutoffs(1e-5, 1e-5))
    assert found.references.all()
    assert found.generated.all()


def test_minima_of_structure_and_composition_are_independent():
    # Neither generated crystal is like the reference in both, but one is in structure and the other in composition.
    generated = np.array([[0.0], [9.0]]), np.array([[99.0], [0.0]])
    reference = np.array([[0.0]]), np.array([[0.0]])
    found = coverage(generated, reference, Cutoffs(0.4, 10.0))
    assert found.references.tolist() == [True]
    assert found.generated.tolist() == [False, False]


def test_cutoff_is_inclusive():
    one = np.array([[0.0]])
    assert coverage((one + 0.5, one + 8.0), (one, one), Cutoffs(0.5, 8.0)).references.all()
    assert not coverage((one + 0.5, one + 8.0), (one, one), Cutoffs(0.49, 8.0)).references.any()


def test_nothing_covers_nothing():
    none, some = (np.empty((0, 3)), np.empty((0, 2))), (np.zeros((4, 3)), np.zeros((4, 2)))
    assert coverage(none, some, Cutoffs()).references.tolist() == [False] * 4
    assert coverage(some, none, Cutoffs()).generated.tolist() == [False] * 4


@pytest.mark.parametrize(
    ("name", "known"), [("mp_20", (0.4, 10)), ("perov_5", (0.2, 4)), ("carbon_24", (0.2, 4)), ("mine", (0.4, 10))]
)
def test_cutoffs_of_cdvae(name, known):
    assert (cutoffs(name).structure, cutoffs(name).composition) == known
