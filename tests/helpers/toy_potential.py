"""Potentials made of ASE calculators, and crystals made of ASE atoms, for tests of relaxation."""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from xtalgen.crystals import Crystal
from xtalgen.potentials.types import Found, Identity, Potential
from xtalgen.structure.pymatgen import wrap


class Constant(Calculator):
    """Gives one energy whatever the atoms, and no forces."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, energy):
        super().__init__()
        self.energy = energy

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": self.energy, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def evaluator(calculator):
    """The evaluator of an ASE calculator, one crystal after the other."""

    def evaluate(geometry):
        found = []
        for lattice, atoms in zip(geometry.lattices, geometry.slices, strict=True):
            one = Atoms(geometry.atomic_numbers[atoms], geometry.positions[atoms], cell=lattice, pbc=True)
            one.calc = calculator
            found.append((one.get_potential_energy(), one.get_forces(), one.get_stress(voigt=False)))
        energies, forces, stresses = zip(*found, strict=True)
        return Found(np.array(energies), np.concatenate(forces), np.stack(stresses))

    return evaluate


def potential_of(calculator, capacity=0.0):
    identity = Identity("toy", "mace", Path("toy"), "0" * 64, "toy 1", "MIT", "float64", -20.0)
    return Potential(identity, calculator, frozenset(range(1, 95)), 6.0, evaluator(calculator), capacity)


def crystal_of(atoms, identifier="x", **info):
    return Crystal(
        identifier,
        "ok",
        np.array(atoms.cell.array),
        wrap(atoms.get_scaled_positions()),
        atoms.numbers.astype(np.uint8),
        info,
    )
