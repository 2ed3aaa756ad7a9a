"""CSPNet (Jiao et al. 2023, DiffCSP; Miller et al. 2024, FlowMM) on dense padded batches, without scatter or gather.

A message runs along every ordered pair of atoms of a cell. The first linear layer of a message acts on
[geometry, h_i, h_j, crystal], so it splits exactly into a part per atom, a part per crystal and a part per pair.
Swapping i and j flips the sign of the odd geometry (unit(G Δ), sines) and keeps the even one (cosines), so the pair
part is computed once for both directions. Gathering atoms to pairs and summing messages at atoms are products with
matrices of zeros and ones: fast on small cells, and deterministic on every device.

A layer, with h normalised before it: m_ij = φ_m(h_i, h_j, cell, ψ(f_j - f_i)), m_i = the mean of m_ij over j, and
h_i ← h_i + φ_h(h_i, m_i), where ψ(Δ) = (sin 2πkΔ, cos 2πkΔ) for k = 0 … frequencies - 1.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from xtalgen.models.manifolds import torus
from xtalgen.training.batches import MAX_ATOMS

SMALLEST_NORM = 1e-12


@dataclass(frozen=True)
class Pairs:
    """The pairs i < j of padded crystals, both directions: first all j → i, then all i → j.

    ends: matrix from [values of receivers; values of senders] to edges; sums: matrix from edges to their receivers,
    0 for edges of padding; inverse_count: 1 / number of incoming edges of each atom (1 where there are none).
    """

    odd: Float[Tensor, "batch pairs odd"]
    even: Float[Tensor, "batch pairs even"]
    ends: Float[Tensor, "edges twice_atoms"]
    sums: Float[Tensor, "batch atoms edges"]
    inverse_count: Float[Tensor, "batch 1 1"]


class CSPLayer(nn.Module):
    """One round of messages: pre-LayerNorm, message MLP, mean over incoming messages, node MLP, residual."""

    def __init__(self, hidden: int, odd: int, even: int, crystal_inputs: int, counts: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.count = nn.Linear(MAX_ATOMS, hidden, bias=False) if counts else None
        # Columns of the first layer of φ_m: odd geometry, h_i, h_j, even geometry, crystal.
        self.columns = [odd, hidden, hidden, even, crystal_inputs + (hidden if counts else 0)]
        self.edge_in = nn.Linear(sum(self.columns), hidden)
        self.edge_out = nn.Linear(hidden, hidden)
        self.node_in = nn.Linear(2 * hidden, hidden)
        self.node_out = nn.Linear(hidden, hidden)

    def forward(
        self,
        atoms: Float[Tensor, "batch atoms hidden"],
        crystal: Float[Tensor, "batch crystal_inputs"],
        count: Float[Tensor, "batch counts"],
        pairs: Pairs,
    ) -> Float[Tensor, "batch atoms hidden"]:
        """Returns the atoms after one round of messages."""
        normed = self.norm(atoms)
        # W [odd, h_i, h_j, even, crystal] + b by its blocks of columns.
        odd, receiver, sender, even, whole = self.edge_in.weight.split(self.columns, dim=1)
        if self.count is not None:
            crystal = torch.cat([crystal, self.count(count)], dim=-1)
        # W_crystal [crystal, count] + b: (batch, 1, hidden)
        per_crystal = functional.linear(crystal, whole, self.edge_in.bias).unsqueeze(1)
        # W_i h_i and W_j h_j: (batch, atoms, hidden) each
        per_atom = [functional.linear(normed, receiver) + per_crystal, functional.linear(normed, sender)]
        # Odd and even geometry of i < j: (batch, pairs, hidden). The reverse edge has the opposite odd part.
        flipped, kept = functional.linear(pairs.odd, odd), functional.linear(pairs.even, even)
        # (batch, 2 pairs, hidden)
        edges = torch.cat([kept + flipped, kept - flipped], dim=1) + pairs.ends @ torch.cat(per_atom, dim=1)
        # m_ij = φ_m(…), (batch, 2 pairs, hidden)
        messages = functional.silu(self.edge_out(functional.silu(edges)))
        # Mean over the incoming messages of each atom: (batch, atoms, hidden)
        received = (pairs.sums @ messages) * pairs.inverse_count
        # h_i ← h_i + φ_h(h_i, m_i)
        update = functional.silu(self.node_in(torch.cat([normed, received], dim=-1)))
        return atoms + functional.silu(self.node_out(update))


class DenseCSPNet(nn.Module):
    """The network without heads: embeds atoms and time, passes messages, returns hidden atoms and the pooled crystal.

    node_inputs: features per atom; crystal_inputs: features per crystal seen by each message; time_inputs: width of
    the embedded time; edge_vector: messages see unit(G Δ); counts: messages see an embedding of the number of atoms;
    self_edges: atoms send messages to themselves; bias: the embeddings have one. FlowMM: edge_vector and counts;
    DiffCSP: self_edges and bias.
    """

    waves: Tensor

    def __init__(
        self,
        *,
        node_inputs: int,
        crystal_inputs: int,
        time_inputs: int,
        hidden: int = 512,
        layers: int = 6,
        frequencies: int = 128,
        edge_vector: bool = True,
        counts: bool = True,
        self_edges: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.hidden, self.edge_vector, self.self_edges = hidden, edge_vector, self_edges
        even = 3 * frequencies
        # Cosines are even in Δ; sines and the unit vector are odd.
        odd = even + (3 if edge_vector else 0)
        self.embed_node = nn.Linear(node_inputs, hidden, bias=bias)
        self.embed_both = nn.Linear(hidden + time_inputs, hidden, bias=bias)
        self.layers: Any = nn.ModuleList(CSPLayer(hidden, odd, even, crystal_inputs, counts) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.register_buffer("waves", 2 * torch.pi * torch.arange(frequencies, dtype=torch.float32), persistent=False)

    def forward(
        self,
        *,
        nodes: Float[Tensor, "batch atoms node_inputs"],
        time: Float[Tensor, "batch time_inputs"],
        crystal: Float[Tensor, "batch crystal_inputs"],
        frac_coords: Float[Tensor, "batch atoms 3"],
        gram: Float[Tensor, "batch 3 3"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> tuple[Float[Tensor, "batch atoms hidden"], Float[Tensor, "batch twice_hidden"]]:
        """Returns hidden atoms (undefined at padding) and [mean, sum] of the atoms of each crystal."""
        width = mask.shape[1]
        n_atoms = mask.sum(dim=1, keepdim=True)
        count = (n_atoms == torch.arange(1, MAX_ATOMS + 1, device=mask.device)).float()
        pairs = self.pairs(frac_coords, gram, mask)
        times = time.unsqueeze(1).expand(-1, width, -1)
        atoms = self.embed_both(torch.cat([self.embed_node(nodes), times], dim=-1))
        for layer in self.layers:
            atoms = layer(atoms, crystal, count, pairs)
        atoms = self.norm(atoms)
        total = (atoms * mask.unsqueeze(-1)).sum(dim=1)
        return atoms, torch.cat([total / n_atoms, total], dim=-1)

    def pairs(
        self,
        frac_coords: Float[Tensor, "batch atoms 3"],
        gram: Float[Tensor, "batch 3 3"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> Pairs:
        """Returns the geometry of all pairs, in float32 for any precision of the products."""
        width = mask.shape[1]
        # All pairs i < j (i ≤ j with self-edges), the same for every crystal of a batch.
        i, j = torch.triu_indices(width, width, offset=0 if self.self_edges else 1, device=mask.device)
        atoms = torch.arange(width, device=mask.device)
        at_i, at_j = (i.unsqueeze(1) == atoms).float(), (j.unsqueeze(1) == atoms).float()
        receivers, senders = torch.cat([at_i, at_j]), torch.cat([at_j, at_i])
        both = mask.index_select(1, i) & mask.index_select(1, j)
        # A self-edge is its own reverse and must be received once.
        # Edges with padding at either end are excluded from sums; both directions, (batch, 2 pairs).
        valid = torch.cat([both, both & (i != j)], dim=1)
        # Δ = f_j - f_i by the shortest way, (batch, pairs, 3)
        shift = torus.log_map(frac_coords.index_select(1, i), frac_coords.index_select(1, j))
        # 2πkΔ for k = 0 … frequencies - 1, (batch, pairs, 3 · frequencies)
        phases = (shift.unsqueeze(-1) * self.waves).flatten(-2)
        odd = [torch.sin(phases)]
        if self.edge_vector:
            vector = (gram.unsqueeze(1) * shift.unsqueeze(-2)).sum(-1)  # G Δ, (batch, pairs, 3)
            odd.insert(0, vector / vector.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_NORM))
        incoming = mask.sum(dim=1) - (0 if self.self_edges else 1)
        return Pairs(
            odd=torch.cat(odd, dim=-1),
            even=torch.cos(phases),
            ends=torch.cat([receivers, senders], dim=1),
            sums=receivers.T * valid.unsqueeze(1),
            inverse_count=1.0 / incoming.clamp_min(1).float()[:, None, None],
        )

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of one crystal padded to n_atoms: (forward, forward and backward).

        Matrix products only, 2 FLOP per multiply-add. With n atoms, p = n(n-1)/2 pairs (n more with self-edges),
        e = 2p edges, H hidden, g = odd + even geometry, c crystal columns, per layer:
        p g H + e H² + 2 n H² + 3 n e H + 3 n H² + c H (+ 100 H for the count). Backward costs twice as much, except
        that the inputs (geometry, node features, counts) need no gradient.
        """
        pairs = n_atoms * (n_atoms - 1) // 2 + (n_atoms if self.self_edges else 0)
        hidden, forward, backward = self.hidden, 0, 0
        for layer in self.layers:
            odd, _, _, even, crystal = layer.columns
            leaves = pairs * (odd + even) * hidden + (MAX_ATOMS if layer.count is not None else crystal) * hidden
            # Products with the 0/1 matrices have one operand that needs no gradient, like the leaves.
            moves = 3 * n_atoms * 2 * pairs * hidden
            inner = 2 * pairs * hidden**2 + 5 * n_atoms * hidden**2
            inner += crystal * hidden if layer.count is not None else 0
            forward += leaves + moves + inner
            backward += leaves + moves + 2 * inner
        embed = n_atoms * self.embed_node.in_features * hidden
        both = n_atoms * self.embed_both.in_features * hidden
        return 2 * (forward + embed + both), 2 * (forward + backward + 2 * embed + 3 * both)

    def traffic(self, n_atoms: int) -> int:
        """Returns the bytes that one crystal padded to n_atoms moves in a training step (float32, nothing fused).

        Every intermediate of a layer is written once and read once forward, and its gradient likewise, while the value
        is read again backward: 5 passes of 4 bytes over p (g + 2 H) + 7 e H + 12 n H numbers. Weights are not counted.
        """
        pairs = n_atoms * (n_atoms - 1) // 2 + (n_atoms if self.self_edges else 0)
        total = 0
        for layer in self.layers:
            odd, _, _, even, _ = layer.columns
            numbers = pairs * (odd + even + 2 * self.hidden) + 7 * 2 * pairs * self.hidden
            total += 5 * 4 * (numbers + 12 * n_atoms * self.hidden)
        return total
