"""The shipped potential: small, pinned, not pickled, near its teacher, repulsive where atoms touch."""

import json

import numpy as np
import pytest
from ase.build import bulk

from xtalgen.crystals import Crystal
from xtalgen.potentials import mace, registry
from xtalgen.potentials.mace import WEIGHTS
from xtalgen.potentials.types import PotentialError
from xtalgen.relaxation.in_flight import RelaxConfig, relax_crystals

FILE = WEIGHTS / "mace-small.safetensors"
CARD = json.loads(FILE.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def small():
    return registry.load("mace-small")


def test_it_is_small_pinned_and_says_where_it_comes_from(small):
    identity = small.identity
    assert identity.file.stat().st_size <= 3e6
    assert identity.sha256 == registry.POTENTIALS["mace-small"].sha256 == CARD["model_sha256"]
    assert (identity.family, identity.dtype, identity.scale, identity.licence) == (
        "mace",
        "float64",
        "corrected",
        "MIT",
    )
    facts = registry.read_metadata(identity)
    assert facts["teacher"] == "chgnet"
    assert facts["teacher_sha256"] == registry.identify("chgnet").sha256
    assert small.cutoff == 5.5


def test_other_bytes_under_its_name_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "mace-small.safetensors"
    file.write_bytes(FILE.read_bytes()[:-1] + b"\0")
    monkeypatch.setattr(mace, "WEIGHTS", tmp_path)
    with pytest.raises(PotentialError, match=r"'mace-small': .*the configuration wants"):
        registry.identify("mace-small")


@pytest.mark.parametrize(
    ("formula", "structure", "a"), [("MgO", "rocksalt", 4.26), ("NaCl", "rocksalt", 5.69), ("Si", "diamond", 5.46)]
)
def test_energies_are_near_those_of_the_teacher(small, formula, structure, a):
    found = []
    for potential in (small, registry.load("chgnet")):
        atoms = bulk(formula, structure, a=a)
        atoms.calc = potential.calculator
        found.append(atoms.get_potential_energy() / len(atoms))
    assert found[0] == pytest.approx(found[1], abs=0.2)


def test_forces_are_the_derivative_of_the_energy(small):
    atoms = bulk("MgO", "rocksalt", a=4.2) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    atoms.calc = small.calculator
    force, energies = atoms.get_forces()[0, 0], []
    for step in (1e-4, -1e-4):
        displaced = atoms.copy()
        displaced.positions[0, 0] += step
        displaced.calc = small.calculator
        energies.append(displaced.get_potential_energy())
    assert force == pytest.approx((energies[1] - energies[0]) / 2e-4, abs=1e-6)


@pytest.mark.parametrize("pair", [(8, 8), (12, 8), (26, 26), (1, 1), (55, 17)])
def test_atoms_that_touch_push_each_other_away(small, pair):
    energies = []
    for distance in (0.9, 0.7, 0.5):
        places = np.array([[0.0, 0, 0], [distance / 6, 0, 0]])
        crystal = Crystal("x", "ok", np.eye(3) * 6.0, places, np.array(pair, dtype=np.uint8))
        (found,) = relax_crystals([crystal], small, RelaxConfig(0.0, 0, None))
        energies.append(found.energy)
    assert energies[0] < energies[1] < energies[2]


def test_strained_salt_relaxes(small):
    atoms = bulk("NaCl", "rocksalt", a=5.4)
    crystal = Crystal(
        "x", "ok", np.array(atoms.cell.array), atoms.get_scaled_positions(), atoms.numbers.astype(np.uint8)
    )
    (found,) = relax_crystals([crystal], small, RelaxConfig(0.05, 100, None))
    assert found.converged
    assert (4 * abs(np.linalg.det(np.array(found.lattice)))) ** (1 / 3) == pytest.approx(5.69, abs=0.25)


def test_card_says_whether_it_meets_its_bar():
    errors = CARD["given"]["e_form_mae"], CARD["relaxed"]["e_form_mae"]
    assert CARD["meets_bar"] == (max(errors) <= CARD["bar"] == 50.0)
