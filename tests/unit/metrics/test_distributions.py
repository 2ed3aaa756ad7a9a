import numpy as np
import pytest
from pymatgen.core import Structure

from crystal_cases import library, one_atom, rock_salt
from xtalgen.metrics.distributions import density, num_elems, wasserstein

OPTIONS = {"seed": 0, "resamples": 50}


def test_density_equals_pymatgen():
    for crystal in library()[:60]:
        known = float(Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords).density)
        assert density(crystal) == pytest.approx(known, rel=1e-6)


def test_known_values():
    assert density(rock_salt()) == pytest.approx(2.165, abs=0.01)  # g/cm³, halite
    assert num_elems(rock_salt()) == 2
    assert num_elems(one_atom()) == 1


def test_distance_to_itself_is_zero():
    values = np.random.default_rng(0).random(300)
    found = wasserstein(values, values, at_most=1000).estimate(**OPTIONS)
    assert (found.value, found.low, found.n) == (0.0, 0.0, 300)


def test_distance_of_a_shift_is_the_shift():
    values = np.random.default_rng(0).random(300)
    found = wasserstein(values + 1.5, values, at_most=1000).estimate(**OPTIONS)
    assert found.value == pytest.approx(1.5)
    assert found.low < 1.5 < found.high


def test_subset_is_seeded_and_counted():
    values, references = np.random.default_rng(0).random(3000), np.random.default_rng(1).random(500)
    first, again = (wasserstein(values, references, at_most=1000).estimate(**OPTIONS) for _ in range(2))
    assert first == again
    assert first.n == 1000


def test_nothing_gives_null_with_a_reason():
    some, none = np.ones(3), np.empty(0)
    assert wasserstein(none, some, at_most=10).estimate(**OPTIONS).reason == "no valid crystal"
    assert wasserstein(some, none, at_most=10).value is None
