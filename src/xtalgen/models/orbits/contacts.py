"""The shortest distances of pairs of elements in the training set, and the removal of shorter contacts from crystals.

Free coordinates x and a swelling s of the cell (all lengths times exp(s / 3)) descend E = Σ max(0, c - d / d₀)², over
pairs of atoms and 27 images, with d their distance, d₀ that of the training set and c = ENOUGH. Symmetry, formula and
shape of the cell stay. Cost: 27 images times atoms² distances per crystal and step, only for crystals with a contact.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models.orbits.steps import Groups, WyckoffCrystal, affine_of
from xtalgen.training.batches import MAX_ATOMS, MAX_ELEMENT

# Quantile of the shortest distances of a pair of elements over the crystals containing it; outliers lie below.
ODD = 0.002
# d / d₀ below which a contact is too short, and the value to which it is lengthened.
TOO_NEAR, ENOUGH = 0.8, 0.85
IMAGES = torch.tensor(list(itertools.product((-1, 0, 1), repeat=3)), dtype=torch.float64)
# Steps between checks for contacts; initial step length, decaying to 0; displacement that separates equal positions.
ROUND, RATE, JITTER = 10, 0.03, 1e-3
SWELLING = 0.1  # step length of the swelling, relative to that of the coordinates
TINY = 1e-12


def pair_distances(crystals: Sequence[Crystal]) -> Float[np.ndarray, "elements elements"]:
    """Returns d₀ (Å) by atomic numbers: the 0.2 % quantile of the shortest distance of two elements over the crystals.

    A pair that does not occur gets the mean of both elements' smallest d₀; with an element that does not occur, 0.
    """
    shortest: dict[tuple[int, int], list[float]] = {}
    for crystal in crystals:
        apart = _shortest(crystal)
        numbers = crystal.atomic_numbers.astype(int)
        kinds = np.unique(numbers)
        for first, second in itertools.combinations_with_replacement(kinds.tolist(), 2):
            # One value per crystal and pair, however many atoms it has.
            block = apart[np.ix_(numbers == first, numbers == second)]
            shortest.setdefault((first, second), []).append(float(block.min()))
    table = np.zeros((MAX_ELEMENT + 1, MAX_ELEMENT + 1))
    for (first, second), values in shortest.items():
        table[first, second] = table[second, first] = np.quantile(values, ODD)
    # Pairs that no crystal contains: the mean of the smallest distances of the two elements, like a sum of radii.
    nearest = np.where(table > 0, table, np.inf).min(axis=1)
    nearest[~np.isfinite(nearest)] = 0.0
    unseen = (nearest[:, None] + nearest[None]) / 2
    return np.where(table > 0, table, np.where((nearest[:, None] > 0) & (nearest[None] > 0), unseen, 0.0))


def move_apart(
    written: Sequence[WyckoffCrystal],
    groups: Groups,
    distances: Float[np.ndarray, "elements elements"],
    steps: int,
    device: str = "cpu",
) -> list[WyckoffCrystal]:
    """Moves atoms that are too close apart, in at most `steps` steps, and returns the crystals.

    distances: d₀ in Å (`pair_distances`). The result for a crystal does not depend on the other crystals.
    """
    result = list(written)
    active = list(range(len(result)))
    # The step length decays linearly; finished crystals drop out between rounds.
    for first in range(0, steps, ROUND):
        if active:
            problem = _Problem([result[row] for row in active], groups, distances, device)
            active = [active[row] for row in problem.too_near()]
        if not active:
            break
        problem = _Problem([result[row] for row in active], groups, distances, device)
        rate = RATE * (1.0 - first / steps)
        free, swelling = problem.solve(min(ROUND, steps - first), rate, shake=first == 0)
        for row, values, swollen in zip(active, free.tolist(), swelling.tolist(), strict=True):
            whole = tuple(value % 1.0 for value in values[: len(result[row].free)])
            result[row] = replace(result[row], free=whole, swelling=result[row].swelling + swollen)
    return result


class _Problem:
    """Crystals as dense tensors: positions are maps @ free + shifts, in fractions of the conventional cell."""

    def __init__(
        self,
        written: Sequence[WyckoffCrystal],
        groups: Groups,
        distances: Float[np.ndarray, "elements elements"],
        device: str,
    ) -> None:
        parts = [affine_of(one, groups) for one in written]
        rows, n = len(written), max(len(part.numbers) for part in parts)
        f = max(1, *(len(one.free) for one in written))
        arrays = {
            "maps": np.zeros((rows, n, 3, f)),
            "shifts": np.zeros((rows, n, 3)),
            "free": np.zeros((rows, f)),
            "kept": np.zeros((rows, n, n)),
        }
        for row, (one, part) in enumerate(zip(written, parts, strict=True)):
            atoms, n_free = len(part.numbers), len(one.free)
            arrays["maps"][row, :atoms, :, :n_free] = part.maps
            arrays["shifts"][row, :atoms] = part.shifts
            arrays["free"][row, :n_free] = one.free
            arrays["kept"][row, :atoms, :atoms] = distances[np.ix_(part.numbers, part.numbers)]
        arrays["primitive"] = np.stack([part.primitive for part in parts])
        arrays["cell"] = np.stack([part.cell for part in parts])
        tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
        self.maps, self.shifts, self.free = tensors["maps"], tensors["shifts"], tensors["free"]
        self.kept, self.primitive, self.cell = tensors["kept"], tensors["primitive"], tensors["cell"]
        self.inverse = torch.linalg.inv(self.primitive)
        self.images = IMAGES.to(device)
        # An atom is not its own neighbour in the home cell, but it is in the other images.
        same = torch.eye(n, dtype=torch.bool, device=device).unsqueeze(-1) & (self.images == 0).all(dim=-1)
        self.counts = (self.kept.unsqueeze(-1) > 0) & ~same

    def overlaps(
        self, free: Float[Tensor, "rows free"], swelling: Float[Tensor, " rows"], part: float
    ) -> Float[Tensor, "rows atoms atoms images"]:
        """Returns max(0, part - d / d₀) for all pairs of atoms and images. free: x; swelling: s."""
        coords = torch.einsum("bnkf,bf->bnk", self.maps, free) + self.shifts
        # Differences in fractions of the primitive cell, so that 27 images around the nearest one suffice.
        away = (coords.unsqueeze(2) - coords.unsqueeze(1)) @ self.inverse.unsqueeze(1)
        away = (away - away.detach().round()).unsqueeze(3) + self.images
        # (rows, atoms, atoms, 27, 3), in Å
        vectors = away @ (self.primitive @ self.cell)[:, None, None]
        # All lengths scale with exp(s / 3); s = ln(V / V₀).
        lengths = ((vectors**2).sum(dim=-1) + TINY).sqrt() * torch.exp(swelling / 3)[:, None, None, None]
        short = part - lengths / self.kept.clamp_min(TINY).unsqueeze(-1)
        return torch.where(self.counts, short.clamp_min(0.0), 0.0)

    def too_near(self) -> list[int]:
        """Returns the rows of crystals with a contact that is too short."""
        short = self.overlaps(self.free, torch.zeros_like(self.free[:, 0]), TOO_NEAR)
        return short.flatten(1).any(dim=1).nonzero().squeeze(-1).tolist()

    def solve(self, steps: int, rate: float, *, shake: bool) -> tuple[Tensor, Tensor]:
        """Returns x and s after steps of length `rate` against the gradient of E.

        shake: displace the coordinates first, equally in every crystal: equal positions have no gradient.
        """
        noise = torch.randn(3 * MAX_ATOMS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        free = self.free + (JITTER * noise[: self.free.shape[1]].to(self.free.device) if shake else 0.0)
        swelling = torch.zeros_like(free[:, 0])
        with torch.inference_mode(mode=False), torch.enable_grad():
            for _ in range(steps):
                free, swelling = free.detach().requires_grad_(), swelling.detach().requires_grad_()
                short = self.overlaps(free, swelling, ENOUGH)
                # E = Σ max(0, ENOUGH - d / d₀)²
                slopes = torch.autograd.grad((short**2).sum(), (free, swelling))
                # Norm in the metric in which s counts 1 / SWELLING.
                length = (slopes[0] ** 2).sum(dim=1) + SWELLING * slopes[1] ** 2
                scale = torch.where(length > 0, rate / length.clamp_min(TINY).sqrt(), 0.0)
                # Normalised gradient descent: every crystal moves by `rate`, whatever the size of its overlaps.
                free, swelling = free - scale.unsqueeze(1) * slopes[0], swelling - SWELLING * scale * slopes[1]
        return free.detach(), swelling.detach()


def _shortest(crystal: Crystal) -> Float[np.ndarray, "atoms atoms"]:
    """Returns the shortest distance (Å) of each pair of atoms over 27 images, including an atom and its own images."""
    away = crystal.frac_coords[:, None] - crystal.frac_coords[None]
    away = away - np.round(away)
    vectors = (away[:, :, None] + IMAGES.numpy()) @ crystal.lattice
    squared = (vectors**2).sum(axis=-1)
    atoms = np.arange(crystal.n_atoms)
    squared[atoms, atoms, len(IMAGES) // 2] = np.inf
    return np.sqrt(squared.min(axis=-1))
