"""From latent vectors to crystals: CDVAE's heads, then annealed Langevin dynamics of the atoms (Xie et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models.nn import torus
from xtalgen.models.nn.batches import MAX_ELEMENT, bucket_ceiling, mask_of, mix_seed
from xtalgen.models.nn.crystal_vae import CrystalVAE, cartesian_to_frac, geometric
from xtalgen.models.nn.lattices import lattice_from_parameters


@dataclass(frozen=True)
class CDVAESampling:
    """Settings of annealed Langevin dynamics; the defaults are CDVAE's.

    levels: of noise, geometric between the ends that the training used; steps: at each level; step_rate: α at the
    lowest level in Å², growing with the square of the noise; min_sigma: Å, no noise is added at levels at or below it;
    batch_size: crystals that run together; slots: neighbours per atom that the decoder has room for, 0 for as many as
    needed (a fixed number, say 40, lets a GPU run ahead); compile: compiles the decoder.
    """

    levels: int = 50
    steps: int = 100
    step_rate: float = 1e-4
    min_sigma: float = 0.0
    batch_size: int = 500
    slots: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("levels", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.slots < 0 or self.step_rate < 0 or self.min_sigma < 0:
            raise ValueError("slots, step_rate and min_sigma must not be negative.")


@dataclass(frozen=True)
class Start:
    """Crystals before the dynamics, padded: latent vectors, elements, coordinates and cells, and which may change.

    fixed: whether the elements are given.
    """

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
    and the type head. Status is "no_atoms" when the number of atoms is 0, "bad_lattice" when the predicted cell cannot
    exist, "not_finite" when a number on the way was not finite. Starting points depend on the seed and the place, the
    noise of the dynamics also on batch size and device.
    """
    if numbers is not None:
        counts = [len(known) for known in numbers]
    if counts is None:
        counts = module.head_count(latents).argmax(dim=1).tolist()
    if numbers is None:
        numbers = _compositions(module, latents, counts, seed)
        fixed = False
    else:
        fixed = True
    found: dict[int, Crystal] = {
        i: Crystal("", "no_atoms", atomic_numbers=np.zeros(0, dtype=np.uint8)) for i, n in enumerate(counts) if n == 0
    }
    order = sorted(set(range(len(latents))) - set(found), key=lambda i: bucket_ceiling(counts[i]))
    for first in range(0, len(order), sampling.batch_size):
        places = order[first : first + sampling.batch_size]
        crystals = _decode_batch(
            module, latents[places], [numbers[i] for i in places], places, fixed=fixed, sampling=sampling, seed=seed
        )
        found.update(zip(places, crystals, strict=True))
    return [found[i] for i in range(len(latents))]


@torch.inference_mode()
def anneal(
    module: CrystalVAE, start: Start, sampling: CDVAESampling, generator: torch.Generator
) -> tuple[Float[Tensor, "batch atoms 3"], Int[Tensor, "batch atoms"]]:
    """Returns coordinates in [0, 1) and elements after the dynamics. The cells stay.

    Each step moves atoms by α F / σ + √(2 α) ε in Å, with α = step_rate (σ / σ_min)² and F the decoder's vectors; then,
    unless they are given, the elements become the most likely ones.
    """
    noise = module.noise
    levels = geometric(noise.coords_begin, noise.coords_end, sampling.levels).tolist()
    coords, numbers = start.frac_coords, start.numbers
    inside = start.mask.unsqueeze(-1)
    for sigma in levels:
        alpha = sampling.step_rate * (sigma / noise.coords_end) ** 2
        spread = (2 * alpha) ** 0.5 if sigma > sampling.min_sigma else 0.0
        for _ in range(sampling.steps):
            with torch.autocast(coords.device.type, torch.bfloat16, enabled=module.precision == "bfloat16"):
                atoms, vectors = module.network(start.latent, numbers, coords, start.lattice, start.mask)
                logits = None if start.fixed else module.head_types(atoms)
            shift = vectors * (alpha / sigma)
            if spread:
                shift = shift + spread * torch.randn(coords.shape, device=coords.device, generator=generator)
            coords = torus.wrap(coords + cartesian_to_frac(shift, start.lattice)) * inside
            if logits is not None:
                numbers = (logits.argmax(dim=-1) + 1) * start.mask
    return coords, numbers


def _decode_batch(
    module: CrystalVAE,
    latents: Float[Tensor, "batch latent"],
    numbers: Sequence[np.ndarray],
    places: Sequence[int],
    *,
    fixed: bool,
    sampling: CDVAESampling,
    seed: int,
) -> list[Crystal]:
    start, exists = _start(module, latents, numbers, places, seed)
    start = replace(start, fixed=fixed)
    module.network.slots = sampling.slots
    generator = torch.Generator(latents.device).manual_seed(mix_seed(seed, 1, places[0]))
    coords, elements = anneal(module, start, sampling, generator)
    lattices, coords = start.lattice.double().cpu().numpy(), torus.wrap(coords.double()).cpu().numpy()
    crystals = []
    for row, known in enumerate(numbers):
        kept = elements[row, : len(known)].cpu().numpy().astype(np.uint8)
        finite = np.isfinite(coords[row]).all() and bool(torch.isfinite(latents[row]).all())
        if not finite:
            crystals.append(Crystal("", "not_finite", atomic_numbers=kept))
        elif not exists[row]:
            crystals.append(Crystal("", "bad_lattice", atomic_numbers=kept))
        else:
            crystals.append(Crystal("", "ok", lattices[row], coords[row, : len(known)], kept))
    return crystals


def _start(
    module: CrystalVAE,
    latents: Float[Tensor, "batch latent"],
    numbers: Sequence[np.ndarray],
    places: Sequence[int],
    seed: int,
) -> tuple[Start, list[bool]]:
    """Returns uniform coordinates in the predicted cells, and which of these exist; the others get a unit cell."""
    counts = torch.tensor([len(known) for known in numbers], device=latents.device)
    width = int(counts.max())
    mask = mask_of(counts, width)
    padded = np.zeros((len(numbers), width), dtype=np.int64)
    coords = torch.zeros(len(numbers), width, 3)
    for row, (known, place) in enumerate(zip(numbers, places, strict=True)):
        padded[row, : len(known)] = known
        coords[row, : len(known)] = torch.rand(
            len(known), 3, generator=torch.Generator().manual_seed(mix_seed(seed, 2, place))
        )
    elements = torch.from_numpy(padded).to(latents.device)
    lengths, angles, exists = module.parameters_of(module.lattice_of(latents, elements, mask), counts)
    lengths = torch.where(exists.unsqueeze(1), lengths, torch.full_like(lengths, 10.0))
    angles = torch.where(exists.unsqueeze(1), angles, torch.full_like(angles, 90.0))
    lattice = lattice_from_parameters(lengths, angles)
    return Start(latents, elements, coords.to(latents.device), lattice, mask, fixed=False), exists.tolist()


def _compositions(
    module: CrystalVAE, latents: Float[Tensor, "crystals latent"], counts: Sequence[int], seed: int
) -> list[Int[np.ndarray, "atoms"]]:
    """Returns elements by the composition head: of each, its share rounded; the rest drawn from what is missing."""
    shares = module.composition(latents).softmax(dim=-1).double().cpu().numpy()
    return [
        sample_composition(share, count, np.random.default_rng(mix_seed(seed, 3, place)))
        for place, (share, count) in enumerate(zip(shares, counts, strict=True))
    ]


def sample_composition(
    share: Float[np.ndarray, "elements"], count: int, rng: np.random.Generator
) -> Int[np.ndarray, "atoms"]:
    """Returns `count` atomic numbers with the shares of the elements, in random order.

    Each element stands round(share · count) times; missing atoms are drawn from the positive rest of the shares, and
    surplus atoms cut off after shuffling.
    """
    share = np.nan_to_num(share, nan=1.0 / MAX_ELEMENT)
    rounded = np.round(share * count)
    chosen = np.repeat(np.arange(1, len(share) + 1), rounded.astype(np.int64))
    missing = count - len(chosen)
    if missing > 0:
        rest = np.maximum(share - rounded / count, 0.0)
        rest = rest if rest.sum() > 0 else share
        chosen = np.concatenate([chosen, rng.choice(len(share), size=missing, p=rest / rest.sum()) + 1])
    return rng.permutation(chosen)[:count]
