"""Shared by all samplers: sizes drawn from a histogram, batches of similar size, crystals from final tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models.manifolds import torus
from xtalgen.structure.elements import MAX_VALID_NUMBER
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.training.batches import MAX_ATOMS, MAX_ELEMENT, bucket_ceiling, mask_of, mix_seed
from xtalgen.training.checkpoint import load_checkpoint
from xtalgen.training.loop import Trainable
from xtalgen.training.performance import compile_network

# Volume of the cell over a · b · c, squared.
SMALLEST_VOLUME = 1e-9


@dataclass(frozen=True)
class RequestBatch:
    """A batch of crystals to be sampled. atomic_numbers: 0 where unknown, and at padding.

    indices: positions of the crystals in the whole request.
    """

    atomic_numbers: Int[Tensor, "batch atoms"]
    mask: Bool[Tensor, "batch atoms"]
    n_atoms: list[int]
    indices: list[int]

    def draw(self, seed: int, draw: Callable[[int, torch.Generator], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Returns noise that depends only on the seed and a crystal's index: each crystal has its own CPU generator.

        draw: returns tensors (n_atoms, …) or (1, …) of one crystal from its number of atoms and its generator; they are
        padded and stacked to (batch, atoms, …) and (batch, 1, …).
        """
        rows = [
            draw(n, torch.Generator().manual_seed(mix_seed(seed, 1, index)))
            for n, index in zip(self.n_atoms, self.indices, strict=True)
        ]
        return tuple(
            torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True).to(self.mask.device)
            for part in zip(*rows, strict=True)
        )


def read_trained(
    checkpoint: Path, wanted: int | Sequence[np.ndarray], device: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns weights and metadata of a checkpoint. Raises ValueError when it was trained for another task."""
    weights, facts = load_checkpoint(checkpoint, device)
    asked = "dng" if isinstance(wanted, int) else "csp"
    if facts["task"] != asked:
        raise ValueError(f"{checkpoint}: trained for {facts['task']!r}, cannot sample {asked!r}. Train that task.")
    return weights, facts


def make_ready(module: Trainable, weights: dict[str, Tensor], device: str, *, compiled: bool) -> None:
    """Loads trained weights into a module, moves it to the device and optionally compiles its network."""
    module.load_state_dict(weights)
    module.to(device).eval()
    if compiled:
        compile_network(module.network)


def histogram_of(n_atoms: np.ndarray) -> dict[str, int]:
    """Returns how often each number of atoms occurs, in the form stored in checkpoints."""
    sizes, counts = np.unique(n_atoms, return_counts=True)
    return {str(size): int(count) for size, count in zip(sizes, counts, strict=True)}


def draw_sizes(histogram: Mapping[str, int], number: int, seed: int) -> list[np.ndarray]:
    """Returns an array of zeros for each crystal, of a length drawn from the training set's histogram."""
    chances = np.array(list(histogram.values()), dtype=np.float64)
    rng = np.random.default_rng(mix_seed(seed, 0))
    counts = rng.choice([int(size) for size in histogram], size=number, p=chances / chances.sum())
    return [np.zeros(count, dtype=np.int64) for count in counts]


def in_batches(
    wanted: Sequence[np.ndarray], batch_size: int, device: str, make: Callable[[RequestBatch], list[Crystal]]
) -> list[Crystal]:
    """Returns a crystal for each array of atomic numbers (0 where unknown), in order; similar sizes run together.

    Impossible compositions give failed crystals, of status "no_atoms", "too_large" or "unknown_element".
    """
    results = {i: crystal for i, numbers in enumerate(wanted) if (crystal := impossible(numbers))}
    # Similar sizes share batches, which keeps padding small.
    order = sorted(set(range(len(wanted))) - set(results), key=lambda i: bucket_ceiling(len(wanted[i])))
    for first in range(0, len(order), batch_size):
        indices = order[first : first + batch_size]
        results.update(zip(indices, make(_pad([wanted[i] for i in indices], indices, device)), strict=True))
    return [results[i] for i in range(len(wanted))]


def impossible(numbers: np.ndarray) -> Crystal | None:
    """Returns the failed crystal of a composition that the networks cannot represent, or None."""
    status = (
        "no_atoms"
        if len(numbers) == 0
        else "too_large"
        if len(numbers) > MAX_ATOMS
        else "unknown_element"
        if np.any(np.asarray(numbers) > MAX_ELEMENT)
        else None
    )
    return None if status is None else Crystal(id="", status=status, atomic_numbers=np.asarray(numbers, dtype=np.uint8))


def to_crystals(
    lengths: Float[Tensor, "batch 3"],
    angles: Float[Tensor, "batch 3"],
    frac_coords: Float[Tensor, "batch atoms 3"],
    atomic_numbers: Int[Tensor, "batch atoms"],
    n_atoms: Sequence[int],
) -> list[Crystal]:
    """Returns the crystals at the end of sampling, in canonical orientation. lengths in Å, angles in degrees.

    Status is "unknown_element" when an atomic number is above 104, "bad_lattice" when the cell cannot exist,
    "not_finite" when a number is not finite: then there is no geometry.
    """
    lengths, angles = lengths.double(), angles.double()
    cosines = torch.deg2rad(angles).cos()
    # (V / abc)² = 1 - Σ cos² + 2 Π cos
    volume = 1.0 - (cosines**2).sum(dim=-1) + 2.0 * cosines.prod(dim=-1)
    possible = ((lengths > 0).all(dim=-1) & (volume > SMALLEST_VOLUME)).tolist()
    lattices = lattice_from_parameters(lengths.cpu().numpy(), angles.cpu().numpy())
    coords = torus.wrap(frac_coords.double()).cpu().numpy()
    elements = atomic_numbers.cpu().numpy()
    crystals = []
    for row, n in enumerate(n_atoms):
        numbers = elements[row, :n].astype(np.uint8)
        if not (np.isfinite(lattices[row]).all() and np.isfinite(coords[row, :n]).all()):
            crystals.append(Crystal(id="", status="not_finite", atomic_numbers=numbers))
            continue
        known = numbers.max() <= MAX_VALID_NUMBER
        status = "bad_lattice" if not possible[row] else "ok" if known else "unknown_element"
        crystals.append(Crystal("", status, lattices[row], coords[row, :n], numbers))
    return crystals


def _pad(wanted: Sequence[np.ndarray], indices: Sequence[int], device: str) -> RequestBatch:
    width = max(len(numbers) for numbers in wanted)
    padded = np.zeros((len(wanted), width), dtype=np.int64)
    for row, numbers in enumerate(wanted):
        padded[row, : len(numbers)] = numbers
    n_atoms = [len(numbers) for numbers in wanted]
    mask = mask_of(torch.tensor(n_atoms, device=device), width)
    return RequestBatch(torch.from_numpy(padded).to(device), mask, n_atoms, list(indices))
