"""The linear stochastic interpolant of crystals, sampled by an ODE: OMatG (Höllmer et al. 2025, arXiv 2502.02582).

x(t) = (1 - t) x₀ + t x₁ without latent noise (γ = 0), on the torus for coordinates and entry by entry for cells, 3 × 3
matrices of row vectors in Å. The network learns the velocity x₁ - x₀. Elements are given: crystal structure prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models.flow_matching.euler import Flow
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import lattice_from_parameters
from xtalgen.models.networks.cell_network import CellNetwork
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.batches import Batch
from xtalgen.training.performance import Precision

LOWEST_ANGLE, HIGHEST_ANGLE = 60.0, 120.0  # degrees
Three = tuple[float, float, float]


@dataclass(frozen=True)
class Lengths:
    """Mean and standard deviation of the logarithms of a, b, c (Å): the base distribution of lengths."""

    log_mean: Three
    log_std: Three


def fit_lengths(crystals: Sequence[Crystal]) -> Lengths:
    """Returns the log-normal distribution of the lengths of a training set."""
    logs = np.log(lattice_to_parameters(np.stack([crystal.lattice for crystal in crystals]))[0])
    return Lengths(tuple(logs.mean(axis=0).tolist()), tuple(logs.std(axis=0).tolist()))


class CellFlow(CellNetwork, Flow):
    """Base distribution and data of the flow; the network is `CellNetwork`. weights: of lattice and coords."""

    # The velocity of the coordinates is not 0 at padding.
    velocity = CellNetwork.predict

    log_mean: Tensor
    log_std: Tensor

    def __init__(
        self,
        lengths: Lengths,
        *,
        hidden: int = 512,
        layers: int = 6,
        frequencies: int = 128,
        weights: tuple[float, float] = (0.000585, 0.999415),
        precision: Precision = "float32",
    ) -> None:
        sizes = {"hidden": hidden, "layers": layers, "frequencies": frequencies}
        super().__init__("csp", **sizes, weights=(*weights, 0.0), precision=precision)
        self.register_buffer("log_mean", torch.tensor(lengths.log_mean, dtype=torch.float32), persistent=False)
        self.register_buffer("log_std", torch.tensor(lengths.log_std, dtype=torch.float32), persistent=False)

    def encode(self, batch: Batch) -> State:
        """Returns the data, with cells in the same orientation as those of the base."""
        # x(t) interpolates cells entry by entry, so both ends need the same orientation.
        lattice = lattice_from_parameters(batch.lengths, batch.angles)
        return State(types=batch.frac_coords[..., :0], coords=batch.frac_coords, lattice=lattice)

    def base(self, mask: Bool[Tensor, "batch atoms"], generator: torch.Generator) -> State:
        """Returns uniform coordinates, and cells of log-normal lengths and uniform angles."""
        batch, atoms = mask.shape
        device = generator.device
        coords = torch.rand(batch, atoms, 3, device=device, generator=generator).to(mask.device)
        # Base of the cells: log-normal lengths (Å), uniform angles (degrees).
        normal = torch.randn(batch, 3, device=device, generator=generator).to(mask.device)
        uniform = torch.rand(batch, 3, device=device, generator=generator).to(mask.device)
        lattice = lattice_from_parameters(
            torch.exp(self.log_mean + self.log_std * normal), LOWEST_ANGLE + (HIGHEST_ANGLE - LOWEST_ANGLE) * uniform
        )
        return State(types=coords[..., :0], coords=coords, lattice=lattice)
