"""Joint diffusion of cell, coordinates and elements: DiffCSP (Jiao et al. 2023, arXiv 2309.04475).

Cells L, and in de novo generation elements (one-hot), follow denoising diffusion (DDPM, Ho et al. 2020) with the cosine
schedule: L_t = √ᾱ_t L_0 + √(1 - ᾱ_t) ε, and the network predicts ε. Fractional coordinates follow variance-exploding
score matching on the torus: f_t = f_0 + σ_t ε mod 1. The network predicts -∂ log p(f_t | f_0) / ∂f_t divided by its
root mean square, where p is a wrapped normal distribution.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.networks.cell_network import CellNetwork
from xtalgen.training.batches import Batch
from xtalgen.training.performance import Precision

IMAGES = 10  # periodic images i = -10 … 10 in the sum of the wrapped normal distribution
OFFSET, SMALLEST_BETA, LARGEST_BETA = 0.008, 1e-4, 0.9999  # of the cosine schedule (Nichol & Dhariwal 2021)


@dataclass(frozen=True)
class Schedule:
    """Noise levels from step 0 (no noise) to the noisiest.

    level: input of the network; alpha_bar: ᾱ, the share of the signal's variance in cells and elements; sigma: σ of the
    fractional coordinates; score_scale: root mean square of their score.
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
        """Yields the steps of sampling, from the noisiest level down."""
        for index in range(len(self.level) - 1, 0, -1):
            above, below = float(self.alpha_bar[index]), float(self.alpha_bar[index - 1])
            alpha = above / below  # α_t = ᾱ_t / ᾱ_{t-1} = 1 - β_t
            yield Step(
                level=int(self.level[index]),
                sigma=float(self.sigma[index]),
                sigma_below=float(self.sigma[index - 1]),
                score_scale=float(self.score_scale[index]),
                alpha=alpha,
                # (1 - α_t) / √(1 - ᾱ_t), the factor of ε̂ in the posterior mean
                share=(1 - alpha) / (1 - above) ** 0.5,
                # √β̃_t, the posterior standard deviation
                spread=((1 - alpha) * (1 - below) / (1 - above)) ** 0.5,
            )


@dataclass(frozen=True)
class Step:
    """A step of sampling. Cells and elements: x ← (x - share · ε̂) / √α + spread · ε (Ho et al. 2020, algorithm 2).

    share = (1 - α_t) / √(1 - ᾱ_t); spread² = (1 - α_t)(1 - ᾱ_{t-1}) / (1 - ᾱ_t), the posterior variance.
    """

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
    # ᾱ_t = cos²((t / T + s) / (1 + s) · π / 2), up to the factor ᾱ_0 (Nichol & Dhariwal 2021)
    angles = (np.arange(levels + 1) / levels + OFFSET) / (1 + OFFSET) * np.pi / 2
    kept = np.cos(angles) ** 2  # ᾱ before β is clipped
    # β_t = 1 - ᾱ_t / ᾱ_{t-1}, clipped; ᾱ is then the cumulative product of 1 - β.
    beta = np.concatenate([[0.0], np.clip(1 - kept[1:] / kept[:-1], SMALLEST_BETA, LARGEST_BETA)])
    # σ_t = σ_1 (σ_T / σ_1)^((t - 1) / (T - 1)), and no noise at t = 0
    sigma = np.concatenate([[0.0], np.geomspace(sigma_begin, sigma_end, levels)])
    scale = np.array([1.0, *(score_scale(value) for value in sigma[1:].tolist())])
    return Schedule(np.arange(levels + 1), np.cumprod(1 - beta), sigma, scale)


def wrapped_normal_score(shift: Float[Tensor, "*shape"], sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns -∂ log Σᵢ exp(-(x + i)² / 2σ²) / ∂x, i from -10 to 10: the score towards larger noise (DiffCSP, eq. 8).

    The weights of the images are a softmax, so that nothing underflows for small σ.
    """
    # x + i, (…, images)
    images = shift.unsqueeze(-1) + torch.arange(-IMAGES, IMAGES + 1, device=shift.device, dtype=shift.dtype)
    variance = (sigma**2).unsqueeze(-1)
    weights = torch.softmax(-(images**2) / (2 * variance), dim=-1)
    # Σ_i w_i (x + i) / σ², w the softmax of the log densities of the images
    return (weights * images / variance).sum(dim=-1)


def score_scale(sigma: float) -> float:
    """Returns √E[score²] for noise of standard deviation σ, by quadrature over ±8 σ."""
    # E over ε ~ N(0, 1); x = σ ε mod 1
    epsilon = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    density = torch.exp(-(epsilon**2) / 2)
    score = wrapped_normal_score(
        torus.log_map(torch.zeros_like(epsilon), sigma * epsilon), torch.full_like(epsilon, sigma)
    )
    return float(((density * score**2).sum() / density.sum()).sqrt())


class CrystalDiffusion(CellNetwork):
    """Schedules and loss. `task` is "dng" or "csp"; weights: of lattice, coords and types in the loss."""

    alpha_bar: Tensor
    sigma: Tensor
    score_scale: Tensor

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
        precision: Precision = "float32",
    ) -> None:
        sizes = {"hidden": hidden, "layers": layers, "frequencies": frequencies}
        super().__init__(task, **sizes, weights=weights, precision=precision)
        self.levels = levels
        self.schedule = schedule(levels, sigma_begin, sigma_end)
        for name in ("alpha_bar", "sigma", "score_scale"):
            values = torch.tensor(getattr(self.schedule, name), dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted squared error of noise and score, and its parts; one level per crystal, uniform.

        Each part is a mean over all elements of the batch's tensors, so crystals are weighted by their atoms, as in
        DiffCSP.
        """
        # t ~ U{1 … T}
        levels = torch.randint(1, self.levels + 1, (len(batch),), device=batch.mask.device, generator=generator)
        point, target = self.diffuse(batch, levels, generator)
        return self.error(self.predict(point, levels, batch.atomic_numbers, batch.mask), target, batch.mask)

    def diffuse(self, batch: Batch, levels: Int[Tensor, "batch"], generator: torch.Generator) -> tuple[State, State]:
        """Returns the noisy crystals and the targets of the network.

        Targets are the noise of cells and elements, and the score of the coordinates divided by its root mean square.
        """

        def draw(like: Tensor) -> Tensor:
            return torch.randn(like.shape, device=like.device, generator=generator)

        # Factors of signal and noise, (batch, 1, 1): √ᾱ and √(1 - ᾱ).
        kept = self.alpha_bar[levels].sqrt()[:, None, None]
        lost = (1 - self.alpha_bar[levels]).sqrt()[:, None, None]
        sigma = self.sigma[levels][:, None, None].expand_as(batch.frac_coords)
        types = self.one_hot(batch.atomic_numbers) if self.n_types else batch.frac_coords[..., :0]
        noise = State(types=draw(types), coords=draw(batch.frac_coords), lattice=draw(batch.lattice))
        point = State(
            types=kept * types + lost * noise.types,
            coords=torus.wrap(batch.frac_coords + sigma * noise.coords),
            lattice=kept * batch.lattice + lost * noise.lattice,
        )
        # The score depends only on the displacement modulo 1.
        shift = torus.log_map(torch.zeros_like(sigma), sigma * noise.coords)
        score = wrapped_normal_score(shift, sigma) / self.score_scale[levels][:, None, None]
        return point, State(types=noise.types, coords=score, lattice=noise.lattice)
