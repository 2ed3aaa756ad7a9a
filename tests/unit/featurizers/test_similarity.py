"""The nearest known crystal: composition first, then structure."""

import numpy as np
import pytest
from ase.build import bulk

from xtalgen.crystals import Crystal
from xtalgen.featurizers.similarity import nearest_known
from xtalgen.structure.lattice import wrap


def cell(identifier, formula, structure, a):
    atoms = bulk(formula, structure, a=a)
    places = wrap(atoms.get_scaled_positions())
    return Crystal(identifier, "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8))


KNOWN = [
    cell("MgO-salt", "MgO", "rocksalt", 4.2),
    cell("MgO-blende", "MgO", "zincblende", 4.6),
    cell("NaCl-salt", "NaCl", "rocksalt", 5.6),
    cell("Si", "Si", "diamond", 5.4),
]


def test_same_composition_and_structure_is_at_distance_zero():
    (found,) = nearest_known([cell("new", "MgO", "rocksalt", 4.2)], KNOWN)
    assert (found.id, found.composition) == ("MgO-salt", 0.0)
    assert found.structure == pytest.approx(0.0, abs=1e-6)


def test_structure_decides_among_equal_compositions():
    found = nearest_known([cell("a", "MgO", "zincblende", 4.7), cell("b", "MgS", "zincblende", 5.6)], KNOWN)
    assert [one.id for one in found] == ["MgO-blende", "MgO-blende"]
    assert [one.composition for one in found] == [0.0, 0.5]
    assert found[0].structure < 0.05


def test_no_common_element_is_at_distance_one():
    (found,) = nearest_known([cell("new", "GaAs", "zincblende", 5.7)], KNOWN)
    assert (found.id, found.composition) == ("Si", 1.0)  # tetrahedral too


def test_nothing_known_and_nothing_asked():
    assert nearest_known([KNOWN[0]], []) == [None]
    assert nearest_known([], KNOWN) == []


def test_a_crystal_without_a_fingerprint_still_has_a_nearest_composition():
    thin = Crystal("thin", "ok", np.diag([1e-3, 30.0, 30.0]), np.zeros((1, 3)), np.array([14], dtype=np.uint8))
    (found,) = nearest_known([thin], KNOWN)
    assert (found.id, found.composition, found.structure) == ("Si", 0.0, None)
