"""Joint diffusion of cell, coordinates and elements: DiffCSP (Jiao et al. 2023, arXiv 2309.04475).

Cells, and elements in de novo generation, follow denoising diffusion (Ho et al. 2020) with the cosine schedule;
fractional coordinates follow score matching with wrapped normal noise on the torus.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from xtalgen.models.nn import torus
from xtalgen.models.nn.batches import MAX_ELEMENT, Batch
from xtalgen.models.nn.cspnet import DenseCSPNet
from xtalgen.models.nn.fit import Trainable
from xtalgen.models.nn.lattices import gram_of

TIME_WIDTH = 256
SLOWEST = 10_000.0  # longest period of the embedded time, over 2π
IMAGES = 10  # the sum over the images of the wrapped normal runs from -10 to 10
OFFSET, SMALLEST_BETA, LARGEST_BETA = 0.008, 1e-4, 0.9999  # of the cosine schedule (Nichol & Dhariwal 2021)


@dataclass(frozen=True)
class State:
    """Noisy crystals: elements (none in crystal structure prediction), coordinates in [0, 1), cells (Å); or noise."""

    types: Float[Tensor, "batch atoms types"]
    coords: Float[Tensor, "batch atoms 3"]
    lattice: Float[Tensor, "batch 3 3"]


@dataclass(frozen=True)
class Schedule:
    """Noise by step, from step 0 without any up to the noisiest.

    level: what the network is told; alpha_bar: share of the signal's variance in cells and elements; sigma: noise of
    the fractional coordinates; score_scale: root mean square of their score.
    """

    level: Int[np.ndarray, " steps"]
    alpha_bar: Float[np.ndarray, " steps"]
    sigma: Float[np.ndarray, " steps"]
    score_scale: Float[np.ndarray, " steps"]

    def respaced(self, steps: int) -> "Schedule":
        """Returns a schedule of fewer steps over the same range (Nichol & Dhariwal 2021). Raises ValueError."""
        levels = len(self.level) - 1
        if steps > levels:
            raise ValueError(f"cannot sample in {steps} levels: the training had {levels}.")
        kept = np.round(np.linspace(0, levels, steps + 1)).astype(np.int64)
        return Schedule(**{name: values[kept] for name, values in vars(self).items()})

    def downwards(self) -> Iterator["Step"]:
        """Yields the steps of sampling, from the noisiest down."""
        for place in range(len(self.level) - 1, 0, -1):
            above, below = float(self.alpha_bar[place]), float(self.alpha_bar[place - 1])
            alpha = above / below
            yield Step(
                level=int(self.level[place]),
                sigma=float(self.sigma[place]),
                sigma_below=float(self.sigma[place - 1]),
                score_scale=float(self.score_scale[place]),
                alpha=alpha,
                share=(1 - alpha) / (1 - above) ** 0.5,
                spread=((1 - alpha) * (1 - below) / (1 - above)) ** 0.5,
            )


@dataclass(frozen=True)
class Step:
    """A step of sampling. Cells and elements: (value - share · noise) / √alpha + spread · fresh noise."""

    level: int
    sigma: float
    sigma_below: float
    score_scale: float
    alpha: float
    share: float
    spread: float


@functools.cache
def schedule(levels: int, sigma_begin: float, sigma_end: float) -> Schedule:
    """Returns DiffCSP's schedules: cosine β, and σ geometric from sigma_begin to sigma_end."""
    angles = (np.arange(levels + 1) / levels + OFFSET) / (1 + OFFSET) * np.pi / 2
    kept = np.cos(angles) ** 2
    beta = np.concatenate([[0.0], np.clip(1 - kept[1:] / kept[:-1], SMALLEST_BETA, LARGEST_BETA)])
    sigma = np.concatenate([[0.0], np.geomspace(sigma_begin, sigma_end, levels)])
    scale = np.array([1.0, *(score_scale(value) for value in sigma[1:].tolist())])
    return Schedule(np.arange(levels + 1), np.cumprod(1 - beta), sigma, scale)


def wrapped_normal_score(shift: Float[Tensor, "*shape"], sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns -∂ log Σᵢ exp(-(x + i)² / 2σ²) / ∂x, i from -10 to 10: the score towards larger noise (DiffCSP, eq. 8).

    The weights of the images are a softmax, so that nothing underflows however small σ is.
    """
    images = shift.unsqueeze(-1) + torch.arange(-IMAGES, IMAGES + 1, device=shift.device, dtype=shift.dtype)
    variance = (sigma**2).unsqueeze(-1)
    weights = torch.softmax(-(images**2) / (2 * variance), dim=-1)
    return (weights * images / variance).sum(dim=-1)


def score_scale(sigma: float) -> float:
    """Returns the root of the mean square of the score under its own noise, by quadrature over ±8 σ."""
    epsilon = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    density = torch.exp(-(epsilon**2) / 2)
    score = wrapped_normal_score(
        torus.log_map(torch.zeros_like(epsilon), sigma * epsilon), torch.full_like(epsilon, sigma)
    )
    return float(((density * score**2).sum() / density.sum()).sqrt())


class CrystalDiffusion(Trainable):
    """Schedules, network and loss. `task` is "dng" or "csp"; weights: of lattice, coords and types in the loss."""

    def __init__(
        self,
        task: str,
        *,
        hidden: int = 512,
        layers: int = 6,
        frequencies: int = 128,
        levels: int = 1000,
        sigma_begin: float = 0.005,
        sigma_end: float = 0.5,
        weights: tuple[float, float, float] = (1.0, 1.0, 20.0),
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.precision, self.levels = precision, levels
        self.n_types = MAX_ELEMENT if task == "dng" else 0
        self.weights = dict(zip(("lattice", "coords", "types"), weights, strict=True))
        self.schedule = schedule(levels, sigma_begin, sigma_end)
        for name in ("alpha_bar", "sigma", "score_scale"):
            values = torch.tensor(getattr(self.schedule, name), dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)
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

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted squared error of noise and score, and its parts; one level per crystal, uniform.

        Each part is a mean over all numbers of the batch, so that crystals count by their atoms, as in DiffCSP.
        """
        levels = torch.randint(1, self.levels + 1, (len(batch),), device=batch.mask.device, generator=generator)
        point, target = self.diffuse(batch, levels, generator)
        found = self.predict(point, levels, batch.atomic_numbers, batch.mask)
        atoms = batch.mask.unsqueeze(-1) / batch.mask.sum()
        parts = {
            "lattice": ((found.lattice - target.lattice) ** 2).mean(),
            "coords": ((found.coords - target.coords) ** 2 * atoms).sum() / 3,
        }
        if self.n_types:
            parts["types"] = ((found.types - target.types) ** 2 * atoms).sum() / self.n_types
        return sum(self.weights[name] * part for name, part in parts.items()), parts

    def diffuse(self, batch: Batch, levels: Int[Tensor, "batch"], generator: torch.Generator) -> tuple[State, State]:
        """Returns the crystals with noise of their levels, and what the network has to find.

        That is the noise of cells and elements, and the score of the coordinates over its root mean square.
        """

        def draw(like: Tensor) -> Tensor:
            return torch.randn(like.shape, device=like.device, generator=generator)

        kept = self.alpha_bar[levels].sqrt()[:, None, None]
        lost = (1 - self.alpha_bar[levels]).sqrt()[:, None, None]
        sigma = self.sigma[levels][:, None, None].expand_as(batch.frac_coords)
        types = self._one_hot(batch.atomic_numbers) if self.n_types else batch.frac_coords[..., :0]
        noise = State(types=draw(types), coords=draw(batch.frac_coords), lattice=draw(batch.lattice))
        point = State(
            types=kept * types + lost * noise.types,
            coords=torus.wrap(batch.frac_coords + sigma * noise.coords),
            lattice=kept * batch.lattice + lost * noise.lattice,
        )
        shift = torus.log_map(torch.zeros_like(sigma), sigma * noise.coords)
        score = wrapped_normal_score(shift, sigma) / self.score_scale[levels][:, None, None]
        return point, State(types=noise.types, coords=score, lattice=noise.lattice)

    def predict(
        self,
        point: State,
        levels: Int[Tensor, "batch"],
        atomic_numbers: Int[Tensor, "batch atoms"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> State:
        """Returns the predicted noise and scaled score; atomic_numbers are read only in structure prediction.

        The noise of the cell is a matrix times the cell, so it turns with the cell (O(3) equivariance).
        """
        phases = levels.unsqueeze(-1) * self.rates
        gram = gram_of(point.lattice)
        atoms, pooled = self.network(
            nodes=point.types if self.n_types else self._one_hot(atomic_numbers),
            time=torch.cat([phases.sin(), phases.cos()], dim=-1),
            crystal=gram.flatten(-2),
            frac_coords=point.coords,
            gram=gram,
            mask=mask,
        )
        mean = pooled[:, : self.network.hidden]
        return State(
            types=self.head_types(atoms).float() if self.head_types else point.types,
            coords=self.head_coords(atoms).float(),
            # Not a matrix product, whose precision may be low.
            lattice=(self.head_lattice(mean).float().unflatten(-1, (3, 3, 1)) * point.lattice.unsqueeze(-3)).sum(-2),
        )

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of one crystal padded to n_atoms: (forward, forward and backward); heads included."""
        forward, training = self.network.flop(n_atoms)
        heads = 2 * self.network.hidden * (n_atoms * (3 + self.n_types) + 9)
        return forward + heads, training + 3 * heads

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes one crystal padded to n_atoms moves in a training step; see `DenseCSPNet.traffic`."""
        return self.network.traffic(n_atoms)

    def _one_hot(self, atomic_numbers: Int[Tensor, "batch atoms"]) -> Float[Tensor, "batch atoms 100"]:
        return functional.one_hot((atomic_numbers - 1).clamp_min(0), MAX_ELEMENT).float()
