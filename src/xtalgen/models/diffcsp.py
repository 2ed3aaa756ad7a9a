"""DiffCSP: joint equivariant diffusion of crystals (Jiao et al. 2023, arXiv 2309.04475), for both tasks.

Written from the equations; docs/models/diffcsp.md lists the defaults and every deviation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.diffusion.ddpm import CrystalDiffusion, Step
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import lattice_to_parameters
from xtalgen.models.sampling.requests import (
    RequestBatch,
    draw_sizes,
    histogram_of,
    in_batches,
    make_ready,
    read_trained,
    to_crystals,
)
from xtalgen.training.artifacts import train_and_write
from xtalgen.training.batches import load_split, mix_seed
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig
from xtalgen.training.performance import products

# The authors' step sizes of the corrector on MP-20.
STEP_RATE = {"csp": 1e-5, "dng": 5e-6}
# Returns noise of the shape of a tensor.
Noise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DiffCSPConfig(FitConfig):
    """Hyper-parameters of DiffCSP on MP-20.

    levels: of noise; sigma_begin, sigma_end: noise of the fractional coordinates at the first and last of them;
    *_weight: of the parts of the loss.
    """

    # Training of the published code on MP-20: plateau schedule without moving average.
    epochs: int = 1000
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    schedule: Literal["cosine", "cosine_by_step", "plateau", "constant"] = "plateau"
    ema_decay: float = 0.0
    hidden: int = 512
    layers: int = 6
    frequencies: int = 128
    # T; σ_1 … σ_T of the fractional coordinates, geometric.
    levels: int = 1000
    sigma_begin: float = 0.005
    sigma_end: float = 0.5
    # The published weights for de novo generation; structure prediction has no types.
    lattice_weight: float = 1.0
    coords_weight: float = 1.0
    types_weight: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 1:
            raise ValueError(f"levels must be at least 1, not {self.levels}.")
        if not 0 < self.sigma_begin <= self.sigma_end:
            raise ValueError(f"sigma_begin must be above 0 and not above sigma_end, not {self.sigma_begin}.")


@dataclass(frozen=True)
class DiffCSPSampling:
    """Settings of the predictor-corrector sampler.

    levels: of noise, two network calls each; fewer levels than in training are spread over its range; step_rate: of the
    corrector at the lowest level, growing with the square of the noise; None for the authors' values on MP-20, 1e-5 for
    structure prediction and 5e-6 for de novo generation; batch_size: crystals that run together; compile: compile the
    network, which is worthwhile on a GPU.
    """

    levels: int = 1000
    step_rate: float | None = None
    batch_size: int = 500
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("levels", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.step_rate is not None and self.step_rate < 0:
            raise ValueError(f"step_rate must not be negative, not {self.step_rate}.")


@final
class Model(AbstractModel):
    """DiffCSP."""

    Config = DiffCSPConfig
    Sampling = DiffCSPSampling
    shared_checkpoint = False

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: DiffCSPConfig, job: Job) -> None:
        """Trains DiffCSP for the task of the job; see `AbstractModel.train`."""
        split = load_split(train, val, job.device)
        facts = {"histogram": histogram_of(split.train.sizes())}

        def make() -> CrystalDiffusion:
            return _build(job.task, asdict(config))

        train_and_write("diffcsp", make, split=split, config=config, job=job, facts=facts)

    def sample(
        self, checkpoint: Path, wanted: int | Sequence[np.ndarray], sampling: DiffCSPSampling, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`.

        The initial noise of a crystal depends on the seed and its index, later noise also on batch size and device.
        Statuses are those of `to_crystals` and `in_batches`. Raises ValueError when the checkpoint was trained for the
        other task or with fewer levels than asked for.
        """
        weights, facts = read_trained(checkpoint, wanted, device)
        module = _build(facts["task"], facts["config"])
        make_ready(module, weights, device, compiled=sampling.compile)
        if isinstance(wanted, int):
            wanted = draw_sizes(facts["histogram"], wanted, seed)
        sampler = _Sampler(module, sampling, seed)
        yield from in_batches(wanted, sampling.batch_size, device, sampler.make)

    def network_evaluations(self, sampling: DiffCSPSampling) -> int:
        """Returns the number of network evaluations per crystal: two per level."""
        return 2 * sampling.levels


def _build(task: str, config: dict[str, Any]) -> CrystalDiffusion:
    names = ("hidden", "layers", "frequencies", "levels", "sigma_begin", "sigma_end", "precision")
    weights = (config["lattice_weight"], config["coords_weight"], config["types_weight"])
    return CrystalDiffusion(task, **{name: config[name] for name in names}, weights=weights)


class _Sampler:
    def __init__(self, module: CrystalDiffusion, sampling: DiffCSPSampling, seed: int) -> None:
        self.module, self.seed = module, seed
        self.plan = module.schedule.respaced(sampling.levels)
        self.rate = STEP_RATE["dng" if module.n_types else "csp"] if sampling.step_rate is None else sampling.step_rate

    @torch.inference_mode()
    def make(self, wanted: RequestBatch) -> list[Crystal]:
        """Runs all levels from the noisiest down, corrector then predictor, and returns the crystals."""
        module = self.module
        point = self._start(wanted)
        generator = torch.Generator(wanted.mask.device).manual_seed(mix_seed(self.seed, 2, wanted.indices[0]))
        for step in self.plan.downwards():
            # The last step adds no noise.
            noise = _noise(generator) if step.sigma_below > 0 else torch.zeros_like
            # Predictor-corrector sampling (Song et al. 2021): Langevin at level t, then ancestral to t - 1.
            point = self._correct(point, wanted, step, noise)
            point = self._advance(point, wanted, step, noise)
        # One-hot elements were diffused as real numbers; the largest component wins.
        numbers = point.types.argmax(dim=-1) + 1 if module.n_types else wanted.atomic_numbers
        lengths, angles = lattice_to_parameters(point.lattice.double())
        return to_crystals(lengths, angles, point.coords, numbers, wanted.n_atoms)

    def _start(self, wanted: RequestBatch) -> State:
        def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            return (
                torch.randn(n, self.module.n_types, generator=generator),
                torch.rand(n, 3, generator=generator),
                torch.randn(1, 9, generator=generator),
            )

        types, coords, lattice = wanted.draw(self.seed, draw)
        return State(types=types, coords=coords, lattice=lattice.unflatten(-1, (3, 3))[:, 0])

    def _correct(self, point: State, wanted: RequestBatch, step: Step, noise: Noise) -> State:
        """Returns the crystals after the corrector: a Langevin step of the coordinates on the same level.

        f ← f - η s + √(2 η) ε, η = step_rate (σ_t / σ_1)², s the score towards larger noise.
        """
        # η_t = η (σ_t / σ_1)²
        length = self.rate * (step.sigma / float(self.module.schedule.sigma[1])) ** 2
        # The network predicts the score over its root mean square.
        score = self._predict(point, wanted, step).coords * step.score_scale
        moved = point.coords - length * score + (2 * length) ** 0.5 * noise(point.coords)
        return State(types=point.types, coords=torus.wrap(moved), lattice=point.lattice)

    def _advance(self, point: State, wanted: RequestBatch, step: Step, noise: Noise) -> State:
        """Returns the crystals after the predictor: an ancestral step to level t - 1.

        f ← f - (σ_t² - σ_{t-1}²) s + √(σ_{t-1}² (σ_t² - σ_{t-1}²) / σ_t²) ε.
        """
        output = self._predict(point, wanted, step)
        above, below = step.sigma**2, step.sigma_below**2
        # Ancestral sampling of the variance-exploding process: drift (σ_t² - σ_{t-1}²) s, and the posterior's noise.
        coords = point.coords - (above - below) * step.score_scale * output.coords
        coords = coords + (below * (above - below) / above) ** 0.5 * noise(coords)

        def ancestral(value: Tensor, predicted: Tensor) -> Tensor:
            return (value - step.share * predicted) / step.alpha**0.5 + step.spread * noise(value)

        return State(
            types=ancestral(point.types, output.types) if self.module.n_types else point.types,
            coords=torus.wrap(coords),
            lattice=ancestral(point.lattice, output.lattice),
        )

    def _predict(self, point: State, wanted: RequestBatch, step: Step) -> State:
        device = wanted.mask.device
        levels = torch.full((len(wanted.indices),), step.level, device=device)
        with products(self.module.precision, device.type):
            return self.module.predict(point, levels, wanted.atomic_numbers, wanted.mask)


def _noise(generator: torch.Generator) -> Noise:
    return lambda like: torch.randn(like.shape, device=like.device, generator=generator)
