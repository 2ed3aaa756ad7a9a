"""Conversion to and from pymatgen structures."""

import functools
from collections import Counter
from typing import Any

import numpy as np
from pymatgen.core import Composition, Element, Lattice, Structure

from xtalgen.crystals import MAX_ATOMIC_NUMBER, Crystal
from xtalgen.structure.lattice import wrap


def to_structure(crystal: Crystal) -> Structure:
    """Returns the pymatgen structure of a crystal that is "ok". Raises ValueError on an unknown atomic number."""
    numbers = [int(number) for number in crystal.atomic_numbers]
    unknown = [number for number in numbers if not 1 <= number <= MAX_ATOMIC_NUMBER]
    if unknown:
        raise ValueError(f"{crystal.id}: no element has atomic number {unknown[0]}")
    return Structure(Lattice(crystal.lattice), numbers, crystal.frac_coords)


def from_structure(structure: Structure, identifier: str, **info: Any) -> Crystal:
    """Returns the crystal of an ordered pymatgen structure. Raises ValueError on disorder and unknown elements."""
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


def reduced_formula(atomic_numbers: np.ndarray) -> str:
    """Returns the reduced formula, such as "Fe2O3", elements in the order of pymatgen."""
    return _formula(tuple(sorted(Counter(atomic_numbers.tolist()).items())))


@functools.lru_cache(maxsize=100_000)
def _formula(counts: tuple[tuple[int, int], ...]) -> str:
    return Composition({Element.from_Z(number): count for number, count in counts}).reduced_formula
