"""Distorted crystals as training data of potentials: rattled, strained, and with two atoms pressed together."""

from dataclasses import replace

import numpy as np
from ase.geometry import find_mic

from xtalgen.crystals import Crystal
from xtalgen.structure.lattice import wrap

RATTLE = (0.02, 0.25)  # Å, standard deviation of each coordinate, drawn evenly
STRAIN = 0.03  # standard deviation of each component of a symmetric strain
VOLUME = (0.82, 1.22)  # volume after / before, drawn evenly on top of the strain
CLOSE = (0.55, 0.85)  # shortest distance after / before, of the one pair that is pressed together


def rattled(crystal: Crystal, generator: np.random.Generator) -> Crystal:
    """Returns the crystal with every atom displaced by a normal deviate, in the given cell."""
    size = generator.uniform(*RATTLE)
    moved = generator.normal(scale=size, size=(crystal.n_atoms, 3))
    return replace(crystal, frac_coords=wrap(crystal.frac_coords + moved @ np.linalg.inv(crystal.lattice)))


def strained(crystal: Crystal, generator: np.random.Generator) -> Crystal:
    """Returns the crystal in a strained cell of another volume, with the given fractional coordinates."""
    strain = generator.normal(scale=STRAIN, size=(3, 3))
    strain = (strain + strain.T) / 2
    strain += np.eye(3) * (generator.uniform(*VOLUME) ** (1 / 3) - 1 - np.trace(strain) / 3)
    return replace(crystal, lattice=crystal.lattice @ (np.eye(3) + strain))


def shaken(crystal: Crystal, generator: np.random.Generator) -> Crystal:
    """Returns the crystal strained and rattled."""
    return rattled(strained(crystal, generator), generator)


def pressed(crystal: Crystal, generator: np.random.Generator) -> Crystal:
    """Returns the crystal with one atom moved towards its nearest neighbour.

    A crystal of one atom is compressed to 0.45 to 0.8 of its volume instead.
    """
    if crystal.n_atoms == 1:
        return replace(crystal, lattice=crystal.lattice * generator.uniform(0.45, 0.8) ** (1 / 3))
    atom = int(generator.integers(crystal.n_atoms))
    others = np.delete(np.arange(crystal.n_atoms), atom)
    away = (crystal.frac_coords[others] - crystal.frac_coords[atom]) @ crystal.lattice
    vectors, lengths = find_mic(away, crystal.lattice, pbc=True)
    step = (1 - generator.uniform(*CLOSE)) * vectors[int(np.argmin(lengths))]
    places = crystal.frac_coords.copy()
    places[atom] += step @ np.linalg.inv(crystal.lattice)
    return replace(crystal, frac_coords=wrap(places))


KINDS = {"rattled": rattled, "strained": strained, "shaken": shaken, "pressed": pressed}
