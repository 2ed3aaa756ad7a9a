"""Potentials made of ASE calculators, and crystals made of ASE atoms, for tests of relaxation."""

from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from xtalgen.crystals import Crystal
from xtalgen.potentials.batch import one_by_one
from xtalgen.potentials.types import Identity, Potential
from xtalgen.structure.lattice import wrap


class Constant(Calculator):
    """Gives one energy whatever the atoms, and no forces."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, energy):
        super().__init__()
        self.energy = energy

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": self.energy, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def potential_of(calculator, capacity=0.0):
    identity = Identity("toy", "mace", Path("toy"), "0" * 64, "toy 1", "MIT", "float64", -20.0)
    known = frozenset(range(1, 95))
    return Potential(identity, calculator, known, 6.0, one_by_one(calculator), features, capacity)


def features(crystal):
    """The share of each element."""
    return np.bincount(crystal.atomic_numbers, minlength=95) / crystal.n_atoms


def crystal_of(atoms, identifier="x", **info):
    return Crystal(
        identifier,
        "ok",
        np.array(atoms.cell.array),
        wrap(atoms.get_scaled_positions()),
        atoms.numbers.astype(np.uint8),
        info,
    )
