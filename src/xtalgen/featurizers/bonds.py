"""Bonds of a crystal for CDVAE's encoder.

Neighbours are those of CrystalNN by geometry alone, that is Voronoi cells and the solid angles of their faces (Pan et
al. 2021), with CDVAE's settings: no distance cut-off, no weight for electronegativity, no correction for pores.
"""

import itertools
import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.featurizers.crystal_nn import likelihoods
from xtalgen.featurizers.voronoi import CUTOFF, OPEN, TooThinError, cells, surroundings

COLUMNS = {"bonds": pa.list_(pa.int16()), "bonds_source": pa.string()}
NEIGHBOURS = 20  # neighbours of each atom in the fallback
SAME_PLACE = 1e-2  # Å: atoms closer than this are identical in the fallback
CHUNK = 16  # crystals per task of a worker

log = logging.getLogger(__name__)


def bonds_of_chunk(crystals: Sequence[Crystal]) -> list[tuple[list[int], str]]:
    """Returns bonds and their source for each crystal: the task of a worker process."""
    return [bonds_of(crystal) for crystal in crystals]


def bonds_of(crystal: Crystal) -> tuple[list[int], str]:
    """Returns the integers of the column `bonds`, and their source: "crystal_nn" or "radius"."""
    try:
        bonds = crystal_nn_bonds(crystal.lattice, crystal.frac_coords)
    except (ValueError, RuntimeError, MemoryError):
        return radius_fallback(crystal)
    return [number for bond in bonds for number in bond], "crystal_nn"


def crystal_nn_bonds(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "atoms 3"]
) -> list[tuple[int, int, int, int, int]]:
    """Returns the bonds (i, j, a, b, c) that pymatgen's StructureGraph holds with CrystalNN, sorted.

    The weight of a face of an atom's Voronoi cell is its solid angle over the largest one's, to three decimals. The
    neighbours of an atom are the faces of largest weight, as many as its most likely coordination number (see
    `crystal_nn.likelihoods`). i and j are bonded when either has the other as a neighbour. Raises RuntimeError when a
    cell is open, and what `cells` raises.
    """
    found = cells(lattice, frac_coords)
    if (found.states == OPEN).any():
        raise RuntimeError(f"the Voronoi cell of atom {int(np.argmax(found.states == OPEN))} is open")
    bonds = set()
    for i, (first, last) in enumerate(itertools.pairwise(found.starts)):
        weights = found.angles[first:last] / found.angles[first:last].max()
        order = np.argsort(-weights, kind="stable")
        number = int(np.argmax(likelihoods(weights[order])))
        for face in first + order[:number]:
            bonds.add(_canonical(i, int(found.numbers[face]), found.images[face]))
    return sorted(bonds)


def radius_bonds(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "atoms 3"]
) -> list[tuple[int, int, int, int, int]]:
    """Returns as bonds the 20 nearest atoms within 7 Å of every atom, sorted. Raises TooThinError as `cells` does."""
    bonds = set()
    for i in range(len(frac_coords)):
        vectors, numbers, images = surroundings(lattice, frac_coords, i, CUTOFF)
        near = np.flatnonzero(np.linalg.norm(vectors, axis=1) > SAME_PLACE)[:NEIGHBOURS]
        bonds |= {_canonical(i, int(numbers[k]), images[k]) for k in near}
    return sorted(bonds)


def _canonical(i: int, j: int, cell: np.ndarray) -> tuple[int, int, int, int, int]:
    """Returns a bond in canonical form: i ≤ j; for a bond of an atom to its own image, the larger of both shifts."""
    shift = (int(cell[0]), int(cell[1]), int(cell[2]))
    if j < i or (i == j and shift < (0, 0, 0)):
        i, j, shift = j, i, (-shift[0], -shift[1], -shift[2])
    return i, j, *shift


def radius_fallback(crystal: Crystal) -> tuple[list[int], str]:
    """Returns bonds by distance alone: `radius_bonds`, or no bonds where the lattice is too thin to list them."""
    try:
        bonds = radius_bonds(crystal.lattice, crystal.frac_coords)
    except TooThinError:
        bonds = []
    return [number for bond in bonds for number in bond], "radius"
