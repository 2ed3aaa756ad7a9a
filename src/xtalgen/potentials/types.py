"""Types of potentials: batches of geometries, predictions, and the interface of a potential family."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase.calculators.calculator import Calculator
from jaxtyping import Float, Int

from xtalgen.crystals import Crystal

# The scale of a potential's total energies: those of VASP with the Materials Project's settings ("raw"),
# or with that project's MP2020 corrections added ("corrected").
RAW, CORRECTED = "raw", "corrected"
# eV/atom. PBE total energies end near -15 (lanthanides, W); those of r2SCAN lie lower because their core energies do.
PBE_FLOOR, R2SCAN_FLOOR = -20.0, -60.0


@dataclass(frozen=True)
class Geometry:
    """A batch of crystals: row vectors (Å), Cartesian positions (Å), atomic numbers, number of atoms per crystal."""

    lattices: Float[np.ndarray, "crystals 3 3"]
    positions: Float[np.ndarray, "atoms 3"]
    atomic_numbers: Int[np.ndarray, " atoms"]
    n_atoms: Int[np.ndarray, " crystals"]

    @property
    def owner(self) -> Int[np.ndarray, " atoms"]:
        """The index of each atom's crystal."""
        return np.repeat(np.arange(len(self.n_atoms)), self.n_atoms)

    @property
    def slices(self) -> list[slice]:
        """The atoms of each crystal."""
        ends = np.cumsum(self.n_atoms).tolist()
        return [slice(end - n, end) for end, n in zip(ends, self.n_atoms.tolist(), strict=True)]


@dataclass(frozen=True)
class Prediction:
    """The output of a potential: energies (eV per cell), forces (eV/Å), stresses (eV/Å³, positive under tension)."""

    energy: Float[np.ndarray, " crystals"]
    forces: Float[np.ndarray, "atoms 3"]
    stress: Float[np.ndarray, "crystals 3 3"]


class PotentialError(ValueError):
    """A potential cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class Identity:
    """The identity of a potential: enough to load it, and to refuse mixing energies of different potentials.

    family: the potential family that loads it; file: its weights; sha256: of that file; version: of the library that
    runs it; licence: of the weights; dtype: "float32" or "float64"; energy_floor: an energy below this (eV/atom) is an
    artefact of the potential; scale: of its total energies, `RAW`, `CORRECTED` or None where unknown or neither;
    pinned: whether the configuration gives the digest, which states that this very file is trusted.
    """

    name: str
    family: str
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

    calculator: the authors' ASE calculator; batched: energies, forces and stresses of a batch, as the model computes
    them; features: rotation-invariant features of one crystal, averaged over its atoms, shape (n_features,); capacity:
    the summed `relaxation.in_flight.cost` that one evaluation should hold, 0 for one crystal at a time.
    """

    identity: Identity
    calculator: Calculator
    elements: frozenset[int]
    cutoff: float
    batched: Callable[[Geometry], Prediction]
    features: Callable[[Crystal], Float[np.ndarray, " features"]]
    capacity: float = 0.0

    def evaluate(self, geometry: Geometry) -> Prediction:
        """Returns energies, forces and stresses of a batch, with cells of either handedness.

        The model gets the right-handed basis -L of a left-handed cell L. Both span the same lattice and the Cartesian
        axes are unchanged, so energies, forces and stresses are those of the given cell. Without this, a stress that is
        divided by the signed volume a·(b x c), as CHGNet's is, changes its sign.
        """
        sign = np.where(np.linalg.det(geometry.lattices) < 0, -1.0, 1.0)
        right_handed = sign[:, None, None] * geometry.lattices
        return self.batched(Geometry(right_handed, geometry.positions, geometry.atomic_numbers, geometry.n_atoms))


@dataclass(frozen=True)
class PotentialEntry:
    """An entry of the registry: a set of weights that its family can load.

    weights: their file, relative to the folder of the family's weights, where they come with an installed package;
    None where the family fetches them by name. sha256: refused when the file differs; None accepts any content.
    """

    name: str
    family: "PotentialFamily"
    licence: str
    energy_scale: str | None
    weights: str | None = None
    sha256: str | None = None
    energy_floor: float = PBE_FLOOR


class PotentialFamily(ABC):
    """The interface of a library of potentials: finds weights and loads them as a `Potential`.

    name: short, stored in each identity; package: the distribution whose version is recorded with every energy; dtypes:
    the precisions that it can run in, the default first.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    dtypes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def find_weights(self, entry: PotentialEntry) -> Path:
        """Returns the file of an entry's weights, downloaded if need be. Raises PotentialError when it cannot be."""

    @abstractmethod
    def load(self, identity: Identity, device: str) -> Potential:
        """Returns the potential, ready on a device ("cpu" or "cuda"). Any exception becomes a PotentialError."""

    def read_metadata(self, file: Path) -> dict[str, str]:  # noqa: ARG002 - for families whose files have some
        """Returns the metadata stored in a file of weights; empty where there is none."""
        return {}
