"""Lattices on the device: matrices, lengths and angles, Gram matrices, unbounded angles.

The NumPy side of the matrix conversion, in float64 and with the same orientation, is `xtalgen.structure.lattice`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

# Angles of a Niggli-reduced cell lie in [60°, 120°]; FlowMM (Miller et al. 2024) widens the interval by 0.1° a side
# so that the logit of a reduced cell is finite.
LOWEST_ANGLE = 59.9
ANGLE_SPAN = 60.2


def lattice_from_parameters(
    lengths: Float[Tensor, "*batch 3"], angles: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """Returns row vectors a, b, c (Å) in CDVAE's orientation (a in the xz plane, c along z).

    lengths in Å, angles in degrees. Impossible angles give a flat cell, as in `xtalgen.structure.lattice`.
    """
    a, b, c = lengths.unbind(-1)
    alpha, beta, gamma = torch.deg2rad(angles).unbind(-1)
    # cos γ* = (cos α cos β - cos γ) / (sin α sin β), γ* the angle between the reciprocal vectors a* and b*
    cosine = (alpha.cos() * beta.cos() - gamma.cos()) / (alpha.sin() * beta.sin())
    gamma_star = torch.arccos(cosine.clamp(-1.0, 1.0))
    zero = torch.zeros_like(a)
    rows = [
        torch.stack([a * beta.sin(), zero, a * beta.cos()], dim=-1),
        torch.stack([-b * alpha.sin() * gamma_star.cos(), b * alpha.sin() * gamma_star.sin(), b * alpha.cos()], dim=-1),
        torch.stack([zero, zero, c], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def lattice_to_parameters(
    lattice: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch 3"], Float[Tensor, "*batch 3"]]:
    """Returns lengths (Å) and angles α, β, γ (degrees) of row vectors a, b, c."""
    lengths = lattice.norm(dim=-1)
    # Unit vectors; α is between b and c, β between a and c, γ between a and b.
    a, b, c = (lattice / lengths.unsqueeze(-1)).unbind(-2)
    cosines = torch.stack([(b * c).sum(-1), (a * c).sum(-1), (a * b).sum(-1)], dim=-1)
    return lengths, torch.rad2deg(torch.arccos(cosines.clamp(-1.0, 1.0)))


def gram_of(lattice: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Returns the Gram matrix L Lᵀ (Å²) of row vectors, in full float32 precision."""
    return (lattice.unsqueeze(-2) * lattice.unsqueeze(-3)).sum(-1)


def gram_from_parameters(
    lengths: Float[Tensor, "*batch 3"], angles: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 3 3"]:
    """Returns the Gram matrix L Lᵀ (Å²) from lengths and angles (degrees), even impossible ones."""
    cos_alpha, cos_beta, cos_gamma = torch.deg2rad(angles).cos().unbind(-1)
    one = torch.ones_like(cos_alpha)
    rows = [(one, cos_gamma, cos_beta), (cos_gamma, one, cos_alpha), (cos_beta, cos_alpha, one)]
    # G_ij = |a_i| |a_j| cos(angle between them)
    cosines = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    return cosines * lengths.unsqueeze(-1) * lengths.unsqueeze(-2)


def angles_to_logit(angles: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns logit((θ - 59.9°) / 60.2°); not finite for angles outside (59.9°, 120.1°)."""
    return torch.logit((angles - LOWEST_ANGLE) / ANGLE_SPAN)


def logit_to_angles(logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns the angles (degrees) in [59.9°, 120.1°]; inverse of `angles_to_logit`."""
    return LOWEST_ANGLE + ANGLE_SPAN * torch.sigmoid(logits)
