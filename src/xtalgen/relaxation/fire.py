"""FIRE on many crystals at once, atoms and cells together, each crystal with its own time step.

The algorithm is ASE's: FIRE (Bitzek et al., PRL 97, 170201, 2006) on the coordinates of its FrechetCellFilter: places
of atoms in the undeformed cell, and the logarithm of the deformation times the number of atoms. The derivative of that
is one exponential of a 6 × 6 matrix for each crystal (Al-Mohy & Higham 2009); TorchSim 0.3 computes nine derivatives in
Python for each instead, which costs a hundred times as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from xtalgen.crystals import Crystal
from xtalgen.potentials.types import Geometry, Prediction

TIME_STEP, LONGEST_STEP, LONGEST_MOVE = 0.1, 1.0, 0.2
PATIENCE, FASTER, SLOWER = 5, 1.1, 0.5
MIXING, LESS_MIXING = 0.1, 0.99


@dataclass
class Motion:
    """Crystals on their way to a minimum: what stands before `n_atoms` is by atom, the rest by crystal."""

    atomic_numbers: Int[np.ndarray, " atoms"]
    places: Float[np.ndarray, "atoms 3"]
    velocities: Float[np.ndarray, "atoms 3"]
    n_atoms: Int[np.ndarray, " crystals"]
    lattices: Float[np.ndarray, "crystals 3 3"]
    strains: Float[np.ndarray, "crystals 3 3"]
    cell_velocities: Float[np.ndarray, "crystals 3 3"]
    time_step: Float[np.ndarray, " crystals"]
    mixing: Float[np.ndarray, " crystals"]
    downhill: Int[np.ndarray, " crystals"]
    started: Bool[np.ndarray, " crystals"]

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> "Motion":
        """Returns crystals at rest."""
        n, n_atoms = len(crystals), np.array([crystal.n_atoms for crystal in crystals], dtype=np.int64)
        numbers = [np.asarray(crystal.atomic_numbers, dtype=np.int64) for crystal in crystals]
        places = [crystal.frac_coords @ crystal.lattice for crystal in crystals]
        return cls(
            atomic_numbers=np.concatenate([np.zeros(0, dtype=np.int64), *numbers]),
            places=np.concatenate([np.zeros((0, 3)), *places]),
            velocities=np.zeros((int(n_atoms.sum()), 3)),
            n_atoms=n_atoms,
            lattices=np.array([crystal.lattice for crystal in crystals], dtype=np.float64).reshape(-1, 3, 3),
            strains=np.zeros((n, 3, 3)),
            cell_velocities=np.zeros((n, 3, 3)),
            time_step=np.full(n, TIME_STEP),
            mixing=np.full(n, MIXING),
            downhill=np.zeros(n, dtype=np.int64),
            started=np.zeros(n, dtype=bool),
        )

    def __len__(self) -> int:
        return len(self.n_atoms)

    def joined(self, other: "Motion") -> "Motion":
        """Returns both, the other's crystals last."""
        return Motion(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def kept(self, mask: Bool[np.ndarray, " crystals"]) -> "Motion":
        """Returns the crystals that are marked."""
        atoms = np.repeat(mask, self.n_atoms)
        by_atom = ("atomic_numbers", "places", "velocities")
        return Motion(*(getattr(self, f.name)[atoms if f.name in by_atom else mask] for f in fields(self)))

    def geometry(self) -> Geometry:
        """Returns where atoms and cells are."""
        deformation = self._deformation().transpose(0, 2, 1)
        owner = np.repeat(np.arange(len(self)), self.n_atoms)
        positions = np.einsum("ai,aij->aj", self.places, deformation[owner])
        return Geometry(self.lattices @ deformation, positions, self.atomic_numbers, self.n_atoms)

    def step(self, found: Prediction) -> None:
        """Moves atoms and cells by one step, from energies, forces and stresses at the present geometry."""
        forces, cell_forces = self._generalised(found)
        owner = np.repeat(np.arange(len(self)), self.n_atoms)

        def dot(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
            atoms = np.bincount(owner, weights=np.einsum("ai,ai->a", a, b), minlength=len(self))
            return atoms + np.einsum("cij,cij->c", c, d)

        power = dot(forces, self.velocities, cell_forces, self.cell_velocities)
        speed = np.sqrt(dot(self.velocities, self.velocities, self.cell_velocities, self.cell_velocities))
        strength = np.sqrt(dot(forces, forces, cell_forces, cell_forces))
        forward, back = self.started & (power > 0), self.started & (power <= 0)
        share = np.where(forward, self.mixing, 0.0)
        scale = np.divide(share * speed, strength, out=np.zeros(len(self)), where=strength > 0)
        old = np.where(back, 0.0, 1.0 - share)
        longer = forward & (self.downhill > PATIENCE)
        self.time_step = np.where(longer, np.minimum(self.time_step * FASTER, LONGEST_STEP), self.time_step)
        self.time_step = np.where(back, self.time_step * SLOWER, self.time_step)
        self.mixing = np.where(back, MIXING, np.where(longer, self.mixing * LESS_MIXING, self.mixing))
        self.downhill = np.where(back, 0, self.downhill + forward)
        self.started[:] = True
        push = scale + self.time_step
        self.velocities = old[owner, None] * self.velocities + push[owner, None] * forces
        self.cell_velocities = old[:, None, None] * self.cell_velocities + push[:, None, None] * cell_forces
        length = self.time_step * np.sqrt(
            dot(self.velocities, self.velocities, self.cell_velocities, self.cell_velocities)
        )
        short = self.time_step * np.minimum(1.0, LONGEST_MOVE / np.maximum(length, LONGEST_MOVE))
        self.places = self.places + short[owner, None] * self.velocities
        self.strains = self.strains + short[:, None, None] * self.cell_velocities

    def _deformation(self) -> Float[np.ndarray, "crystals 3 3"]:
        return exponential(self.strains / self.n_atoms[:, None, None])

    def _generalised(self, found: Prediction) -> tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "crystals 3 3"]]:
        """Returns the forces on the places and on the strains: minus the derivatives of the energy."""
        deformation = self._deformation()
        owner = np.repeat(np.arange(len(self)), self.n_atoms)
        forces = np.einsum("ai,aij->aj", found.forces, deformation[owner])
        volumes = np.abs(np.linalg.det(self.lattices @ deformation.transpose(0, 2, 1)))
        virial = -volumes[:, None, None] * found.stress
        gradient = virial @ np.linalg.inv(deformation).transpose(0, 2, 1)
        block = np.zeros((len(self), 6, 6))
        block[:, :3, :3] = block[:, 3:, 3:] = (self.strains / self.n_atoms[:, None, None]).transpose(0, 2, 1)
        block[:, :3, 3:] = gradient
        return forces, exponential(block)[:, :3, 3:] / self.n_atoms[:, None, None]


def exponential(matrices: Float[np.ndarray, "*batch n n"]) -> Float[np.ndarray, "*batch n n"]:
    """Returns the exponential of each matrix; NaN where one is not finite."""
    return torch.matrix_exp(torch.from_numpy(np.ascontiguousarray(matrices))).numpy()


def max_forces(geometry: Geometry, found: Prediction) -> Float[np.ndarray, " crystals"]:
    """Returns each crystal's largest force on an atom or on the cell (rows of the virial per atom), in eV/Å."""
    lengths = np.linalg.norm(found.forces, axis=1)
    atoms = np.array([lengths[atoms].max() for atoms in geometry.slices])
    volumes = np.abs(np.linalg.det(geometry.lattices))
    rows = np.linalg.norm(volumes[:, None, None] * found.stress / geometry.n_atoms[:, None, None], axis=2)
    return np.maximum(atoms, rows.max(axis=1))
