"""CSPNet for crystals whose cell is a matrix of row vectors, as DiffCSP and OMatG use it.

Jiao et al. 2023 (arXiv 2309.04475), Höllmer et al. 2025 (arXiv 2502.02582).
"""

from functools import reduce
from operator import add

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import gram_of
from xtalgen.models.networks.cspnet import DenseCSPNet
from xtalgen.training.batches import MAX_ELEMENT
from xtalgen.training.loop import Trainable
from xtalgen.training.performance import Precision

TIME_WIDTH = 256
SLOWEST = 10_000.0  # longest period of the embedded time, over 2π


class CellNetwork(Trainable):
    """Network, heads and weighted error. `task` is "dng" or "csp"; weights: of lattice, coords and types."""

    network: DenseCSPNet
    rates: Tensor

    def __init__(
        self,
        task: str,
        *,
        hidden: int,
        layers: int,
        frequencies: int,
        weights: tuple[float, float, float],
        precision: Precision,
    ) -> None:
        super().__init__()
        self.precision = precision
        self.n_types = MAX_ELEMENT if task == "dng" else 0
        self.weights = dict(zip(("lattice", "coords", "types"), weights, strict=True))
        # Sinusoidal time embedding (Vaswani et al. 2017): rates from 1 to 1 / SLOWEST.
        rates = torch.exp(-np.log(SLOWEST) * torch.arange(TIME_WIDTH // 2) / (TIME_WIDTH // 2 - 1))
        self.register_buffer("rates", rates, persistent=False)
        self.network = DenseCSPNet(
            node_inputs=MAX_ELEMENT,
            crystal_inputs=9,
            time_inputs=TIME_WIDTH,
            hidden=hidden,
            layers=layers,
            frequencies=frequencies,
            edge_vector=False,
            counts=False,
            self_edges=True,
            bias=True,
        )
        self.head_coords = nn.Linear(hidden, 3, bias=False)
        self.head_lattice = nn.Linear(hidden, 9, bias=False)
        self.head_types = nn.Linear(hidden, self.n_types) if self.n_types else None

    def predict(
        self,
        point: State,
        time: Int[Tensor, "batch"] | Float[Tensor, "batch"],
        atomic_numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> State:
        """Returns the outputs of the heads at a point; atomic_numbers are used only in structure prediction.

        The output of the cell is φ(h) L with a 3 × 3 matrix φ of the pooled atoms, so it rotates with the cell L (O(3)
        equivariance). The network sees the cell as its Gram matrix L Lᵀ.
        """
        # Time times rate: (batch, TIME_WIDTH / 2)
        phases = time.unsqueeze(-1) * self.rates
        gram = gram_of(point.lattice)
        atoms, pooled = self.network(
            nodes=point.types if self.n_types else self.one_hot(atomic_numbers),
            time=torch.cat([phases.sin(), phases.cos()], dim=-1),
            crystal=gram.flatten(-2),
            frac_coords=point.coords,
            gram=gram,
            mask=mask,
        )
        # `pooled` is [mean, sum]; the head of the cell uses the mean.
        mean = pooled[:, : self.network.hidden]
        return State(
            types=self.head_types(atoms).float() if self.head_types else point.types,
            coords=self.head_coords(atoms).float(),
            # φ L by elements: a matrix product might have low precision.
            lattice=(self.head_lattice(mean).float().unflatten(-1, (3, 3, 1)) * point.lattice.unsqueeze(-3)).sum(-2),
        )

    def error(
        self, predicted: State, target: State, mask: Bool[Tensor, "batch atoms"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted squared error, and its parts before weighting.

        Each part is a mean over all elements of the batch's tensors, so crystals are weighted by their atoms.
        """
        atoms = mask.unsqueeze(-1) / mask.sum()
        parts = {
            "lattice": ((predicted.lattice - target.lattice) ** 2).mean(),
            "coords": ((predicted.coords - target.coords) ** 2 * atoms).sum() / 3,
        }
        if self.n_types:
            parts["types"] = ((predicted.types - target.types) ** 2 * atoms).sum() / self.n_types
        return reduce(add, (self.weights[name] * part for name, part in parts.items())), parts

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of one crystal padded to n_atoms: (forward, forward and backward); heads included."""
        forward, training = self.network.flop(n_atoms)
        heads = 2 * self.network.hidden * (n_atoms * (3 + self.n_types) + 9)
        return forward + heads, training + 3 * heads

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes one crystal padded to n_atoms moves in a training step; see `DenseCSPNet.traffic`."""
        return self.network.traffic(n_atoms)

    def one_hot(self, atomic_numbers: Int[Tensor, "batch atoms"]) -> Float[Tensor, "batch atoms 100"]:
        """Returns the elements as one-hot vectors."""
        return functional.one_hot((atomic_numbers - 1).clamp_min(0), MAX_ELEMENT).float()
