import itertools

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher

from crystal_cases import library, rock_salt
from tolerances import SUMS
from xtalgen.crystals import Crystal
from xtalgen.structure.matcher import rms_distance
from xtalgen.structure.pymatgen import to_structure


def prediction(crystal, identifier, shift=0.0):
    coordinates = crystal.frac_coords.copy()
    coordinates[-1] += shift
    return Crystal(identifier, "ok", crystal.lattice, coordinates % 1.0, crystal.atomic_numbers)


def test_distance_equals_pymatgen():
    crystal = rock_salt()
    shifted = prediction(crystal, "p", 0.05)
    matcher = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)
    known = matcher.get_rms_dist(to_structure(shifted), to_structure(crystal))[0]
    pair = [(item.lattice, item.frac_coords, item.atomic_numbers) for item in (shifted, crystal)]
    assert rms_distance(tuple(pair)) == pytest.approx(known)
    assert known > 0.01


def test_distances_of_many_pairs_equal_pymatgen():
    """Noisy copies, and other crystals of the same formula or not: reduced once for all pairs, same distances."""
    crystals = [crystal for crystal in library(8)[::6] if crystal.n_atoms <= 6]
    pairs = [(prediction(crystal, "p", scale), crystal) for crystal in crystals for scale in (0.02, 0.15)]
    pairs += list(itertools.pairwise(crystals))
    matcher = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)
    matched = 0
    for pair in pairs:
        known = matcher.get_rms_dist(*(to_structure(item) for item in pair))
        found = rms_distance(tuple((item.lattice, item.frac_coords, item.atomic_numbers) for item in pair))
        assert (found is None) == (known is None)
        if known is not None:
            assert found == pytest.approx(known[0], abs=SUMS)
            matched += 1
    assert len(pairs) > 40
    assert 10 < matched < len(pairs)
