"""DimeNet++ (Gasteiger et al. 2020, arXiv 2011.14115) on dense slots: CDVAE's encoder.

Directional message passing (arXiv 2003.03123) updates the message of an edge j → i from those of the edges k → j: m_ji
← f(m_ji, Σ_k g(m_kj, e_RBF(d_ji), a_SBF(d_kj, angle kji))). On a symmetric graph the outgoing edges of atom j are the
reverses of its incoming ones, so the sum over k is one batched product per atom j, followed by a swap of edges.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from xtalgen.models.networks.edges import (
    Edges,
    edge_vectors,
    edges_of,
    element_embedding,
    harmonics_between,
    linear_on_edges,
    sum_at_target,
    swap,
    to_rows,
    to_slots,
)
from xtalgen.models.networks.periodic_graph import PeriodicGraph
from xtalgen.models.networks.radial_basis import BesselBasis, SphericalBesselBasis

RADIAL, ORDERS = 6, 7  # radial functions n; spherical harmonics l = 0 … 6
SMALL, MEDIUM, OUTPUT = 8, 64, 256  # widths of projected bases, of messages in triplets, and of the output blocks
BEFORE_SKIP, AFTER_SKIP, OUTPUT_LAYERS = 1, 2, 3


class Linear(nn.Linear):
    """A linear layer that starts orthogonal, with the variance of Glorot and bias 0."""

    def reset_parameters(self) -> None:
        nn.init.orthogonal_(self.weight)
        with torch.no_grad():
            self.weight.mul_((2.0 / (sum(self.weight.shape) * self.weight.var())).sqrt())
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Residual(nn.Module):
    """x + two layers of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Linear(width, width), Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        return values + functional.silu(self.second(functional.silu(self.first(values))))


class Embedding(nn.Module):
    """Messages from the elements at both ends of an edge and its length."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.elements = element_embedding(hidden)
        self.from_radial = nn.Linear(RADIAL, hidden)
        self.join = nn.Linear(3 * hidden, hidden)

    def forward(self, atomic_numbers: Tensor, radial: Tensor, edges: Edges) -> Tensor:
        atoms = self.elements(atomic_numbers)
        target, source, edge = self.join.weight.split(self.hidden, dim=1)
        rows = functional.silu(self.from_radial(radial))
        joined = linear_on_edges(edges, atoms, rows, source=source, target=target, edge=edge, bias=self.join.bias)
        return functional.silu(joined)


class Interaction(nn.Module):
    """One round of messages."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        # DimeNet++ factorises the basis layers through SMALL dimensions.
        self.radial = nn.Sequential(Linear(RADIAL, SMALL, bias=False), Linear(SMALL, hidden, bias=False))
        self.circular: Any = nn.Sequential(
            Linear(RADIAL * ORDERS, SMALL, bias=False), Linear(SMALL, MEDIUM, bias=False)
        )
        self.from_reverse, self.from_edge = Linear(hidden, hidden), Linear(hidden, hidden)
        self.down, self.up = Linear(hidden, MEDIUM, bias=False), Linear(MEDIUM, hidden, bias=False)
        self.before_skip = nn.Sequential(*(Residual(hidden) for _ in range(BEFORE_SKIP)))
        self.last = Linear(hidden, hidden)
        self.after_skip = nn.Sequential(*(Residual(hidden) for _ in range(AFTER_SKIP)))

    def forward(
        self,
        rows: Float[Tensor, "edges hidden"],
        radial: Float[Tensor, "edges radial"],
        bessel: Float[Tensor, "edges orders radial"],
        angular: Float[Tensor, "atoms slots slots_orders"],
        edges: Edges,
    ) -> Float[Tensor, "edges hidden"]:
        """Returns the messages after this round."""
        # Absent edges send no message: their radial basis is 0 and the next layer has no bias.
        # m_kj gated by e_RBF and projected down: (edges, medium)
        sent = functional.silu(self.down(functional.silu(self.from_reverse(rows)) * self.radial(radial)))
        # The two linear layers of the basis as one: (medium, orders, radial).
        weight = (self.circular[1].weight @ self.circular[0].weight).unflatten(1, (ORDERS, RADIAL))
        # a_SBF factorises into j_l(z_ln d_kj / c) and Y_l(angle kji): the first is applied once per edge k → j.
        filters = torch.einsum("elr,clr->elc", bessel, weight)
        weighted = to_slots(edges, (sent.unsqueeze(-2) * filters).flatten(1)).unflatten(-1, (ORDERS, MEDIUM))
        # Σ_k Σ_l Y_l(angle kji) (…): (atoms, slots, slots · orders) @ (atoms, slots · orders, medium).
        received = (angular @ weighted.flatten(0, 1).flatten(1, 2)).view(*edges.shape, MEDIUM)
        # The sum at atom j was stored on the edge i → j; swapping hands it to its reverse, j → i.
        received = swap(edges, to_rows(edges, received))
        # m_ji ← f(m_ji, Σ_k …) with skip connection
        changed = self.before_skip(functional.silu(self.from_edge(rows)) + functional.silu(self.up(received)))
        return self.after_skip(functional.silu(self.last(changed)) + rows)


class Output(nn.Module):
    """Sums the messages of each atom, then applies dense layers; the last one is initialised to 0."""

    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.from_radial = Linear(RADIAL, hidden, bias=False)
        self.up = Linear(hidden, OUTPUT)
        self.layers = nn.ModuleList(Linear(OUTPUT, OUTPUT) for _ in range(OUTPUT_LAYERS))
        self.last = nn.Linear(OUTPUT, outputs, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, rows: Tensor, radial: Tensor, edges: Edges) -> Tensor:
        # Σ_j m_ji e_RBF(d_ji) at each atom i: (batch, atoms, OUTPUT)
        atoms = self.up(sum_at_target(edges, rows * self.from_radial(radial)))
        for layer in self.layers:
            atoms = functional.silu(layer(atoms))
        return self.last(atoms)


class DenseDimeNet(nn.Module):
    """Returns a vector per crystal: the sum of all output blocks' atoms, averaged over the atoms."""

    def __init__(self, *, outputs: int = 256, hidden: int = 128, blocks: int = 4, cutoff: float = 7.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.bessel = SphericalBesselBasis(ORDERS, RADIAL, cutoff)
        self.radial = BesselBasis(RADIAL, cutoff)
        self.embed = Embedding(hidden)
        self.blocks = nn.ModuleList(Interaction(hidden) for _ in range(blocks))
        self.outputs = nn.ModuleList(Output(hidden, outputs) for _ in range(blocks + 1))

    def forward(
        self,
        atomic_numbers: Int[Tensor, "batch atoms"],
        frac_coords: Float[Tensor, "batch atoms 3"],
        lattice: Float[Tensor, "batch 3 3"],
        mask: Bool[Tensor, "batch atoms"],
        graph: PeriodicGraph,
    ) -> Float[Tensor, "batch outputs"]:
        """Returns the encoding of each crystal; invariant to rotation, translation and order of the atoms."""
        # On a GPU the host must not wait to count the bonds.
        edges = edges_of(graph, packed=mask.device.type == "cpu")
        directions, lengths = edge_vectors(edges, frac_coords, lattice)
        with torch.autocast(lengths.device.type, enabled=False):
            radial = self.radial(lengths) * edges.present.unsqueeze(-1)
            bessel = self.bessel(lengths)
            angular = self._angular(to_slots(edges, directions), graph)
        rows = self.embed(atomic_numbers, radial, edges)
        atoms = self.outputs[0](rows, radial, edges)
        for block, output in zip(self.blocks, self.outputs[1:], strict=True):
            rows = block(rows, radial, bessel, angular, edges)
            atoms = atoms + output(rows, radial, edges)
        # Mean over the atoms of each crystal
        weights = mask.unsqueeze(-1) / mask.sum(dim=1)[:, None, None]
        return (atoms.float() * weights).sum(dim=1)

    def _angular(self, directions: Tensor, graph: PeriodicGraph) -> Float[Tensor, "atoms slots slots_orders"]:
        """Returns Y_l(α) at atom j between the edge that leaves for i and the edges that come from k ≠ i.

        k ≠ i as numbers of atoms, as in DimeNet's code: messages from other images of i are omitted too.
        """
        # Pairs of edges whose sources differ: (batch, atoms, slots, slots)
        other = graph.source.unsqueeze(-1) != graph.source.unsqueeze(-2)
        return harmonics_between(directions, other, ORDERS, dim=-1).flatten(-2).flatten(0, 1)

    def flop(self, n_atoms: int, slots: int) -> int:
        """Returns the FLOP of one forward pass of a crystal padded to n_atoms: matrix products, 2 per multiply-add."""
        width, edges = self.hidden, n_atoms * slots
        layer = width * width
        triplets = 2 * width * MEDIUM + slots * ORDERS * MEDIUM + RADIAL * ORDERS * MEDIUM
        block = edges * (triplets + (3 + 2 * BEFORE_SKIP + 2 * AFTER_SKIP) * layer + (RADIAL + width) * SMALL)
        output = edges * RADIAL * width + n_atoms * OUTPUT * (width + (OUTPUT_LAYERS + 1) * OUTPUT)
        start = edges * (layer + RADIAL * width) + n_atoms * 2 * layer
        return 2 * (start + len(self.blocks) * block + len(self.outputs) * output)
