"""The linear interpolant of crystals, without noise on the way: OMatG (Höllmer et al. 2025, arXiv 2502.02582).

Coordinates and cells (row vectors) move on straight lines from a base distribution to the data; the network learns
their velocity. Elements are given: crystal structure prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models.flow_matching.euler import straight_path
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import lattice_from_parameters
from xtalgen.models.networks.cell_network import CellNetwork
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.batches import Batch
from xtalgen.training.performance import Precision

LOWEST_ANGLE, HIGHEST_ANGLE = 60.0, 120.0
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


class CellFlow(CellNetwork):
    """Base distribution, path and loss. weights: of lattice and coords."""

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

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted mean squared error of the velocity over the batch, and its parts before weighting.

        One time per crystal, uniform in [0, 1).
        """
        start, end = self.base(batch.mask, generator), self.encode(batch)
        time = torch.rand(len(batch), device=batch.mask.device, generator=generator)
        point, target = straight_path(start, end, time, batch.mask)
        return self.error(self.velocity(point, time, batch.atomic_numbers, batch.mask), target, batch.mask)

    def encode(self, batch: Batch) -> State:
        """Returns the end points of the paths: the data, their cells in the orientation of the base."""
        lattice = lattice_from_parameters(batch.lengths, batch.angles)
        return State(types=batch.frac_coords[..., :0], coords=batch.frac_coords, lattice=lattice)

    def base(self, mask: Bool[Tensor, "batch atoms"], generator: torch.Generator) -> State:
        """Returns starting points: uniform coordinates, and cells of log-normal lengths and uniform angles."""
        batch, atoms = mask.shape
        device = generator.device
        coords = torch.rand(batch, atoms, 3, device=device, generator=generator).to(mask.device)
        normal = torch.randn(batch, 3, device=device, generator=generator).to(mask.device)
        uniform = torch.rand(batch, 3, device=device, generator=generator).to(mask.device)
        lattice = lattice_from_parameters(
            torch.exp(self.log_mean + self.log_std * normal), LOWEST_ANGLE + (HIGHEST_ANGLE - LOWEST_ANGLE) * uniform
        )
        return State(types=coords[..., :0], coords=coords, lattice=lattice)

    def velocity(
        self,
        point: State,
        time: Float[Tensor, "batch"],
        atomic_numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> State:
        """Returns the predicted velocity; that of the coordinates is not 0 at padding."""
        return self.predict(point, time, atomic_numbers, mask)
