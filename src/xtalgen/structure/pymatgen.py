"""The border to pymatgen: crystals as structures and back."""

from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from xtalgen.crystals import MAX_ATOMIC_NUMBER, Crystal


def to_structure(crystal: Crystal) -> Structure:
    """Returns the pymatgen structure of a crystal that is "ok". Raises ValueError on an unknown atomic number."""
    numbers: list[Any] = [int(number) for number in crystal.atomic_numbers]  # pymatgen takes them; its types do not
    unknown = [number for number in numbers if not 1 <= number <= MAX_ATOMIC_NUMBER]
    if unknown:
        raise ValueError(f"{crystal.id}: no element has atomic number {unknown[0]}")
    return Structure(Lattice(crystal.lattice), numbers, crystal.frac_coords)


def from_structure(structure: Structure, identifier: str, **info: Any) -> Crystal:
    """Returns the crystal of an ordered pymatgen structure. Raises ValueError on part occupancy and dummies."""
    if not structure.is_ordered:
        raise ValueError(f"{identifier}: sites are partly occupied; give an ordered structure")
    dummies = [site.species_string for site in structure if not 1 <= site.specie.Z <= MAX_ATOMIC_NUMBER]
    if dummies:
        raise ValueError(f"{identifier}: {dummies[0]!r} is no element")
    return Crystal(
        id=identifier,
        lattice=np.array(structure.lattice.matrix),
        frac_coords=wrap(np.array(structure.frac_coords)),
        atomic_numbers=np.array([site.specie.Z for site in structure], dtype=np.uint8),
        info=info,
    )


def wrap(frac_coords: np.ndarray) -> np.ndarray:
    """Returns fractional coordinates in [0, 1); values that round up to 1.0 become 0.0."""
    wrapped = frac_coords % 1.0
    return np.where(wrapped >= 1.0, 0.0, wrapped)
