"""Neighbours of atoms in periodic cells as dense tables: each atom has slots, a slot holds an incoming edge.

Every edge is stored in both directions, with the slot of its reverse. `edges` holds operations on them.
"""

import itertools
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# The 27 cells around and including the home cell, in lexicographic order: the opposite of number r is 26 - r.
IMAGES = tuple(itertools.product((-1.0, 0.0, 1.0), repeat=3))
HOME = 13
SAME_PLACE = 1e-4  # Å²: atoms that are closer count as the same atom (CDVAE)
SLOT_STEP = 4


@dataclass(frozen=True)
class PeriodicGraph:
    """Edges into each atom.

    source: the atom an edge comes from, in the cell shifted by `image`; slots without an edge have mask False, their
    own atom as source and image 0. reverse: atom · slots + slot of the same edge seen from its source; without an edge,
    of the slot itself. needed: largest number of edges of an atom in each crystal; a crystal that needs more slots than
    available has lost edges.
    """

    source: Int[Tensor, "batch atoms slots"]
    image: Float[Tensor, "batch atoms slots 3"]
    mask: Bool[Tensor, "batch atoms slots"]
    reverse: Int[Tensor, "batch edges"]
    needed: Int[Tensor, "batch"]

    @property
    def slots(self) -> int:
        """Slots per atom."""
        return self.mask.shape[2]


@torch.no_grad()
def nearest_graph(
    frac_coords: Float[Tensor, "batch atoms 3"],
    lattice: Float[Tensor, "batch 3 3"],
    mask: Bool[Tensor, "batch atoms"],
    *,
    cutoff: float = 7.0,
    neighbours: int = 20,
    slots: int = 0,
) -> PeriodicGraph:
    """Returns CDVAE's graph of the decoder: nearest atoms within a cut-off, symmetrised.

    Every atom t selects its nearest `neighbours` atoms s within `cutoff` Å among 27 images. Of these edges s → t only
    those with s < t, or s = t and an image that is lexicographically negative, are kept, and their reverses added. So
    an atom may have more or fewer neighbours than it selected. Coordinates must lie in [0, 1). Cells so skewed that a
    neighbour lies beyond the 27 images lose it; a crystal whose geometry is not finite has no edges. slots: per atom;
    edges beyond them are dropped together with their reverses, the longest first. 0: as many as needed (waits for the
    device).
    """
    batch, atoms = mask.shape
    squares = _squared_distances(frac_coords, lattice)
    near = (squares > SAME_PLACE) & (squares <= cutoff**2) & (mask.unsqueeze(1) & mask.unsqueeze(2)).unsqueeze(-1)
    # Axes: batch, target, source, image.
    chosen = _smallest(squares, near, neighbours) & _one_sided(atoms, mask.device)
    edges = chosen | chosen.transpose(1, 2).flip(-1)
    degree = edges.flatten(2).sum(dim=-1)
    if slots == 0:
        slots = max(SLOT_STEP * -(-int(degree.max()) // SLOT_STEP), SLOT_STEP)
    slots = min(slots, 27 * atoms)
    distance = squares.masked_fill(~edges, torch.inf).flatten(2)
    kept, candidate = distance.topk(slots, dim=-1, largest=False)
    present = torch.isfinite(kept)
    slot_numbers = torch.arange(slots, device=mask.device).expand(batch, atoms, -1)
    # Slot of each candidate (source, image) at its target, -1 where dropped.
    slot_of = torch.full_like(distance, -1, dtype=torch.int64).scatter_(-1, candidate, slot_numbers.where(present, -1))
    # A candidate's index is 27 · source + image.
    source, image = candidate // 27, candidate % 27
    target = torch.arange(atoms, device=mask.device)[:, None]
    # The reverse edge: source and target exchanged, opposite image.
    row = 27 * atoms * source + 27 * target + (26 - image)
    opposite = slot_of.flatten(1).gather(1, row.flatten(1)).unflatten(1, (atoms, slots))
    # An edge whose reverse found no slot is dropped, so the graph stays symmetric.
    present = present & (opposite >= 0)
    own = target * slots + slot_numbers
    return PeriodicGraph(
        source=source.where(present, target),
        image=_images(mask.device)[image.where(present, HOME)],
        mask=present,
        reverse=(source * slots + opposite).where(present, own).flatten(1),
        needed=degree.amax(dim=-1),
    )


def minimum_image(
    start: Float[Tensor, "batch atoms 3"], end: Float[Tensor, "batch atoms 3"], lattice: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch atoms 3"]:
    """Returns the shortest vector (Å) from start to the 27 images of end; coordinates must lie in [0, 1)."""
    with torch.autocast(lattice.device.type, enabled=False):
        images = _images(lattice.device) @ lattice
        vectors = ((end - start) @ lattice).unsqueeze(2) + images.unsqueeze(1)
        shortest = vectors.square().sum(dim=-1).argmin(dim=-1)
        return vectors.gather(2, shortest[..., None, None].expand(-1, -1, 1, 3)).squeeze(2)


def _images(device: torch.device) -> Float[Tensor, "27 3"]:
    """Returns IMAGES, computed on the device, since a copy would make the host wait."""
    number = torch.arange(27, device=device)
    return torch.stack([number // 9, number // 3 % 3, number % 3], dim=-1).float() - 1.0


def _squared_distances(
    frac_coords: Float[Tensor, "batch atoms 3"], lattice: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch atoms atoms 27"]:
    with torch.autocast(lattice.device.type, enabled=False):
        images = _images(lattice.device) @ lattice
        # (f_source - f_target) L: (batch, target, source, 3)
        within = (frac_coords.unsqueeze(1) - frac_coords.unsqueeze(2)) @ lattice.unsqueeze(1)
        # One Cartesian component at a time, to keep the largest tensor small.
        parts = ((within[..., i].unsqueeze(-1) + images[:, None, None, :, i]).square() for i in range(3))
        return reduce(add, parts)


def _smallest(
    values: Float[Tensor, "batch atoms atoms 27"], allowed: Bool[Tensor, "batch atoms atoms 27"], number: int
) -> Bool[Tensor, "batch atoms atoms 27"]:
    """Returns which values are among the smallest allowed ones of their row of atoms and images."""
    flat = values.masked_fill(~allowed, torch.inf).flatten(2)
    present, index = flat.topk(min(number, flat.shape[-1]), dim=-1, largest=False)
    member = torch.zeros_like(flat, dtype=torch.bool).scatter_(-1, index, torch.isfinite(present))
    return member.view_as(values)


def _one_sided(atoms: int, device: torch.device) -> Bool[Tensor, "atoms atoms 27"]:
    target = torch.arange(atoms, device=device)[:, None, None]
    source = torch.arange(atoms, device=device)[None, :, None]
    return (source < target) | ((source == target) & (torch.arange(27, device=device) < HOME))
