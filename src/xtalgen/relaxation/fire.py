"""FIRE on many crystals at once, atoms and cells together, each crystal with its own time step.

The algorithm is ASE's: FIRE (Bitzek et al., PRL 97, 170201, 2006) in the coordinates of its FrechetCellFilter. With row
vectors, a crystal of N atoms has the coordinates

    X (N, 3), the positions in the undeformed cell, and S (3, 3), N times the logarithm of the deformation,
    F = exp(S / N),   lattice = L F^T,   positions = X F^T,                                                       (1)

and the generalised forces, minus the derivatives of the energy E, are

    -dE/dX = f F,                                                                                                 (2)
    -dE/dS = L_exp(S^T / N, G) / N,   G = -V sigma F^-T,                                                          (3)

with forces f (N, 3), volume V and stress sigma. L_exp(A, G) is the Frechet derivative of the matrix exponential at A in
the direction G: the upper right block of the exponential of the 6 x 6 matrix [[A, G], [0, A]] (Al-Mohy & Higham 2009,
doi:10.1137/080716426). That is one exponential per crystal; TorchSim 0.3 computes nine derivatives in Python
for each instead, which takes a hundred times as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from xtalgen.crystals import Crystal
from xtalgen.potentials.types import Geometry, Prediction

TIME_STEP, MAX_TIME_STEP = 0.1, 1.0  # dt and dt_max
MAX_MOVE = 0.2  # Å, of all coordinates of a crystal together
N_MIN, F_INC, F_DEC = 5, 1.1, 0.5  # steps downhill before the time step grows; its factors
ALPHA, F_ALPHA = 0.1, 0.99  # mixing of velocities with forces at the start, and its factor


@dataclass
class Motion:
    """The state of the optimiser for a batch of crystals: fields before `n_atoms` are per atom, the others per crystal.

    places: X of eq. 1; lattices: L, undeformed; strains: S; downhill: steps since the power was last not positive;
    started: whether a crystal has made a step.
    """

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
        """Returns crystals at rest in their given cells."""
        n, n_atoms = len(crystals), np.array([crystal.n_atoms for crystal in crystals], dtype=np.int64)
        numbers = [np.asarray(crystal.atomic_numbers, dtype=np.int64) for crystal in crystals]
        # F = 1 at the start, so X are the Cartesian positions.
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
            mixing=np.full(n, ALPHA),
            downhill=np.zeros(n, dtype=np.int64),
            started=np.zeros(n, dtype=bool),
        )

    def __len__(self) -> int:
        return len(self.n_atoms)

    def joined(self, other: "Motion") -> "Motion":
        """Returns the crystals of both, the other's last."""
        return Motion(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def kept(self, mask: Bool[np.ndarray, " crystals"]) -> "Motion":
        """Returns the crystals of the mask."""
        atoms = np.repeat(mask, self.n_atoms)
        by_atom = ("atomic_numbers", "places", "velocities")
        return Motion(*(getattr(self, f.name)[atoms if f.name in by_atom else mask] for f in fields(self)))

    def geometry(self) -> Geometry:
        """Returns the deformed cells and positions (eq. 1)."""
        # F^T of each crystal: (crystals, 3, 3)
        deformation = self._deformation().transpose(0, 2, 1)
        owner = np.repeat(np.arange(len(self)), self.n_atoms)
        positions = np.einsum("ai,aij->aj", self.places, deformation[owner])
        return Geometry(self.lattices @ deformation, positions, self.atomic_numbers, self.n_atoms)

    def step(self, prediction: Prediction) -> None:
        """Moves atoms and cells by one FIRE step, from energies, forces and stresses at the present geometry."""
        forces, cell_forces = self._generalised(prediction)
        owner = np.repeat(np.arange(len(self)), self.n_atoms)

        def dot(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
            """Returns the scalar product per crystal of vectors (a, c) and (b, d): a, b per atom, c, d per cell."""
            atoms = np.bincount(owner, weights=np.einsum("ai,ai->a", a, b), minlength=len(self))
            return atoms + np.einsum("cij,cij->c", c, d)

        power = dot(forces, self.velocities, cell_forces, self.cell_velocities)  # P = F.v
        speed = np.sqrt(dot(self.velocities, self.velocities, self.cell_velocities, self.cell_velocities))
        strength = np.sqrt(dot(forces, forces, cell_forces, cell_forces))
        # As in ASE, the first step neither mixes nor changes dt.
        forward, back = self.started & (power > 0), self.started & (power <= 0)
        # P > 0: v <- (1 - alpha) v + alpha |v| F / |F|; P <= 0: v <- 0.
        alpha = np.where(forward, self.mixing, 0.0)
        scale = np.divide(alpha * speed, strength, out=np.zeros(len(self)), where=strength > 0)
        old = np.where(back, 0.0, 1.0 - alpha)
        # After more than N_MIN steps downhill dt grows and alpha shrinks; uphill dt is halved and alpha reset.
        longer = forward & (self.downhill > N_MIN)
        self.time_step = np.where(longer, np.minimum(self.time_step * F_INC, MAX_TIME_STEP), self.time_step)
        self.time_step = np.where(back, self.time_step * F_DEC, self.time_step)
        self.mixing = np.where(back, ALPHA, np.where(longer, self.mixing * F_ALPHA, self.mixing))
        self.downhill = np.where(back, 0, self.downhill + forward)
        self.started[:] = True
        # Semi-implicit Euler with unit masses: v <- v + dt F, then x <- x + dt v, at most MAX_MOVE long.
        # Both terms along F in one factor: alpha |v| / |F| + dt.
        push = scale + self.time_step
        self.velocities = old[owner, None] * self.velocities + push[owner, None] * forces
        self.cell_velocities = old[:, None, None] * self.cell_velocities + push[:, None, None] * cell_forces
        length = self.time_step * np.sqrt(
            dot(self.velocities, self.velocities, self.cell_velocities, self.cell_velocities)
        )
        # dt, shortened where dt |v| exceeds MAX_MOVE.
        short = self.time_step * np.minimum(1.0, MAX_MOVE / np.maximum(length, MAX_MOVE))
        self.places = self.places + short[owner, None] * self.velocities
        self.strains = self.strains + short[:, None, None] * self.cell_velocities

    def _deformation(self) -> Float[np.ndarray, "crystals 3 3"]:
        """Returns F of eq. 1."""
        return exponential(self.strains / self.n_atoms[:, None, None])

    def _generalised(
        self, prediction: Prediction
    ) -> tuple[Float[np.ndarray, "atoms 3"], Float[np.ndarray, "crystals 3 3"]]:
        """Returns the forces on X (eq. 2, in eV/Å) and on S (eq. 3, in eV)."""
        deformation = self._deformation()
        owner = np.repeat(np.arange(len(self)), self.n_atoms)
        # f F of eq. 2, row vectors
        forces = np.einsum("ai,aij->aj", prediction.forces, deformation[owner])
        # G = -V sigma F^-T of eq. 3
        volumes = np.abs(np.linalg.det(self.lattices @ deformation.transpose(0, 2, 1)))
        virial = -volumes[:, None, None] * prediction.stress
        gradient = virial @ np.linalg.inv(deformation).transpose(0, 2, 1)
        # exp [[A, G], [0, A]] has L_exp(A, G) as its upper right block; A = S^T / N.
        block = np.zeros((len(self), 6, 6))
        block[:, :3, :3] = block[:, 3:, 3:] = (self.strains / self.n_atoms[:, None, None]).transpose(0, 2, 1)
        block[:, :3, 3:] = gradient
        return forces, exponential(block)[:, :3, 3:] / self.n_atoms[:, None, None]


def exponential(matrices: Float[np.ndarray, "*batch n n"]) -> Float[np.ndarray, "*batch n n"]:
    """Returns the exponential of each matrix; NaN where one is not finite."""
    return torch.matrix_exp(torch.from_numpy(np.ascontiguousarray(matrices))).numpy()


def max_forces(geometry: Geometry, prediction: Prediction) -> Float[np.ndarray, " crystals"]:
    """Returns each crystal's largest force on an atom or on the cell (rows of the virial per atom), in eV/Å."""
    lengths = np.linalg.norm(prediction.forces, axis=1)
    atoms = np.array([lengths[atoms].max() for atoms in geometry.slices])
    volumes = np.abs(np.linalg.det(geometry.lattices))
    # V sigma / N: the virial per atom, comparable with a force.
    rows = np.linalg.norm(volumes[:, None, None] * prediction.stress / geometry.n_atoms[:, None, None], axis=2)
    return np.maximum(atoms, rows.max(axis=1))
