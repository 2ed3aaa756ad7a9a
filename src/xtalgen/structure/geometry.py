"""Geometry of single crystals: whether a cell can be worked with, its volume, distances between atoms."""

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.structure.elements import MAX_VALID_NUMBER

MIN_VOLUME = 0.1  # Å³ per cell; CDVAE (Xie et al. 2022) builds no crystal below it
MIN_VOLUME_PER_ATOM = 1.0  # Å³; atoms overlap in denser cells (diamond has 5.7), whose neighbours fill gigabytes
MIN_DISTANCE = 0.5  # Å between two sites; a crystal with closer ones is structurally invalid (CDVAE)


def usable(crystal: Crystal, max_number: int = MAX_VALID_NUMBER) -> bool:
    """Whether a crystal has a geometry to work with: finite, at least `MIN_VOLUME`, elements up to Z = `max_number`."""
    return 0 < heaviest_element(crystal) <= max_number


def heaviest_element(crystal: Crystal) -> int:
    """Returns the highest atomic number of a crystal; 0 where it has no finite geometry of at least `MIN_VOLUME`.

    Pymatgen would build neither a cell with NaN nor a flat one.
    """
    if crystal.lattice is None or crystal.frac_coords is None or crystal.atomic_numbers is None:
        return 0
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return 0
    numbers = np.asarray(crystal.atomic_numbers)
    fits = crystal.lattice.shape == (3, 3) and crystal.frac_coords.shape == (len(numbers), 3) and len(numbers) > 0
    if not fits or volume(crystal.lattice) < MIN_VOLUME or numbers.min() < 1:
        return 0
    return int(numbers.max())


def volume(lattice: Float[np.ndarray, "3 3"]) -> float:
    """Returns the volume of a cell in Å³."""
    return float(abs(np.linalg.det(lattice)))
