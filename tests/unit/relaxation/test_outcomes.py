"""Outcomes of relaxation: known lattice constants, convergence that counts the cell, failures as status."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from toy_potential import Constant, cell, crystal_of, potential_of, save_tiny_mace
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.relaxation import in_flight
from xtalgen.relaxation.in_flight import RelaxConfig, relax_crystals
from xtalgen.structure.lattice import wrap

CAREFUL = RelaxConfig(fmax=0.01, max_steps=300, timeout=None)
USUAL = RelaxConfig(fmax=0.05, max_steps=200, timeout=None)


def relax_crystal(crystal, potential, wanted):
    (outcome,) = relax_crystals([crystal], potential, wanted)
    return outcome


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def emt():
    """Effective medium theory: milliseconds per step, knows Cu, Ag, Au, Ni, Pd, Pt and Al."""
    return potential_of(EMT())


@pytest.fixture(scope="module")
def chgnet():
    return registry.load("chgnet")


@pytest.mark.parametrize(
    ("formula", "structure", "a", "expected"),
    [("MgO", "rocksalt", 4.35, 4.262), ("Si", "diamond", 5.3, 5.464), ("NaCl", "rocksalt", 5.5, 5.69)],
)
def test_strained_crystals_relax_to_chgnets_lattice_constants(chgnet, formula, structure, a, expected):
    outcome = relax_crystal(cell(formula, structure, a, strain=0.03), chgnet, CAREFUL)
    assert outcome.status == "ok"
    assert outcome.converged
    volume = abs(np.linalg.det(np.array(outcome.lattice)))
    assert (4 * volume) ** (1 / 3) == pytest.approx(expected, abs=0.01)
    assert outcome.energy < outcome.e_initial
    lengths = np.linalg.norm(outcome.lattice, axis=1)
    assert np.ptp(lengths) < 0.01


def test_perovskite_relaxes_to_chgnets_lattice_constant(chgnet):
    places = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    strained = Crystal("x", "ok", np.eye(3) * 4.1, places, np.array([38, 22, 8, 8, 8], dtype=np.uint8))
    outcome = relax_crystal(strained, chgnet, CAREFUL)
    assert outcome.converged
    assert np.diag(outcome.lattice) == pytest.approx([3.953] * 3, abs=0.01)
    assert outcome.volume_ratio == pytest.approx((3.953 / 4.1) ** 3, rel=0.01)


def test_strained_cell_with_atoms_on_symmetric_sites_has_not_converged(emt):
    strained = cell(a=3.8)
    assert np.abs(bulk("Cu", "fcc", a=3.8).positions).max() == 0
    outcome = relax_crystal(strained, emt, replace(USUAL, max_steps=0))
    assert outcome.status == "ok"
    assert not outcome.converged
    assert outcome.max_force > 0.05
    assert outcome.n_steps == 0
    assert np.array(outcome.lattice) == pytest.approx(strained.lattice)
    relaxed = relax_crystal(strained, emt, replace(USUAL, fmax=1e-3))
    assert relaxed.n_steps > 0
    assert (4 * abs(np.linalg.det(np.array(relaxed.lattice)))) ** (1 / 3) == pytest.approx(3.59, abs=0.01)


def test_max_force_is_that_of_the_returned_state(emt):
    outcome = relax_crystal(cell(a=3.7, rattle=0.1, repeat=(2, 1, 1)), emt, USUAL)
    assert outcome.converged
    again = Crystal(
        "x", "ok", np.array(outcome.lattice), np.array(outcome.frac_coords), np.array([29, 29], dtype=np.uint8)
    )
    evaluated = relax_crystal(again, emt, replace(USUAL, max_steps=0))
    assert evaluated.converged
    assert evaluated.max_force == pytest.approx(outcome.max_force, rel=1e-3)
    assert evaluated.energy == pytest.approx(outcome.energy, abs=1e-8)


def test_steps_that_do_not_suffice_leave_the_row_ok_but_not_converged(emt):
    outcome = relax_crystal(cell(a=4.2), emt, replace(USUAL, max_steps=2))
    assert (outcome.status, outcome.converged, outcome.n_steps) == ("ok", False, 2)
    assert np.isfinite(outcome.energy)


@given(
    angle=st.floats(0, 6.28),
    shift=st.lists(st.floats(0, 0.99), min_size=3, max_size=3),
    order=st.permutations(range(4)),
    seed=st.integers(0, 5),
)
@settings(max_examples=15, deadline=None)
def test_outcome_does_not_depend_on_orientation_origin_or_order(emt, angle, shift, order, seed):
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", a=3.65, cubic=True)
    atoms.numbers[0] = 47
    atoms.positions += rng.normal(scale=0.1, size=(4, 3))
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    plain = crystal_of(atoms)
    other = Crystal(
        "y",
        "ok",
        plain.lattice @ rotation,
        wrap(plain.frac_coords + np.array(shift))[list(order)],
        plain.atomic_numbers[list(order)],
    )
    a, b = (relax_crystal(crystal, emt, replace(USUAL, max_steps=20)) for crystal in (plain, other))
    assert b.energy == pytest.approx(a.energy, abs=1e-6)
    assert b.rmsd == pytest.approx(a.rmsd, abs=1e-5)
    assert b.volume_ratio == pytest.approx(a.volume_ratio, abs=1e-6)


def test_rmsd_is_the_displacement_by_index_without_drift():
    first = cell("MgO", "rocksalt", 4.2)
    lattice = first.lattice
    drift = first.frac_coords + 0.97  # over the border of the cell
    assert in_flight._rmsd(first, lattice, wrap(drift)) == pytest.approx(0.0, abs=1e-12)
    one_moved = first.frac_coords + np.array([[0.2, 0.0, 0.0], [0.0, 0.0, 0.0]]) @ np.linalg.inv(lattice)
    # 0.2 Å of one atom in two: 0.1 Å each about the mean.
    assert in_flight._rmsd(first, lattice, one_moved) == pytest.approx(0.1)
    assert in_flight._rmsd(first, lattice * 1.1, first.frac_coords) == pytest.approx(0.0, abs=1e-12)


def test_nearest_counts_periodic_images():
    flat = np.diag([0.4, 9.0, 9.0])
    assert in_flight._nearest(flat, np.zeros((1, 3))) == pytest.approx([0.4])
    skewed = np.array([[5.0, 0, 0], [50.1, 5.0, 0], [0, 0, 5.0]])
    assert in_flight._nearest(skewed, np.zeros((1, 3))) == pytest.approx([5.0])
    pair = in_flight._nearest(np.eye(3) * 4, np.array([[0.95, 0, 0], [0.05, 0, 0]]))
    assert pair == pytest.approx([0.4, 0.4])


def bad(**change):
    return replace(cell("MgO", "rocksalt", 4.2), **change)


BAD = {
    "NaN lattice": (bad(lattice=np.full((3, 3), np.nan)), "bad_lattice", "not finite"),
    "NaN place": (bad(frac_coords=np.array([[0, 0, 0], [0.5, np.nan, 0.5]])), "bad_lattice", "not finite"),
    "flat cell": (bad(lattice=np.array([[4.0, 0, 0], [8.0, 0, 0], [0, 0, 4]])), "bad_lattice", "per atom"),
    "denser than matter": (bad(lattice=np.eye(3) * 1.2), "bad_lattice", "per atom"),
    "two atoms in one place": (bad(frac_coords=np.zeros((2, 3))), "too_close", "0.000 Å apart"),
    "too near its own image": (bad(lattice=np.diag([0.4, 20.0, 20.0])), "too_close", "0.400 Å apart"),
    "americium": (bad(atomic_numbers=np.array([95, 8], dtype=np.uint8)), "potential_failure", "atomic number 95"),
    "element 0": (bad(atomic_numbers=np.array([0, 8], dtype=np.uint8)), "potential_failure", "atomic number 0"),
    "element 200": (bad(atomic_numbers=np.array([8, 200], dtype=np.uint8)), "potential_failure", "atomic number 200"),
    "lone atoms": (bad(lattice=np.eye(3) * 40), "potential_failure", "no neighbour within the cutoff of 6 Å"),
    "void": (bad(lattice=np.diag([1e8, 1e8, 3.0])), "bad_lattice", "1.5e+16 Å³ per atom, more than 100000 Å³"),
    "skewed needle": (bad(lattice=np.array([[3.0, 0, 0], [2.99, 0.4, 0], [0, 0, 30.0]])), "too_close", "0.400 Å apart"),
}


@pytest.mark.parametrize("what", BAD)
def test_hopeless_crystals_are_not_started(chgnet, what):
    crystal, status, message = BAD[what]
    outcome = relax_crystal(crystal, chgnet, USUAL)
    assert outcome.status == status
    assert message in outcome.relax_error
    assert outcome.energy is None
    assert outcome.n_steps is None


NEEDLES = {
    "long": np.diag([3.0, 3.0, 2e4]),
    "thin": np.diag([1.2, 1.2, 60.0]),
    "skewed": np.array([[3.0, 0, 0], [3000.1, 3.0, 0], [0, 0, 4.0]]),
    "all edges along one line": np.array([[60.0, 0, 0], [59.5, 1.0, 0], [59.5, 0.3, 1.0]]),
}


@pytest.mark.parametrize("what", NEEDLES)
def test_needles_end_in_time_whatever_the_potential(chgnet, tmp_path_factory, what):
    crystal = bad(lattice=NEEDLES[what])
    mace = registry.load(str(save_tiny_mace(tmp_path_factory.mktemp("mace") / "tiny.model")))
    for potential in (chgnet, mace):
        started = time.monotonic()
        outcome = relax_crystal(crystal, potential, replace(USUAL, max_steps=1))
        assert outcome.status in {"ok", "exploded", "potential_failure", "unphysical_energy", "too_close"}
        assert time.monotonic() - started < 30


def test_compressed_crystal_explodes(emt):
    outcome = relax_crystal(cell(a=2.3), emt, USUAL)
    assert outcome.status == "exploded"
    assert "volume changed by a factor of" in outcome.relax_error
    assert outcome.energy is None
    assert not outcome.converged
    assert np.isfinite(outcome.e_initial)
    assert outcome.n_steps > 0


@pytest.mark.parametrize("energy", [np.nan, -np.inf, -41.0])
def test_unphysical_energies(energy):
    outcome = relax_crystal(cell("MgO", "rocksalt", 4.2), potential_of(Constant(energy)), USUAL)
    assert outcome.status == "unphysical_energy"
    assert outcome.energy is None
    assert json.loads(json.dumps(outcome.e_initial)) in (None, -41.0)


def test_physical_energy_passes():
    outcome = relax_crystal(cell("MgO", "rocksalt", 4.2), potential_of(Constant(-39.0)), USUAL)
    assert (outcome.status, outcome.energy) == ("ok", -39.0)


def test_exception_of_the_potential_is_a_status(emt):
    outcome = relax_crystal(cell("MgO", "rocksalt", 4.2), emt, USUAL)
    assert outcome.status == "potential_failure"
    assert "Mg" in outcome.relax_error


def test_time_limit_between_steps(emt):
    outcome = relax_crystal(cell(a=4.2), emt, replace(USUAL, timeout=0.0))
    assert outcome.status == "timeout"
    assert outcome.n_steps == 0
