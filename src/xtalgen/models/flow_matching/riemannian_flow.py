"""Riemannian flow matching of crystals: FlowMM (Miller et al. 2024, arXiv 2406.04713).

The state of a crystal is x = (a, f, l): types a (analog bits of Z - 1, only in de novo generation) in ℝ⁷ per atom,
fractional coordinates f on the flat torus, lattice l = (a, b, c in Å, logits of α, β, γ) in ℝ⁶. Paths are geodesics
from a base distribution to the data: straight lines, on the torus the shortest ones.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtalgen.crystals import Crystal
from xtalgen.models.flow_matching.euler import Flow
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import (
    ANGLE_SPAN,
    LOWEST_ANGLE,
    angles_to_logit,
    gram_from_parameters,
    logit_to_angles,
)
from xtalgen.models.networks.cspnet import DenseCSPNet
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.batches import MAX_ELEMENT, Batch
from xtalgen.training.performance import Precision

# 2⁷ = 128 ≥ 118 elements
N_BITS = 7
TIME_WIDTH = 256
# Keeps the logit of a uniform number finite.
SMALLEST_PROBABILITY = 1e-6
SMALLEST_DEVIATION = 1e-6
Six = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Constants:
    """Base distribution and standardisation, fitted on the training data; lattice order a, b, c, α, β, γ.

    length_log_mean, length_log_std: of the log-normal base of lengths (Å). input_*: mean and standard deviation of the
    lattice x_t over data, base and time. output_*: of its velocity. coords_scale: standard deviation of the velocity
    of the coordinates.
    """

    length_log_mean: tuple[float, float, float]
    length_log_std: tuple[float, float, float]
    input_mean: Six
    input_std: Six
    output_mean: Six
    output_std: Six
    coords_scale: float

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Constants":
        """Returns the constants stored by `asdict` in JSON."""
        read: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()}
        return cls(**read)


def angles_outside(crystal: Crystal) -> str | None:
    """Returns the reason why the logit of the crystal's angles does not exist, or None."""
    _, angles = lattice_to_parameters(crystal.lattice)
    fits = np.all((angles > LOWEST_ANGLE) & (angles < LOWEST_ANGLE + ANGLE_SPAN))
    return (
        None if fits else f"cell angle outside ({LOWEST_ANGLE}°, {LOWEST_ANGLE + ANGLE_SPAN:.1f}°), not Niggli-reduced"
    )


def fit_constants(crystals: Sequence[Crystal]) -> Constants:
    """Returns the constants of a training set, in closed form.

    With x₁ from the data, x₀ from the base and t uniform, all independent, Var x_t = (Var x₀ + Var x₁) / 3 + (E x₁ - E
    x₀)² / 12, and the velocity x₁ - x₀ has the variance Var x₀ + Var x₁. The displacement from a uniform point of the
    torus is uniform, so without its mean over n atoms it has the variance (1 - 1/n) / 12 per component. A standard
    deviation of zero (all cells equal) is replaced by 1.
    """
    lengths, angles = lattice_to_parameters(np.stack([crystal.lattice for crystal in crystals]))
    # x₁: a, b, c (Å) and the logits of the angles, (crystals, 6)
    data = np.concatenate([lengths, angles_to_logit(torch.from_numpy(angles)).numpy()], axis=1)
    log_mean, log_std = np.log(lengths).mean(axis=0), np.log(lengths).std(axis=0)
    # E[x₀]: log-normal lengths have the mean exp(μ + σ² / 2), logistic angles the mean 0.
    base_mean = np.concatenate([np.exp(log_mean + log_std**2 / 2), np.zeros(3)])
    # (exp(σ²) - 1) exp(2 μ + σ²), the variance of a log-normal distribution; π² / 3, that of the logistic one
    length_variance = np.expm1(log_std**2) * np.exp(2 * log_mean + log_std**2)
    base_variance = np.concatenate([length_variance, np.full(3, np.pi**2 / 3)])
    shift, both = data.mean(axis=0) - base_mean, data.var(axis=0) + base_variance
    mean_atoms = np.mean([crystal.n_atoms for crystal in crystals])
    coords = float(np.sqrt((1 - 1 / mean_atoms) / 12))
    return Constants(
        length_log_mean=tuple(log_mean.tolist()),
        length_log_std=tuple(log_std.tolist()),
        # E[x_t] and Var[x_t] over data, base and time
        input_mean=tuple(((data.mean(axis=0) + base_mean) / 2).tolist()),
        input_std=tuple(_positive(np.sqrt(both / 3 + shift**2 / 12)).tolist()),
        # E[u] and Var[u] of the velocity u = x₁ - x₀
        output_mean=tuple(shift.tolist()),
        output_std=tuple(_positive(np.sqrt(both)).tolist()),
        coords_scale=coords if coords > 0 else 1.0,
    )


def _positive(deviations: Float[np.ndarray, "6"]) -> Float[np.ndarray, "6"]:
    return np.where(deviations > SMALLEST_DEVIATION, deviations, 1.0)


def to_bits(atomic_numbers: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape 7"]:
    """Returns the seven bits of Z - 1, most significant first, as ±1 (Chen et al. 2023, analog bits)."""
    exponents = torch.arange(N_BITS - 1, -1, -1, device=atomic_numbers.device)
    bits = ((atomic_numbers - 1).clamp_min(0).unsqueeze(-1) >> exponents) & 1
    return 2.0 * bits.float() - 1.0


def from_bits(bits: Float[Tensor, "*shape 7"]) -> Int[Tensor, "*shape"]:
    """Returns the atomic numbers, 1 to 128, of the signs of the bits."""
    exponents = torch.arange(N_BITS - 1, -1, -1, device=bits.device)
    return ((bits > 0).long() << exponents).sum(dim=-1) + 1


class RiemannianFlow(Flow):
    """Base distribution, network and error of the flow. `task` is "dng" or "csp"."""

    network: DenseCSPNet
    length_log_mean: Tensor
    length_log_std: Tensor
    input_mean: Tensor
    input_std: Tensor
    output_mean: Tensor
    output_std: Tensor

    def __init__(
        self,
        task: str,
        constants: Constants,
        *,
        hidden: int = 512,
        layers: int = 6,
        frequencies: int = 128,
        weights: tuple[float, float, float] = (400.0, 1.0, 40.0),
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        self.precision = precision
        self.constants, self.n_types = constants, N_BITS if task == "dng" else 0
        # FlowMM's weights, normalised to sum 1.
        parts = {"coords": weights[0], "lattice": weights[1], **({"types": weights[2]} if self.n_types else {})}
        self.weights = {name: weight / sum(parts.values()) for name, weight in parts.items()}
        for name, values in asdict(constants).items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)
        self.network = DenseCSPNet(
            node_inputs=self.n_types or MAX_ELEMENT,
            crystal_inputs=6,
            time_inputs=TIME_WIDTH,
            hidden=hidden,
            layers=layers,
            frequencies=frequencies,
        )
        self.embed_time = nn.Linear(1, TIME_WIDTH, bias=False)
        self.head_coords = nn.Linear(hidden, 3, bias=False)
        self.head_lattice = nn.Linear(2 * hidden, 6)
        self.head_types = nn.Linear(hidden, self.n_types) if self.n_types else None

    def error(
        self, predicted: State, target: State, mask: Bool[Tensor, "batch atoms"]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted mean squared error of the velocity over the batch, and its parts before weighting.

        Per crystal each part is a mean over atoms and components; parts are weighted 400 : 1 (: 40 for types), summing
        to 1.
        """
        atoms = mask.unsqueeze(-1) / mask.sum(dim=1)[:, None, None]  # 1 / n at atoms, 0 at padding: (batch, atoms, 1)
        parts = {
            "coords": (((predicted.coords - target.coords) ** 2 * atoms).sum(dim=(1, 2)) / 3).mean(),
            "lattice": ((predicted.lattice - target.lattice) ** 2).mean(),
        }
        if self.n_types:
            parts["types"] = (((predicted.types - target.types) ** 2 * atoms).sum(dim=(1, 2)) / N_BITS).mean()
        return reduce(add, (weight * parts[name] for name, weight in self.weights.items())), parts

    def encode(self, batch: Batch) -> State:
        """Returns the data."""
        bits = to_bits(batch.atomic_numbers) if self.n_types else batch.frac_coords[..., :0]
        lattice = torch.cat([batch.lengths, angles_to_logit(batch.angles)], dim=-1)
        return State(types=bits, coords=batch.frac_coords, lattice=lattice)

    def start(self, batch: Batch, generator: torch.Generator) -> State:
        """Returns the start of the paths: the structures paired with the data (FlowLLM), else points of the base."""
        if "base_coords" not in batch.extra:
            return self.base(batch.mask, generator)
        return State(
            types=batch.frac_coords[..., :0], coords=batch.extra["base_coords"], lattice=batch.extra["base_lattice"]
        )

    def base(self, mask: Bool[Tensor, "batch atoms"], generator: torch.Generator) -> State:
        """Returns normal bits, uniform coordinates, log-normal lengths, uniform angles.

        The logit of a uniform number has the standard logistic distribution.
        """
        batch, atoms = mask.shape

        def draw(kind: Any, *shape: int) -> Tensor:
            return kind(*shape, device=generator.device, generator=generator).to(mask.device)

        types = draw(torch.randn, batch, atoms, self.n_types)
        coords = draw(torch.rand, batch, atoms, 3)
        # ln a ~ N(μ, σ²) per length; logit(U(0, 1)) for the angles
        lengths = torch.exp(self.length_log_mean + self.length_log_std * draw(torch.randn, batch, 3))
        angles = torch.logit(draw(torch.rand, batch, 3), eps=SMALLEST_PROBABILITY)
        return State(types=types, coords=coords, lattice=torch.cat([lengths, angles], dim=-1))

    def velocity(
        self,
        point: State,
        time: Float[Tensor, "batch"],
        atomic_numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> State:
        """Returns v(x, t); atomic_numbers are used only in crystal structure prediction.

        Its coordinates have mean 0 over the atoms of a crystal and are 0 at padding. The network sees a standardised
        lattice, and its outputs are scaled to the mean and standard deviation of u.
        """
        if self.n_types:
            nodes = point.types
        else:
            elements = torch.arange(1, MAX_ELEMENT + 1, device=mask.device)
            nodes = (atomic_numbers.unsqueeze(-1) == elements).float()
        # Geometry uses the lattice itself, the network's crystal features its standardised form.
        gram = gram_from_parameters(point.lattice[:, :3], logit_to_angles(point.lattice[:, 3:]))
        crystal = (point.lattice - self.input_mean) / self.input_std
        times = self.embed_time(time.unsqueeze(-1))
        atoms, pooled = self.network(
            nodes=nodes, time=times, crystal=crystal, frac_coords=point.coords, gram=gram, mask=mask
        )
        return State(
            # Lattice: û = ŷ s_u + m_u. Coordinates: scaled, then the mean over atoms is projected out.
            types=self.head_types(atoms).float() if self.head_types else point.types,
            coords=torus.remove_mean(self.head_coords(atoms).float() * self.coords_scale, mask),
            lattice=self.head_lattice(pooled).float() * self.output_std + self.output_mean,
        )

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of one crystal padded to n_atoms: (forward, forward and backward); heads included."""
        forward, training = self.network.flop(n_atoms)
        heads = 2 * self.network.hidden * (n_atoms * (3 + self.n_types) + 2 * 6)
        time = 2 * TIME_WIDTH
        return forward + heads + time, training + 3 * heads + 2 * time

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes one crystal padded to n_atoms moves in a training step; see `DenseCSPNet.traffic`."""
        return self.network.traffic(n_atoms)
