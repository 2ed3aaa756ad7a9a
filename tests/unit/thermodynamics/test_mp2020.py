"""MP2020 corrections: the published values, and what has none."""

import numpy as np
import pytest
from ase.build import bulk

from xtalgen.crystals import Crystal
from xtalgen.structure.lattice import wrap
from xtalgen.thermodynamics.mp2020 import correction


def cell(formula, structure="rocksalt", a=4.3):
    atoms = bulk(formula, structure, a=a)
    places = wrap(atoms.get_scaled_positions())
    return Crystal(formula, "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8))


# eV per formula unit, Wang et al. 2021, table 1: oxide -0.687 per O, chloride -0.614, sulphide -0.503, fluoride -0.462,
# and of elements with a Hubbard U, in oxides and fluorides only: Fe -2.256, Ni -2.541.
PUBLISHED = {"MgO": -0.687, "NaCl": -0.614, "NiS": -0.503, "FeO": -0.687 - 2.256, "FeF": -0.462 - 2.256}


@pytest.mark.parametrize(("formula", "wanted"), PUBLISHED.items())
def test_published_corrections(formula, wanted):
    assert correction(cell(formula)) == pytest.approx(wanted, abs=1e-9)


def test_elements_and_alloys_have_none():
    assert correction(cell("Si", "diamond", 5.4)) == 0.0
    assert correction(cell("NiAl", "cesiumchloride", 2.9)) == 0.0


def test_kind_of_oxide_is_found_from_the_structure():
    places = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5 + 1.49 / 4.5]])
    peroxide = Crystal("BaO2", "ok", np.eye(3) * 4.5, places, np.array([56, 8, 8], dtype=np.uint8))
    assert correction(peroxide) == pytest.approx(-0.465 * 2, abs=1e-9)
