"""What potentials take and give: batches of geometries, predictions, and which potential it was."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Geometry:
    """Crystals one after the other: row vectors (Å), Cartesian positions (Å), atomic numbers, atoms of each crystal."""

    lattices: Float[np.ndarray, "crystals 3 3"]
    positions: Float[np.ndarray, "atoms 3"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    n_atoms: Int[np.ndarray, " crystals"]

    @property
    def owner(self) -> Int[np.ndarray, " atoms"]:
        """The crystal of each atom."""
        return np.repeat(np.arange(len(self.n_atoms)), self.n_atoms)

    @property
    def slices(self) -> list[slice]:
        """The atoms of each crystal."""
        ends = np.cumsum(self.n_atoms).tolist()
        return [slice(end - n, end) for end, n in zip(ends, self.n_atoms.tolist(), strict=True)]


@dataclass(frozen=True)
class Found:
    """What a potential gives: energies (eV per cell), forces (eV/Å), stresses (eV/Å³)."""

    energy: Float[np.ndarray, " crystals"]
    forces: Float[np.ndarray, "atoms 3"]
    stress: Float[np.ndarray, "crystals 3 3"]


class PotentialError(ValueError):
    """A potential cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class Identity:
    """What a potential is: enough to load it and to refuse a mix of two.

    kind: "chgnet" or "mace"; file: its weights; sha256: of that file; version: of the library that runs them; licence:
    of the weights; dtype: "float32" or "float64"; energy_floor: eV/atom below which an energy is a hole of the
    potential, not physics; scale: of its total energies, "raw", "corrected" (see `SCALES`) or None where not known;
    pinned: whether the owner of the configuration named the digest, and so trusts this very file.
    """

    name: str
    kind: str
    file: Path
    sha256: str
    version: str
    licence: str
    dtype: str
    energy_floor: float
    scale: str | None = None
    pinned: bool = False


@dataclass(frozen=True)
class Potential:
    """A loaded potential: the atomic numbers it knows and its cutoff radius in Å.

    calculator: ASE's, for one crystal; evaluate: energies, forces and stresses of many; capacity: how much of
    `relaxation.cost` one evaluation should hold, 0 for one crystal at a time.
    """

    identity: Identity
    calculator: Calculator
    elements: frozenset[int]
    cutoff: float
    evaluate: Callable[[Geometry], Found]
    capacity: float = 0.0
