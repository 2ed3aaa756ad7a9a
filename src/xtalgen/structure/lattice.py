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
    a, b, c = np.moveaxis(np.asarray(lengths, dtype=np.float64), -1, 0)
    alpha, beta, gamma = np.moveaxis(np.radians(np.asarray(angles, dtype=np.float64)), -1, 0)
    cosine = (np.cos(alpha) * np.cos(beta) - np.cos(gamma)) / (np.sin(alpha) * np.sin(beta))
    gamma_star = np.arccos(np.clip(cosine, -1.0, 1.0))
    zero = np.zeros_like(a)
    rows = [
        np.stack([a * np.sin(beta), zero, a * np.cos(beta)], axis=-1),
        np.stack(
            [
                -b * np.sin(alpha) * np.cos(gamma_star),
                b * np.sin(alpha) * np.sin(gamma_star),
                b * np.cos(alpha),
            ],
            axis=-1,
        ),
        np.stack([zero, zero, c], axis=-1),
    ]
    return np.stack(rows, axis=-2)


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
