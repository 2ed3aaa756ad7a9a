import csv
import gzip
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Structure

from crystal_cases import diffcsp, library, mp_20, one_atom, rock_salt, with_nan
from xtalgen.crystals import Crystal
from xtalgen.metrics.validity import comp_valid, judge, reduced_counts, struct_valid, usable


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
    found = judge(rows)
    assert found.structure.tolist() == found.composition.tolist() == found.both.tolist() == [False, True, False, False]
    assert np.isnan(found.distance[[0, 2, 3]]).all()
    assert judge([]).both.tolist() == []


def test_failed_fingerprint_makes_a_crystal_invalid():
    found = judge([rock_salt("a"), rock_salt("b")], np.array([True, False]))
    assert found.both.tolist() == [False, True]
    assert found.structure.all()


@pytest.mark.parametrize(
    ("formula", "valid"),
    [("NaCl", True), ("Na2Cl", False), ("Fe", True), ("CuZn", True), ("LiFePO4", True), ("NeXe", False),
     ("HeO", False), ("RfO2", False), ("CuSi64", False), ("Al2O3", True), ("XeF2", True)],
)  # fmt: skip
def test_compositions(formula, valid):
    counts = [(element.Z, int(count)) for element, count in Composition(formula).items()]
    assert comp_valid(counts) is valid


def test_rule_and_tables_of_smact_have_not_drifted():
    # smact 4 with its own default gives another share; so would other tables of oxidation states.
    share = np.mean([comp_valid(reduced_counts(crystal.atomic_numbers)) for crystal in library()])
    assert share == pytest.approx(226 / 250, abs=1e-9)


def test_share_of_mp_20(shared_data):
    with gzip.open(shared_data / "mp_20" / "test.csv.gz", "rt") as file:
        formulas = [row["pretty_formula"] for row in csv.DictReader(file)]
    found = [comp_valid([(e.Z, int(n)) for e, n in Composition(formula).items()]) for formula in formulas]
    assert len(found) == 9046
    assert np.mean(found) == pytest.approx(0.91046, abs=5e-6)


def test_composition_with_too_many_combinations_is_invalid_at_once():
    started = time.perf_counter()
    assert not comp_valid([(number, 1 + number % 3) for number in (*range(22, 31), *range(40, 48), 8, 16)])
    assert time.perf_counter() - started < 5
