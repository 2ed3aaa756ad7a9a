"""Batches in flight: FIRE step by step as ASE's, the same outcomes as one by one, culprits and memory."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from toy_potential import crystal_of, potential_of, save_tiny_mace
from xtalgen.potentials import registry
from xtalgen.potentials.batch import one_by_one
from xtalgen.relaxation.fire import Motion, max_forces
from xtalgen.relaxation.in_flight import RelaxConfig, cost, relax_crystals

USUAL = RelaxConfig(fmax=0.05, max_steps=200, timeout=None)


def strained(seed, repeat=(1, 1, 1)):
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * repeat
    atoms.numbers[0] = 47
    strain = np.eye(3) + 0.03 * np.random.default_rng(seed).normal(size=(3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.rattle(0.08, seed=seed)
    return atoms


ATOMS = [strained(1), strained(2, (2, 1, 1)), strained(3), strained(4, (1, 2, 1))]
CRYSTALS = [replace(crystal_of(atoms), id=str(place)) for place, atoms in enumerate(ATOMS)]


def test_every_step_is_that_of_ase():
    motion, evaluate = Motion.of(CRYSTALS), one_by_one(EMT())
    energies, forces = [], []
    for _ in range(40):
        geometry = motion.geometry()
        found = evaluate(geometry)
        energies.append(found.energy)
        forces.append(max_forces(geometry, found))
        motion.step(found)
    for place, crystal in enumerate(CRYSTALS):
        atoms = Atoms(crystal.atomic_numbers, scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)
        atoms.calc = EMT()
        expected = []
        for _ in FIRE(FrechetCellFilter(atoms), logfile=None).irun(fmax=0.0, steps=39):
            virial = atoms.get_volume() * atoms.get_stress(voigt=False) / len(atoms)
            largest = np.linalg.norm(np.vstack([atoms.get_forces(), virial]), axis=1).max()
            expected.append((atoms.get_potential_energy(), largest))
        np.testing.assert_allclose([row[place] for row in energies], [row[0] for row in expected], atol=1e-11)
        np.testing.assert_allclose([row[place] for row in forces], [row[1] for row in expected], atol=1e-9)


def test_crystals_leave_and_join_without_disturbing_each_other():
    alone = relax_crystals(CRYSTALS, potential_of(EMT()), USUAL)
    heard = []

    def hear(place, outcome):
        heard.append((place, outcome))

    for capacity in (1.0, 100.0):
        together = relax_crystals(
            CRYSTALS,
            potential_of(EMT(), capacity),
            USUAL,
            finished=lambda place, outcome: heard.append((place, outcome)),
        )
        for a, b in zip(alone, together, strict=True):
            assert a.converged
            assert (a.status, a.n_steps) == (b.status, b.n_steps)
            assert b.energy == pytest.approx(a.energy, abs=1e-9)
            np.testing.assert_allclose(b.lattice, a.lattice, atol=1e-7)
        assert sorted(place for place, _ in heard) == [0, 1, 2, 3]
        assert all(together[place] is outcome for place, outcome in heard)
        heard.clear()
    assert len({outcome.n_steps for outcome in alone}) > 1, "they have to leave at different times"


class Picky:
    """A batched potential that counts its calls, and fails where it is told to."""

    def __init__(self, fails):
        self.fails, self.sizes, self.inner = fails, [], one_by_one(EMT())

    def __call__(self, geometry):
        self.sizes.append(len(geometry.n_atoms))
        self.fails(geometry)
        return self.inner(geometry)


def picky(fails):
    return replace(potential_of(EMT(), 100.0), batched=Picky(fails))


def test_only_the_culprit_fails():
    def fails(geometry):
        if 8 in geometry.n_atoms and geometry.lattices[geometry.n_atoms == 8][0, 0, 0] > 7:
            raise ValueError("no such luck")

    found = relax_crystals(CRYSTALS, picky(fails), USUAL)
    assert [outcome.status for outcome in found] == ["ok", "potential_failure", "ok", "ok"]
    assert found[1].relax_error == "ValueError: no such luck"


def test_too_little_memory_halves_the_batch_until_it_fits():
    def fails(geometry):
        if len(geometry.n_atoms) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    potential = picky(fails)
    found = relax_crystals(CRYSTALS, potential, USUAL)
    assert [outcome.status for outcome in found] == ["ok"] * 4
    assert max(potential.batched.sizes[1:]) <= 2


def test_one_crystal_that_does_not_fit_has_a_status():
    def fails(geometry):
        if geometry.n_atoms.max() > 4:
            raise MemoryError

    found = relax_crystals(CRYSTALS, picky(fails), USUAL)
    assert [outcome.status for outcome in found] == ["ok", "out_of_memory", "ok", "out_of_memory"]


def test_broken_gpu_is_not_blamed_on_the_crystals():
    def fails(_geometry):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match=r"the GPU failed at '0'.*Run again"):
        relax_crystals(CRYSTALS, picky(fails), USUAL)


def test_no_crystals_need_no_evaluation():
    assert relax_crystals([], picky(None), USUAL) == []


def test_capacity_bounds_the_batch():
    potential = picky(lambda _geometry: None)
    relax_crystals(CRYSTALS, replace(potential, capacity=cost(CRYSTALS[0]) * 3.2), USUAL)
    assert max(potential.batched.sizes) == 2


@pytest.mark.parametrize("kind", ["chgnet", "mace"])
def test_many_crystals_in_one_evaluation_give_what_ase_gives(tmp_path, kind):
    potential = registry.load("chgnet" if kind == "chgnet" else str(save_tiny_mace(tmp_path / "tiny.model")))
    cells = [
        bulk("MgO", "rocksalt", a=a) * repeat for a, repeat in ((4.2, (1, 1, 1)), (4.3, (2, 1, 1)), (4.4, (1, 1, 1)))
    ]
    for seed, atoms in enumerate(cells):
        atoms.rattle(0.1, seed=seed)
    geometry = Motion.of([crystal_of(atoms) for atoms in cells]).geometry()
    found = potential.evaluate(geometry)
    tolerance = 1e-4 if kind == "chgnet" else 1e-10
    for place, atoms in enumerate(cells):
        wrapped = Atoms(atoms.numbers, geometry.positions[geometry.slices[place]], cell=atoms.cell, pbc=True)
        wrapped.calc = potential.calculator
        assert found.energy[place] == pytest.approx(wrapped.get_potential_energy(), abs=tolerance)
        np.testing.assert_allclose(found.forces[geometry.slices[place]], wrapped.get_forces(), atol=tolerance)
        np.testing.assert_allclose(found.stress[place], wrapped.get_stress(voigt=False), atol=tolerance)
