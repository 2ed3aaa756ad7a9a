"""The flat torus of fractional coordinates."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def wrap(frac_coords: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns coordinates in [0, 1); values that round up to 1 become 0."""
    # -1e-9 - floor(-1e-9) rounds to 1 in float32.
    wrapped = frac_coords - torch.floor(frac_coords)
    return torch.where(wrapped >= 1.0, torch.zeros_like(wrapped), wrapped)


def log_map(start: Float[Tensor, "*shape"], end: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns the shortest displacement from start to end, in [-1/2, 1/2].

    Equals atan2(sin 2πΔ, cos 2πΔ) / 2π, the logarithmic map of FlowMM (Miller et al. 2024), without its rounding.
    """
    # Nearest representative of Δ modulo 1
    difference = end - start
    return difference - torch.round(difference)


def remove_mean(vectors: Float[Tensor, "batch atoms 3"], mask: Bool[Tensor, "batch atoms"]) -> Float[Tensor, "..."]:
    """Returns the vectors minus their mean over the atoms of each crystal; 0 at padding."""
    # Projection on the subspace without translation of the whole crystal
    weight = mask.unsqueeze(-1).to(vectors.dtype)
    mean = (vectors * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)
    return (vectors - mean) * weight
