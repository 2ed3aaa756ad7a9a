"""Edges of a periodic graph as rows of a table.

Where sizes must not depend on the data (recorded or compiled steps), all slots are rows, including empty ones;
elsewhere only the edges are rows, a quarter to a half fewer. Passing values along edges is a permutation whose gradient
is again a permutation, and sums over neighbours are sums over slots: no scatter is needed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from xtalgen.models.networks.periodic_graph import PeriodicGraph
from xtalgen.models.networks.radial_basis import spherical_harmonics
from xtalgen.training.batches import MAX_ELEMENT


@dataclass(frozen=True)
class Edges:
    """Rows of a batch. shape: crystals, atoms, slots.

    source, target: atoms, numbered through the batch; image: cell of the source; reverse: row of the same edge seen
    from its source; present: whether a row holds an edge (otherwise source is target, and reverse the row itself);
    slot: index of each row among all slots, None when every slot is a row; reached: whether an atom has an edge.
    """

    shape: tuple[int, int, int]
    source: Int[Tensor, "edges"]
    target: Int[Tensor, "edges"]
    image: Float[Tensor, "edges 3"]
    reverse: Int[Tensor, "edges"]
    present: Bool[Tensor, "edges"]
    slot: Int[Tensor, "edges"] | None
    reached: Bool[Tensor, "batch atoms"]


# A function of the values of rows, slots or atoms.
LinearMap = Callable[[Edges, Tensor], Tensor]


def edges_of(graph: PeriodicGraph, *, packed: bool) -> Edges:
    """Returns the rows of a graph: those that hold an edge when `packed` (waits for the device), else all slots."""
    batch, atoms, slots = graph.mask.shape
    # Offset of the atoms of each crystal in the numbering through the batch.
    first = torch.arange(batch, device=graph.mask.device)[:, None, None] * atoms
    source = (graph.source + first).flatten()
    target = torch.arange(batch * atoms, device=graph.mask.device).repeat_interleave(slots, output_size=len(source))
    reverse = (graph.reverse + first[:, 0] * slots).flatten()
    present, image, slot = graph.mask.flatten(), graph.image.flatten(0, 2), None
    if packed:
        slot = present.nonzero().squeeze(1)
        # Index of each slot among the packed rows.
        row = present.cumsum(dim=0) - 1
        source, target, image, present = source[slot], target[slot], image[slot], present[slot]
        reverse = row[reverse[slot]]
    return Edges((batch, atoms, slots), source, target, image, reverse, present, slot, graph.mask.any(dim=-1))


def edge_vectors(
    edges: Edges, frac_coords: Float[Tensor, "batch atoms 3"], lattice: Float[Tensor, "batch 3 3"]
) -> tuple[Float[Tensor, "edges 3"], Float[Tensor, "edges"]]:
    """Returns the unit vector of each edge from source to target, and its length in Å, in float32.

    Rows without an edge have the vector 0 and the length 1.
    """
    with torch.autocast(lattice.device.type, enabled=False):
        # f_target - (f_source + image), then times L: Cartesian vectors (edges, 3) in Å
        away = from_target(edges, frac_coords) - from_source(edges, frac_coords) - edges.image
        vectors = to_rows(edges, (to_slots(edges, away).unsqueeze(-1) * lattice[:, None, None]).sum(dim=-2))
        present = edges.present.unsqueeze(-1)
        # Absent edges get a unit vector before the root, whose gradient at 0 is not finite.
        vectors = torch.where(present, vectors, torch.ones_like(vectors) / 3**0.5)
        lengths = vectors.norm(dim=-1)
        return torch.where(present, vectors / lengths.unsqueeze(-1), torch.zeros_like(vectors)), lengths


def linear_on_edges(
    edges: Edges,
    atoms: Float[Tensor, "batch atoms hidden"],
    rows: Float[Tensor, "edges features"],
    *,
    source: Float[Tensor, "outputs hidden"],
    target: Float[Tensor, "outputs hidden"],
    edge: Float[Tensor, "outputs features"],
    bias: Float[Tensor, "outputs"] | None = None,
) -> Float[Tensor, "edges outputs"]:
    """Returns W [h_source, h_target, e] + b for each edge, with W split by columns.

    The parts of the atoms are computed once per atom, not once per edge.
    """
    ends = from_source(edges, functional.linear(atoms, source)) + from_target(edges, functional.linear(atoms, target))
    return ends.add_(functional.linear(rows, edge, bias))


def harmonics_between(
    directions: Float[Tensor, "batch atoms slots 3"], allowed: Bool[Tensor, "*shape"], orders: int, dim: int
) -> Float[Tensor, "..."]:
    """Returns Y_l⁰(angle) between the edges of each atom, stacked along `dim` for l < orders; 0 where not allowed.

    directions: unit vectors, 0 in slots without an edge; allowed: broadcasts to (batch, atoms, slots, slots).
    """
    # cos of the angles between all edges of an atom: (batch, atoms, slots, slots)
    cosines = directions @ directions.transpose(-1, -2)
    return torch.stack([value * allowed for value in spherical_harmonics(cosines, orders)], dim=dim)


def element_embedding(hidden: int) -> nn.Embedding:
    """Returns a table of vectors by atomic number (0 for padding), uniform in ±√3: of variance 1."""
    table = nn.Embedding(MAX_ELEMENT + 1, hidden)
    nn.init.uniform_(table.weight, -math.sqrt(3.0), math.sqrt(3.0))
    return table


def swap(edges: Edges, rows: Float[Tensor, "edges features"]) -> Float[Tensor, "edges features"]:
    """Returns for each edge the row of its reverse."""
    return _Pass.apply(rows, edges, _swap, _swap)


def from_source(edges: Edges, atoms: Float[Tensor, "batch atoms features"]) -> Float[Tensor, "edges features"]:
    """Returns for each edge the value of its source atom; for empty rows, of the atom itself."""
    return _Pass.apply(atoms, edges, _from_source, _sum_at_source)


def from_target(edges: Edges, atoms: Float[Tensor, "batch atoms features"]) -> Float[Tensor, "edges features"]:
    """Returns for each edge the value of its target atom."""
    return _Pass.apply(atoms, edges, _from_target, _sum_at_target)


def sum_at_target(edges: Edges, rows: Float[Tensor, "edges features"]) -> Float[Tensor, "batch atoms features"]:
    """Returns the sum over the slots of each atom."""
    return _Pass.apply(rows, edges, _sum_at_target, _from_target)


def to_slots(edges: Edges, rows: Float[Tensor, "edges features"]) -> Float[Tensor, "batch atoms slots features"]:
    """Returns the rows in their slots; slots without a row are 0."""
    return _to_slots(edges, rows) if edges.slot is None else _Pass.apply(rows, edges, _to_slots, _to_rows)


def to_rows(edges: Edges, slots: Float[Tensor, "batch atoms slots features"]) -> Float[Tensor, "edges features"]:
    """Returns the values in the slots of the rows."""
    return _to_rows(edges, slots) if edges.slot is None else _Pass.apply(slots, edges, _to_rows, _to_slots)


class _Pass(torch.autograd.Function):
    """A linear map along edges, with its transpose for the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, edges: Edges, forward: LinearMap, transpose: LinearMap) -> Tensor:
        ctx.edges, ctx.transpose = edges, transpose
        return forward(edges, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.transpose(ctx.edges, gradient), None, None, None


def _swap(edges: Edges, rows: Tensor) -> Tensor:
    return rows.index_select(0, edges.reverse)


def _from_source(edges: Edges, atoms: Tensor) -> Tensor:
    return atoms.flatten(0, 1).index_select(0, edges.source)


def _from_target(edges: Edges, atoms: Tensor) -> Tensor:
    return atoms.flatten(0, 1).index_select(0, edges.target)


def _sum_at_source(edges: Edges, rows: Tensor) -> Tensor:
    # Outgoing edges of an atom are the reverses of its incoming ones.
    return _sum_at_target(edges, _swap(edges, rows))


def _sum_at_target(edges: Edges, rows: Tensor) -> Tensor:
    return _to_slots(edges, rows).sum(dim=2)


def _to_slots(edges: Edges, rows: Tensor) -> Tensor:
    if edges.slot is not None:
        every = rows.new_zeros(math.prod(edges.shape), rows.shape[1])
        rows = every.index_copy_(0, edges.slot, rows)
    return rows.view(*edges.shape, rows.shape[1])


def _to_rows(edges: Edges, slots: Tensor) -> Tensor:
    rows = slots.flatten(0, 2)
    return rows if edges.slot is None else rows.index_select(0, edges.slot)
