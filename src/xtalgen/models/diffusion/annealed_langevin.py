"""From latent vectors to crystals: CDVAE's heads, then annealed Langevin dynamics of the atoms (Xie et al. 2022).

Langevin dynamics (Song & Ermon 2019, algorithm 1) on noise levels σ_1 > … > σ_L, with T steps on each:
x ← x + α F / σ + √(2 α) ε, α = step_rate (σ / σ_L)², x in Å and F / σ the score predicted by the decoder.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models.diffusion.vae import CrystalVAE, geometric, inverse, multiply
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.lattices import lattice_from_parameters
from xtalgen.models.networks.periodic_graph import PeriodicGraph, nearest_graph
from xtalgen.models.sampling.requests import RequestBatch, in_batches
from xtalgen.training.batches import MAX_ELEMENT, mix_seed
from xtalgen.training.performance import MOST_PROGRAMS

# Slots are added in multiples of this, so that matrix products stay efficient and few graphs are recorded.
ROOM = 8
ROUNDING = 1e-3  # of fractional coordinates, in one step
# Records a step for replay on the device without the host.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CDVAESampling:
    """Settings of annealed Langevin dynamics; the defaults are CDVAE's.

    levels: of noise, geometric between the ends that the training used; steps: at each level; step_rate: α at the
    lowest level in Å², growing with the square of the noise; min_sigma: Å, no noise is added at levels at or below it;
    batch_size: crystals that run together; slots: initial number of neighbours per atom in the decoder's tables, 0 for
    as many as needed; compile: compile the step; precision: of matrix products; "trained" keeps that of the training.
    """

    levels: int = 50
    steps: int = 100
    step_rate: float = 1e-4
    min_sigma: float = 0.0
    batch_size: int = 500
    slots: int = 0
    compile: bool = False
    precision: Literal["trained", "float32", "bfloat16"] = "trained"

    def __post_init__(self) -> None:
        for name in ("levels", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.slots < 0 or self.step_rate < 0 or self.min_sigma < 0:
            raise ValueError("slots, step_rate and min_sigma must not be negative.")


@dataclass(frozen=True)
class Start:
    """Crystals before the dynamics, padded. fixed: whether the elements are given and kept."""

    latent: Float[Tensor, "batch latent"]
    numbers: Int[Tensor, "batch atoms"]
    frac_coords: Float[Tensor, "batch atoms 3"]
    lattice: Float[Tensor, "batch 3 3"]
    mask: Bool[Tensor, "batch atoms"]
    fixed: bool


@torch.inference_mode()
def decode(
    module: CrystalVAE,
    latents: Float[Tensor, "crystals latent"],
    sampling: CDVAESampling,
    seed: int,
    *,
    counts: Sequence[int] | None = None,
    numbers: Sequence[np.ndarray] | None = None,
) -> list[Crystal]:
    """Returns a crystal for each latent vector, in order; ids are empty.

    counts: the numbers of atoms, instead of the head's; numbers: the elements, instead of those of the composition head
    and the type head. Status is "bad_lattice" when the predicted cell cannot exist, "not_finite" when the dynamics
    diverged, and as in `in_batches` for impossible compositions. Initial coordinates depend on the seed and the index,
    the noise of the dynamics also on batch size and device.
    """
    # N = argmax of the count head, then an initial composition from the composition head.
    fixed = numbers is not None
    if numbers is None:
        if counts is None:
            assert module.head_count is not None  # the task is dng
            counts = module.head_count(latents).argmax(dim=1).tolist()
        numbers = _compositions(module, latents, counts, seed)

    def make(batch: RequestBatch) -> list[Crystal]:
        return _decode_batch(module, latents[batch.indices], batch, fixed=fixed, sampling=sampling, seed=seed)

    return in_batches(numbers, sampling.batch_size, str(latents.device), make)


@torch.inference_mode()
def anneal(
    module: CrystalVAE,
    start: Start,
    sampling: CDVAESampling,
    generator: torch.Generator,
    record: Recorder | None = None,
) -> tuple[Float[Tensor, "batch atoms 3"], Int[Tensor, "batch atoms"]]:
    """Returns coordinates in [0, 1) and elements after the dynamics. The cells are fixed.

    Each step moves atoms by α F / σ + √(2 α) ε in Å, with α = step_rate (σ / σ_min)² and F the decoder's vectors; then,
    unless they are given, the elements become the most likely ones. record: records a step for replay without the host;
    by default a CUDA graph on a GPU and nothing elsewhere.
    """
    noise = module.noise
    dynamics = _Dynamics(module, start, sampling, generator, record)
    # α = step_rate (σ / σ_L)²: larger steps at higher noise (Song & Ermon 2019, algorithm 1).
    for sigma in geometric(noise.coords_begin, noise.coords_end, sampling.levels).tolist():
        alpha = sampling.step_rate * (sigma / noise.coords_end) ** 2
        # √(2 α), in Å
        spread = (2 * alpha) ** 0.5 if sigma > sampling.min_sigma else 0.0
        dynamics.run(sampling.steps, rate=alpha / sigma, spread=spread)
    return dynamics.coords, dynamics.numbers


class _Dynamics:
    """The state of the dynamics, in tensors that are updated in place, so that one recorded step can be replayed.

    With a fixed number of slots the host synchronises with the device once per level, to check whether an atom had more
    neighbours than slots; if so, the level is repeated with more slots. No edge is ever lost.
    """

    def __init__(
        self,
        module: CrystalVAE,
        start: Start,
        sampling: CDVAESampling,
        generator: torch.Generator,
        record: Recorder | None,
    ) -> None:
        self.network, self.head_types, self.start, self.generator = module.network, module.head_types, start, generator
        self.compile = sampling.compile
        self.record = record or (record_cuda if start.lattice.device.type == "cuda" else None)
        self.coords, self.numbers = start.frac_coords.clone(), start.numbers.clone()
        self.noise, self.inverse = torch.zeros_like(self.coords), inverse(start.lattice)
        self.rate, self.spread = self.coords.new_zeros(()), self.coords.new_zeros(())
        self.needed = torch.zeros((), dtype=torch.int64, device=self.coords.device)
        precision = module.precision if sampling.precision == "trained" else sampling.precision
        self.bfloat16 = precision == "bfloat16"
        self.network.slots = sampling.slots
        if not sampling.slots and (self.record or self.compile):
            self._make_room(int(self._graph().needed.max()))
        self.step: Callable[[], None] | None = None

    def run(self, steps: int, *, rate: float, spread: float) -> None:
        """Runs the steps of a level: atoms move by rate · F + spread · ε."""
        self.rate.fill_(rate)
        self.spread.fill_(spread)
        while True:
            self.needed.zero_()
            self.step = self.step or self._prepared()
            before = self._state()
            for _ in range(steps):
                if spread:
                    self.noise.normal_(generator=self.generator)
                self.step()
            if not self.network.slots or (needed := int(self.needed)) <= self.network.slots:
                return
            logger.info("%d slots were too few, %d were needed: the level is repeated", self.network.slots, needed)
            self._make_room(needed)
            self._restore(before)
            self.step = None

    def _prepared(self) -> Callable[[], None]:
        """Returns the step for the current number of slots, recorded if that works and gives equal results."""
        self.advance = self._advance
        if self.compile:
            # One compiled program per batch shape and number of slots.
            torch.compiler.config.recompile_limit = MOST_PROGRAMS
            self.advance = torch.compile(self._advance, fullgraph=True, dynamic=False)
        if self.record is None:
            return self._in_place
        before = self._state()
        try:
            self._in_place()
            wanted = self.coords.clone()
            replay = self.record(self._in_place)
            self._restore(before)
            replay()
            if _same(self.coords, wanted):
                return replay
            reason = "its result differs"
        except RuntimeError as error:
            reason = str(error)
        finally:
            self._restore(before)
        logger.warning("the steps cannot be recorded as a CUDA graph, so sampling is slower: %s", reason)
        self.record = None
        return self._in_place

    def _in_place(self) -> None:
        coords, numbers, needed = self.advance(self.coords, self.numbers, self.noise, self.rate, self.spread)
        self.coords.copy_(coords)
        self.numbers.copy_(numbers)
        self.needed.copy_(torch.maximum(self.needed, needed))

    def _advance(
        self, coords: Tensor, numbers: Tensor, noise: Tensor, rate: Tensor, spread: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns coordinates and elements after a step, and the number of slots needed."""
        start = self.start
        with torch.autocast(coords.device.type, torch.bfloat16, enabled=self.bfloat16):
            # Hidden atoms (batch, atoms, hidden); F (batch, atoms, 3) in units of σ, so the score is F / σ.
            atoms, vectors, needed = self.network(start.latent, numbers, coords, start.lattice, start.mask)
            logits = None if start.fixed else self.head_types(atoms)
        # f ← f + (rate F + spread ε) L⁻¹, F and ε in Å: (batch, atoms, 3)
        moved = coords + multiply(vectors * rate + noise * spread, self.inverse)
        coords = torus.wrap(moved) * start.mask.unsqueeze(-1)
        if logits is not None:
            # As in CDVAE, elements become the most likely ones after every step.
            numbers = (logits.argmax(dim=-1) + 1) * start.mask
        return coords, numbers, needed.max()

    def _state(self) -> tuple[Tensor, ...]:
        return self.coords.clone(), self.numbers.clone(), self.needed.clone(), self.generator.get_state()

    def _restore(self, state: tuple[Tensor, ...]) -> None:
        for kept, value in zip((self.coords, self.numbers, self.needed), state, strict=False):
            kept.copy_(value)
        self.generator.set_state(state[-1])

    def _graph(self) -> PeriodicGraph:
        network = self.network
        return nearest_graph(
            self.coords, self.start.lattice, self.start.mask, cutoff=network.cutoff, neighbours=network.neighbours
        )

    def _make_room(self, needed: int) -> None:
        self.network.slots = ROOM * -(-max(needed, 1) // ROOM)


def _same(coords: Tensor, wanted: Tensor) -> bool:
    """Whether coordinates are equal up to rounding, modulo 1."""
    away = torus.log_map(coords, wanted).abs()
    return torch.equal(coords.isfinite(), wanted.isfinite()) and not bool((away > ROUNDING).any())


def record_cuda(step: Callable[[], None]) -> Callable[[], None]:
    """Returns the replay of a CUDA graph of the step, which must update its tensors in place.

    Runs the step three times first, as recording requires.
    """
    # CUDA graphs must be warmed up on a side stream before capture.
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _decode_batch(
    module: CrystalVAE,
    latents: Float[Tensor, "batch latent"],
    batch: RequestBatch,
    *,
    fixed: bool,
    sampling: CDVAESampling,
    seed: int,
) -> list[Crystal]:
    start, exists = _start(module, latents, batch, fixed=fixed, seed=seed)
    generator = torch.Generator(latents.device).manual_seed(mix_seed(seed, 2, batch.indices[0]))
    # Cells and numbers of atoms are fixed; only coordinates and elements evolve.
    moved, elements = anneal(module, start, sampling, generator)
    finite = (torch.isfinite(moved).all(dim=(1, 2)) & torch.isfinite(latents).all(dim=1)).tolist()
    lattices, coords = start.lattice.double().cpu().numpy(), torus.wrap(moved.double()).cpu().numpy()
    kept = elements.cpu().numpy().astype(np.uint8)
    crystals = []
    for row, n in enumerate(batch.n_atoms):
        if not finite[row]:
            crystals.append(Crystal("", "not_finite", atomic_numbers=kept[row, :n]))
        elif not exists[row]:
            crystals.append(Crystal("", "bad_lattice", atomic_numbers=kept[row, :n]))
        else:
            crystals.append(Crystal("", "ok", lattices[row], coords[row, :n], kept[row, :n]))
    return crystals


def _start(
    module: CrystalVAE, latents: Float[Tensor, "batch latent"], batch: RequestBatch, *, fixed: bool, seed: int
) -> tuple[Start, list[bool]]:
    """Returns uniform coordinates in the predicted cells, and which cells are valid; others become unit cells."""
    (coords,) = batch.draw(seed, lambda n, generator: (torch.rand(n, 3, generator=generator),))
    standardised = module.lattice_of(latents, batch.atomic_numbers, batch.mask)
    lengths, angles, exists = module.parameters_of(standardised, batch.mask.sum(dim=1))
    # An impossible cell would spread NaN through the batch; its crystal is rejected afterwards.
    lengths = torch.where(exists.unsqueeze(1), lengths, torch.full_like(lengths, 10.0))
    angles = torch.where(exists.unsqueeze(1), angles, torch.full_like(angles, 90.0))
    lattice = lattice_from_parameters(lengths, angles)
    return Start(latents, batch.atomic_numbers, coords, lattice, batch.mask, fixed), exists.tolist()


def _compositions(
    module: CrystalVAE, latents: Float[Tensor, "crystals latent"], counts: Sequence[int], seed: int
) -> list[Int[np.ndarray, "atoms"]]:
    """Returns elements drawn from the composition head, see `sample_composition`."""
    logits = module.composition(latents)
    assert logits is not None  # the task is dng
    shares = logits.softmax(dim=-1).double().cpu().numpy()
    return [
        sample_composition(share, count, np.random.default_rng(mix_seed(seed, 3, index)))
        for index, (share, count) in enumerate(zip(shares, counts, strict=True))
    ]


def sample_composition(
    share: Float[np.ndarray, "elements"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "atoms"]:
    """Returns `count` atomic numbers with the shares of the elements, in random order.

    Each element occurs round(share · count) times; missing atoms are drawn from the positive remainders of the shares,
    and surplus atoms are cut off after shuffling.
    """
    share = np.nan_to_num(share, nan=1.0 / MAX_ELEMENT)
    # round(share · N) atoms of each element, as in CDVAE's sampler.
    rounded = np.round(share * count)
    chosen = np.repeat(np.arange(1, len(share) + 1), rounded.astype(np.int64))
    missing = count - len(chosen)
    if missing > 0:
        # The remainder is drawn from what rounding took away.
        rest = np.maximum(share - rounded / count, 0.0)
        rest = rest if rest.sum() > 0 else share
        chosen = np.concatenate([chosen, rng.choice(len(share), size=missing, p=rest / rest.sum()) + 1])
    return rng.permutation(chosen)[:count]
