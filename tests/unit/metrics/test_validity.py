import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from crystal_cases import diffcsp, library, mp_20, one_atom, rock_salt, with_nan
from xtalgen.crystals import Crystal
from xtalgen.metrics.compositions import comp_valid
from xtalgen.metrics.validity import ValidityRules, struct_valid
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.geometry import usable
from xtalgen.structure.lattice import lattice_from_parameters

LIBRARY = {"smact_2_2_1": 226, "smact14": 226, "icsd24": 229}


def by_pymatgen(crystal):
    distances = Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords).distance_matrix
    return distances[np.triu_indices(len(distances), k=1)].min(initial=np.inf)


def check_against_pymatgen(crystals):
    valid, distances = struct_valid(crystals)
    known = np.array([by_pymatgen(crystal) for crystal in crystals])
    several = np.isfinite(known)
    assert np.array_equal(several, np.isfinite(distances))
    np.testing.assert_allclose(distances[several], known[several], atol=1e-6)
    assert np.array_equal(valid, known >= 0.5)


def test_distances_of_the_library_equal_pymatgen():
    check_against_pymatgen(library())


def test_distances_of_real_crystals_equal_pymatgen(shared_data):
    check_against_pymatgen([*mp_20(shared_data, "test", 300), *diffcsp(shared_data, 200)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_distances_in_skewed_cells_equal_pymatgen(seed):
    generator = np.random.default_rng(seed)
    lattice = generator.normal(size=(3, 3)) * generator.uniform(0.5, 12, size=(3, 1))
    n = int(generator.integers(2, 6))
    crystal = Crystal("x", "ok", lattice, generator.random((n, 3)), np.full(n, 6, dtype=np.uint8))
    if usable(crystal):
        check_against_pymatgen([crystal])


@pytest.mark.parametrize(("distance", "valid"), [(0.49, False), (0.51, True), (0.0, False)])
def test_threshold_is_half_an_angstrom_through_the_boundary(distance, valid):
    coordinates = np.array([[0.99, 0, 0], [(0.99 + distance / 5) % 1.0, 0, 0]])
    crystal = Crystal("x", "ok", np.eye(3) * 5, coordinates, np.array([6, 6], dtype=np.uint8))
    assert struct_valid([crystal])[0].tolist() == [valid]


def test_own_images_are_not_tested():
    # CDVAE's rule: a needle of 0.4 Å with one atom is valid, as long as its volume is.
    needle = Crystal("x", "ok", np.diag([0.4, 5.0, 5.0]), np.zeros((1, 3)), np.array([6], dtype=np.uint8))
    flat = Crystal("y", "ok", np.diag([0.4, 0.4, 0.4]), np.zeros((1, 3)), np.array([6], dtype=np.uint8))
    assert struct_valid([needle, flat, one_atom()])[0].tolist() == [True, False, True]


def test_unusable_rows_are_invalid_and_keep_their_place():
    salt = rock_salt()
    heavy = Crystal("x", "ok", salt.lattice, salt.frac_coords, np.array([11, 105], dtype=np.uint8))
    rows = [with_nan(), salt, Crystal("none", "unparsable"), heavy]
    found = ValidityRules().judge(rows)
    assert found.structure.tolist() == found.composition.tolist() == found.both.tolist() == [False, True, False, False]
    assert np.isnan(found.distance[[0, 2, 3]]).all()
    assert ValidityRules().judge([]).both.tolist() == []


def test_failed_fingerprint_makes_a_crystal_invalid():
    found = ValidityRules().judge([rock_salt("a"), rock_salt("b")], np.array([True, False]))
    assert found.both.tolist() == [False, True]
    assert found.structure.all()


def cell(angles, number=11):
    lattice = lattice_from_parameters(np.full(3, 5.0), np.array(angles, dtype=float))
    return Crystal("x", "ok", lattice, np.array([[0.0, 0, 0], [0.5] * 3]), np.array([number, 17], dtype=np.uint8))


def test_guards_of_a_recipe():
    crystals = [cell([90, 90, 90]), cell([45, 90, 90]), cell([90, 90, 131]), cell([90] * 3, number=110)]
    assert ValidityRules().judge(crystals).structure.tolist() == [True, True, True, False]
    flowmm = ValidityRules(angles=(50.0, 130.0)).judge(crystals)
    assert flowmm.structure.tolist() == flowmm.composition.tolist() == [True, False, False, False]
    cdvae = ValidityRules(max_number=118).judge(crystals)
    assert cdvae.structure.tolist() == [True] * 4
    assert cdvae.composition.tolist() == [True, True, True, False]  # SMACT knows no element 110


def test_composition_may_be_judged_without_a_cell():
    rows = [with_nan(), Crystal("none", "unparsable")]
    assert ValidityRules().judge(rows).composition.tolist() == [False, False]
    assert ValidityRules(composition_needs_geometry=False).judge(rows).composition.tolist() == [True, False]


def test_share_of_the_library_has_not_drifted():
    numbers = [crystal.atomic_numbers for crystal in library()]
    shares = {table: np.mean([comp_valid(reduced_counts(each), table) for each in numbers]) for table in LIBRARY}
    assert shares == {name: pytest.approx(count / 250) for name, count in LIBRARY.items()}
