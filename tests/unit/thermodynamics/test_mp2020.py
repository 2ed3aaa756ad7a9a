"""MP2020 corrections: the published values, where they go, and what has none."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from ase.build import bulk

from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.stages import evaluate
from xtalgen.structure.lattice import wrap
from xtalgen.thermodynamics import mp2020 as corrections
from xtalgen.thermodynamics.mp2020 import corrected_for_hull, correction


def cell(formula, structure="rocksalt", a=4.3, **info):
    atoms = bulk(formula, structure, a=a)
    places = wrap(atoms.get_scaled_positions())
    return Crystal(formula, "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8), info)


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


def test_energies_for_the_hull_stand_beside_those_of_the_potential():
    sample = [cell("MgO"), cell("NaCl"), Crystal("broken", "unparsable"), cell("FeO")]
    relaxed = [replace(row, info={"energy": -1.0, "e_initial": -0.5}) for row in sample]
    relaxed[3] = replace(relaxed[3], info={"energy": None, "e_initial": None})
    found = corrected_for_hull(relaxed, sample, workers=1, timeout=60.0)
    assert [row.info["hull_energy"] for row in found] == [pytest.approx(-1.687), pytest.approx(-1.614), None, None]
    assert [row.info["hull_e_initial"] for row in found] == [pytest.approx(-1.187), pytest.approx(-1.114), None, None]
    assert [row.info["energy"] for row in found] == [-1.0, -1.0, -1.0, None]


def test_crystal_without_a_correction_has_no_energy_for_the_hull(monkeypatch):
    monkeypatch.setattr(corrections, "map_items", lambda _function, items, **_: _fail(items))
    sample = [cell("MgO", energy=-1.0)]
    assert corrected_for_hull(sample, sample, workers=1, timeout=1.0)[0].info["hull_energy"] is None


def _fail(items):
    return [corrections.Failure("error", "CorrectionError: unknown") for _ in items]


@pytest.mark.parametrize(("said", "wanted"), [("raw", -1.687), ("corrected", None)])
def test_only_raw_energies_are_corrected_and_only_for_that_hull(tmp_path, said, wanted):
    row = cell("MgO", energy=-1.0, e_initial=-1.0)
    for energies in ("mp2020", "consistent"):
        hull = tmp_path / f"{energies}.parquet"
        crystals.write_table(
            crystals.to_table([row], {"energy": pa.float64()}), hull, energies=energies, energy_scale=said
        )
        facts = {"relaxed": {}, "hull": crystals.read_facts(hull)}
        expected = wanted if energies == "mp2020" else None
        assert evaluate._hull_has_corrections(facts) == (expected is not None)
    (found,) = corrected_for_hull([row], [row], workers=1, timeout=60.0)
    assert wanted is None or found.info["hull_energy"] == pytest.approx(wanted)
