"""Crossing the border to pymatgen and back changes nothing."""

import numpy as np
import pytest
from pymatgen.core import DummySpecies, Lattice, Structure

from xtalgen.crystals import Crystal
from xtalgen.structure.lattice import wrap
from xtalgen.structure.pymatgen import from_structure, reduced_formula, to_structure


def test_there_and_back():
    rng = np.random.default_rng(0)
    crystal = Crystal(
        "x", "ok", rng.random((3, 3)) + 3 * np.eye(3), rng.random((4, 3)), np.array([1, 8, 57, 94], np.uint8)
    )
    again = from_structure(to_structure(crystal), "x", spg_num=1)
    np.testing.assert_array_equal(again.lattice, crystal.lattice)
    np.testing.assert_array_equal(again.frac_coords, crystal.frac_coords)
    np.testing.assert_array_equal(again.atomic_numbers, crystal.atomic_numbers)
    assert again.info == {"spg_num": 1}


def test_coordinates_are_wrapped_below_one():
    found = wrap(np.array([[1.0, -0.25, -1e-20]]))
    np.testing.assert_array_equal(found, [[0.0, 0.75, 0.0]])


def test_what_is_no_element_is_refused():
    cell = Lattice.cubic(4)
    with pytest.raises(ValueError, match="no element has atomic number 0"):
        to_structure(Crystal("x", "ok", np.eye(3), np.zeros((1, 3)), np.array([0], np.uint8)))
    with pytest.raises(ValueError, match="is no element"):
        from_structure(Structure(cell, [DummySpecies("X")], [[0, 0, 0]]), "x")
    with pytest.raises(ValueError, match="partly occupied"):
        from_structure(Structure(cell, [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]), "x")


def test_reduced_formula():
    assert reduced_formula(np.array([8, 26, 8, 26, 8, 8, 26, 8, 8, 26], dtype=np.uint8)) == "Fe2O3"
