"""Geometry of single crystals: volume, and whether it can be analysed."""

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal

MIN_VOLUME = 0.1  # Å³ per cell
MAX_VALID_NUMBER = 104  # as FlowMM counts valid elements


def usable(crystal: Crystal, max_number: int = MAX_VALID_NUMBER) -> bool:
    """Whether a crystal has a geometry to work on: finite, at least 0.1 Å³, elements up to Z = `max_number`.

    pymatgen cannot build a cell that is flat or holds NaN.
    """
    if crystal.lattice is None or crystal.frac_coords is None or crystal.atomic_numbers is None:
        return False
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return False
    numbers = np.asarray(crystal.atomic_numbers)
    fits = crystal.lattice.shape == (3, 3) and crystal.frac_coords.shape == (len(numbers), 3) and len(numbers) > 0
    return bool(fits and volume(crystal.lattice) >= MIN_VOLUME and numbers.min() >= 1 and numbers.max() <= max_number)


def volume(lattice: Float[np.ndarray, "3 3"]) -> float:
    """Returns the volume of a cell in Å³."""
    return float(abs(np.linalg.det(lattice)))
