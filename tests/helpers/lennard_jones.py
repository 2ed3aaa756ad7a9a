"""A potential written by docs/guides/add-a-potential.md: the module and the entry that the guide asks for."""

from pathlib import Path

import numpy as np
from ase.calculators.lj import LennardJones

from xtalgen.potentials.batch import one_by_one
from xtalgen.potentials.types import Potential, PotentialEntry, PotentialFamily

CUTOFF = 6.0  # Å


class LennardJonesFamily(PotentialFamily):
    name = "lennard-jones"
    package = "ase"
    dtypes = ("float64",)

    def find_weights(self, entry):
        return Path(__file__)  # it has no weights: its constants are in this module

    def load(self, identity, device):
        calculator = LennardJones(sigma=2.5, epsilon=0.1, rc=CUTOFF, smooth=True)
        return Potential(
            identity,
            calculator,
            elements=frozenset(range(1, 95)),
            cutoff=CUTOFF,
            batched=one_by_one(calculator),
            features=features,
        )


def features(crystal):
    volume = abs(np.linalg.det(crystal.lattice))
    return np.array([crystal.n_atoms / volume, np.mean(crystal.atomic_numbers)])


ENTRY = PotentialEntry("lennard-jones", LennardJonesFamily(), "MIT", None, weights="lennard_jones.py")
