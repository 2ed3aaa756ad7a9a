"""Lattices and fractional coordinates in NumPy: matrix, lengths and angles, wrapping into the cell."""

import numpy as np
from jaxtyping import Float


def lattice_from_parameters(
    lengths: Float[np.ndarray, "*batch 3"], angles: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Returns row vectors a, b, c (Å) in the canonical orientation of CDVAE (Xie et al. 2022, preprocessing).

    lengths in Å, angles α, β, γ in degrees. a lies in the xz plane, c along z. cos γ* is clipped to [-1, 1], so
    impossible angles give a flat cell of volume 0 instead of NaN.
    """
    lengths = np.asarray(lengths, dtype=np.float64)
    radians = np.radians(np.asarray(angles, dtype=np.float64))
    cosines, sines = np.cos(radians), np.sin(radians)
    cos_alpha, cos_beta, sin_alpha, sin_beta = cosines[..., 0], cosines[..., 1], sines[..., 0], sines[..., 1]
    cosine = (cos_alpha * cos_beta - cosines[..., 2]) / (sin_alpha * sin_beta)
    gamma_star = np.arccos(np.minimum(np.maximum(cosine, -1.0), 1.0))
    a, b, c = lengths[..., 0], lengths[..., 1], lengths[..., 2]
    lattice = np.zeros((*lengths.shape, 3))
    lattice[..., 0, 0], lattice[..., 0, 2] = a * sin_beta, a * cos_beta
    lattice[..., 1, 0] = -b * sin_alpha * np.cos(gamma_star)
    lattice[..., 1, 1] = b * sin_alpha * np.sin(gamma_star)
    lattice[..., 1, 2], lattice[..., 2, 2] = b * cos_alpha, c
    return lattice


def lattice_to_parameters(
    lattice: Float[np.ndarray, "*batch 3 3"],
) -> tuple[Float[np.ndarray, "*batch 3"], Float[np.ndarray, "*batch 3"]]:
    """Returns lengths (Å) and angles α, β, γ (degrees) of row vectors a, b, c."""
    lengths = np.linalg.norm(lattice, axis=-1)
    unit = lattice / lengths[..., None]
    cosines = np.stack(
        [
            np.sum(unit[..., 1, :] * unit[..., 2, :], axis=-1),
            np.sum(unit[..., 0, :] * unit[..., 2, :], axis=-1),
            np.sum(unit[..., 0, :] * unit[..., 1, :], axis=-1),
        ],
        axis=-1,
    )
    return lengths, np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))


def wrap(frac_coords: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Returns fractional coordinates in [0, 1); values that round up to 1.0 become 0.0."""
    wrapped = frac_coords % 1.0
    return np.where(wrapped >= 1.0, 0.0, wrapped)
