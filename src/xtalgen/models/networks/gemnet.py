"""GemNet-T with direct vectors (Gasteiger et al. 2021, arXiv 2106.08903) on dense slots: CDVAE's decoder.

Edges c → a carry messages m_ca; a triplet is a pair of edges c → a ← b into the same atom. An atom's incoming edges
fill its slots, so the cosines of all its angles are one product V Vᵀ of unit vectors, (slots, slots) per atom, and the
sum over b is one batched product per atom. All other operations act on rows of edges.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
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
from xtalgen.models.networks.periodic_graph import nearest_graph
from xtalgen.models.networks.radial_basis import GaussianBasis

HALF = 1 / math.sqrt(2.0)  # keeps the variance of a sum of two
ORDERS = 7  # Legendre polynomials l = 0 … 6 of the angle
RADIAL = 128  # Gaussians of the distance
SMALL = 16  # width of the projected bases
BEFORE_SKIP, AFTER_SKIP, AFTER_CONCAT, PER_ATOM = 1, 2, 1, 3  # residual layers


def he_orthogonal_(weight: Tensor) -> Tensor:
    """Fills a weight with an orthogonal matrix whose rows have mean 0 and variance 1 / fan-in (GemNet, appendix B)."""
    nn.init.orthogonal_(weight)
    # A weight with three axes is standardised over the first two, its fan-in.
    axes = list(range(1, weight.ndim)) if weight.ndim == 2 else [0, 1]
    fan_in = weight.shape[1] if weight.ndim == 2 else weight.shape[0] * weight.shape[1]
    with torch.no_grad():
        variance, mean = torch.var_mean(weight, dim=axes, keepdim=True)
        return weight.sub_(mean).div_(variance.add(1e-6).sqrt()).mul_(fan_in**-0.5)


class Scale(nn.Module):
    """A constant factor that matches the variance of a value to a reference; fitted once and kept in the checkpoint."""

    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(()))
        self.fitting = False

    def forward(
        self, reference: Tensor, reference_mask: Tensor, value: Tensor, value_mask: Tensor
    ) -> Float[Tensor, "..."]:
        """Returns the scaled value. Masks select the rows used for fitting the factor."""
        if self.fitting:
            # factor² = Var(reference) / Var(value)
            wanted, present = _variance(reference, reference_mask), _variance(value, value_mask)
            # A constant value (at initialisation, or a batch of one row) leaves the factor at 1.
            if present > 0 and wanted > 0:
                self.factor.copy_((wanted / present).sqrt())
        return value * self.factor


@contextmanager
def fitting_scales(module: nn.Module) -> Iterator[None]:
    """Context in which a forward pass fits the scale factors of a module one after the other."""
    scales = [part for part in module.modules() if isinstance(part, Scale)]
    for scale in scales:
        scale.fitting = True
    try:
        yield
    finally:
        for scale in scales:
            scale.fitting = False


class ScaledSiLU(torch.autograd.Function):
    """SiLU / 0.6, which keeps the variance. The factor is applied in place, since memory traffic dominates the time."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return functional.silu(values).mul_(1 / 0.6)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, values).mul_(1 / 0.6)


def halve(first: Tensor, second: Tensor) -> Tensor:
    """Returns (first + second) / √2, which keeps the variance."""
    return (first + second).mul_(HALF)


class Dense(nn.Linear):
    """A linear layer without bias, then SiLU / 0.6 if `activated`."""

    def __init__(self, inputs: int, outputs: int, *, activated: bool = True) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.activated = activated

    def reset_parameters(self) -> None:
        he_orthogonal_(self.weight)

    def forward(self, values: Tensor) -> Tensor:
        values = functional.linear(values, self.weight)
        return ScaledSiLU.apply(values) if self.activated else values


class Residual(nn.Sequential):
    """(x + two dense layers of x) / √2."""

    def __init__(self, width: int) -> None:
        super().__init__(Dense(width, width), Dense(width, width))

    def forward(self, values: Tensor) -> Tensor:
        return halve(values, super().forward(values))


class EdgeEmbedding(Dense):
    """A dense layer on [source atom, target atom, edge]."""

    def __init__(self, atom: int, edge: int, outputs: int) -> None:
        super().__init__(2 * atom + edge, outputs)
        self.columns = [atom, atom, edge]

    def forward(self, atoms: Tensor, rows: Tensor, edges: Edges) -> Tensor:  # type: ignore[override]
        source, target, edge = self.weight.split(self.columns, dim=1)
        return ScaledSiLU.apply(linear_on_edges(edges, atoms, rows, source=source, target=target, edge=edge))


class Triplets(nn.Module):
    """Message passing from the other edges b → a into the same atom to an edge c → a (GemNet, "efficient bilinear").

    For each edge: Σ_l R_sl(d_ca) Σ_b Y_l(angle cab) m_ba gives (small, trip) numbers, contracted with the bilinear
    weight (trip, small, trip).
    """

    def __init__(self, edge: int, trip: int) -> None:
        super().__init__()
        self.from_edge = Dense(edge, edge)
        self.from_radial = Dense(SMALL, edge, activated=False)
        self.down = Dense(edge, trip)
        self.bilinear = nn.Parameter(torch.empty(trip, SMALL, trip))
        self.up_forward = Dense(trip, edge)
        self.up_reverse = Dense(trip, edge)
        self.scale_radial, self.scale_sum = Scale(), Scale()
        he_orthogonal_(self.bilinear)

    def forward(
        self,
        rows: Float[Tensor, "edges edge"],
        radial: Float[Tensor, "edges small"],
        circular: Float[Tensor, "edges small orders"],
        angular: Float[Tensor, "atoms slots_orders slots"],
        edges: Edges,
    ) -> Float[Tensor, "edges edge"]:
        """Returns the sum over triplets, mixed with that of the reversed edge."""
        sent = self.from_edge(rows)
        # m_ba ⊙ W e_RBF(d_ba), with its variance restored, then projected down: (edges, trip)
        sent = self.scale_radial(sent, edges.present, sent * self.from_radial(radial), edges.present)
        sent = self.down(sent)
        # Absent edges carry no message: their radial basis is 0 and no layer has a bias.
        # Σ_b Y_l(cab) m_ba: (atoms, slots · orders, slots) @ (atoms, slots, trip).
        around = angular @ to_slots(edges, sent).flatten(0, 1)
        # Back to rows: (edges, orders, trip)
        around = to_rows(edges, around.view(*edges.shape, ORDERS * sent.shape[1])).unflatten(1, (ORDERS, -1))
        weight = self.bilinear.transpose(0, 1).flatten(0, 1)  # (small · trip, trip)
        # (edges, small, orders) @ (edges, orders, trip): the sum over l.
        result = (circular @ around).flatten(-2) @ weight
        result = self.scale_sum(sent, edges.present, result, edges.present)
        # Messages are symmetrised: c → a also gets the result of a → c.
        return halve(self.up_forward(result), swap(edges, self.up_reverse(result)))


class AtomUpdate(nn.Module):
    """Sums the edges of each atom, then applies dense and residual layers."""

    def __init__(self, atom: int, edge: int) -> None:
        super().__init__()
        self.from_radial = Dense(SMALL, edge, activated=False)
        self.scale = Scale()
        self.layers = nn.Sequential(Dense(edge, atom), *(Residual(atom) for _ in range(PER_ATOM)))

    def forward(self, rows: Tensor, radial: Tensor, edges: Edges) -> Tensor:
        received = sum_at_target(edges, rows * self.from_radial(radial))
        return self.layers(self.scale(rows, edges.present, received, edges.reached))


class Interaction(nn.Module):
    """One block: triplets update the edges, edges the atoms, atoms the edges again."""

    def __init__(self, atom: int, edge: int, trip: int) -> None:
        super().__init__()
        self.from_edge = Dense(edge, edge)
        self.triplets = Triplets(edge, trip)
        self.before_skip = nn.Sequential(*(Residual(edge) for _ in range(BEFORE_SKIP)))
        self.after_skip = nn.Sequential(*(Residual(edge) for _ in range(AFTER_SKIP)))
        self.update = AtomUpdate(atom, edge)
        self.concat = EdgeEmbedding(atom, edge, edge)
        self.after_concat = nn.Sequential(*(Residual(edge) for _ in range(AFTER_CONCAT)))

    def forward(self, atoms: Tensor, rows: Tensor, bases: dict[str, Tensor], edges: Edges) -> tuple[Tensor, Tensor]:
        # m ← (m + f(m) + triplets) / √2 …, then h ← (h + Σ m) / √2, then m ← (m + g(h_c, h_a, m)) / √2.
        received = self.triplets(rows, bases["triplet"], bases["circular"], bases["angular"], edges)
        changed = self.before_skip(halve(self.from_edge(rows), received))
        rows = self.after_skip(halve(rows, changed))
        atoms = halve(atoms, self.update(rows, bases["atom"], edges))
        return atoms, halve(rows, self.after_concat(self.concat(atoms, rows, edges)))


class EdgeOutput(nn.Module):
    """One number per edge: the signed length of its contribution to the vector of its target atom."""

    def __init__(self, edge: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Dense(edge, edge), *(Residual(edge) for _ in range(PER_ATOM)))
        self.from_radial = Dense(SMALL, edge, activated=False)
        self.scale = Scale()
        self.last = Dense(edge, 1, activated=False)

    def forward(self, rows: Tensor, radial: Tensor, edges: Edges) -> Tensor:
        values = self.layers(rows)
        return self.last(self.scale(values, edges.present, values * self.from_radial(radial), edges.present))


class DenseGemNetT(nn.Module):
    """Hidden atoms and a vector per atom from elements, positions, cell and a latent vector per crystal.

    hidden: width of atoms and edges; trip: of triplets, before and after the bilinear layer; blocks: interaction
    blocks, with one more output block; cutoff in Å; neighbours and slots as in `nearest_graph`.
    """

    def __init__(
        self,
        *,
        latent: int,
        hidden: int = 128,
        blocks: int = 3,
        trip: int = 64,
        cutoff: float = 7.0,
        neighbours: int = 20,
        slots: int = 0,
    ) -> None:
        super().__init__()
        self.hidden, self.latent, self.trip = hidden, latent, trip
        self.cutoff, self.neighbours, self.slots = cutoff, neighbours, slots
        self.elements = element_embedding(hidden)
        self.with_latent = nn.Linear(hidden + latent, hidden)
        self.basis = GaussianBasis(RADIAL, cutoff)
        self.down = nn.ModuleDict(
            {name: Dense(RADIAL, SMALL, activated=False) for name in ("triplet", "atom", "output")}
        )
        self.circular = nn.Parameter(torch.empty(ORDERS, RADIAL, SMALL))
        he_orthogonal_(self.circular)
        self.embed_edge = EdgeEmbedding(hidden, RADIAL, hidden)
        self.blocks = nn.ModuleList(Interaction(hidden, hidden, trip) for _ in range(blocks))
        self.outputs = nn.ModuleList(EdgeOutput(hidden) for _ in range(blocks + 1))

    def forward(
        self,
        latent: Float[Tensor, "batch latent"],
        atomic_numbers: Int[Tensor, "batch atoms"],
        frac_coords: Float[Tensor, "batch atoms 3"],
        lattice: Float[Tensor, "batch 3 3"],
        mask: Bool[Tensor, "batch atoms"],
    ) -> tuple[Float[Tensor, "batch atoms hidden"], Float[Tensor, "batch atoms 3"], Int[Tensor, "batch"]]:
        """Returns hidden atoms (undefined at padding), Cartesian vectors, and the slots that each crystal needs.

        Vectors are 0 at padding and without neighbours. They rotate with the cell; nothing else depends on its
        orientation. Coordinates must lie in [0, 1).
        """
        graph = nearest_graph(
            frac_coords, lattice, mask, cutoff=self.cutoff, neighbours=self.neighbours, slots=self.slots
        )
        # With slots = 0 the host synchronises for their number anyway, so the rows can be packed too.
        edges = edges_of(graph, packed=self.slots == 0)
        directions, lengths = edge_vectors(edges, frac_coords, lattice)
        radial, bases = self._bases(directions, lengths, edges)
        element, crystal = self.with_latent.weight.split([self.hidden, self.latent], dim=1)
        # W [element, latent] + b, with the latent part computed once per crystal.
        whole = functional.linear(latent, crystal, self.with_latent.bias).unsqueeze(1)
        atoms = functional.linear(self.elements(atomic_numbers), element) + whole
        rows = self.embed_edge(atoms, radial, edges)
        # The numbers s_ca of each edge: (edges, 1)
        numbers = self.outputs[0](rows, bases["output"], edges).float()
        for block, output in zip(self.blocks, self.outputs[1:], strict=True):
            atoms, rows = block(atoms, rows, bases, edges)
            numbers = numbers + output(rows, bases["output"], edges).float()
        # F_a = Σ_c s_ca V_ca, with s summed over all output blocks; rotates with the cell since V does.
        return atoms, sum_at_target(edges, numbers * directions), graph.needed

    def _bases(
        self, directions: Tensor, lengths: Tensor, edges: Edges
    ) -> tuple[Float[Tensor, "edges radial"], dict[str, Tensor]]:
        """Returns the radial basis (0 without an edge), and its projections and the angular basis by name.

        "circular": (edges, small, orders), R_sl(d); "angular": (batch · atoms, slots · orders, slots), Y_l(angle).
        """
        with torch.autocast(lengths.device.type, enabled=False):
            radial = self.basis(lengths) * edges.present.unsqueeze(-1)
            # An edge forms no triplet with itself, but does with other images of its source.
            other = ~torch.eye(edges.shape[2], dtype=torch.bool, device=lengths.device)
            angular = harmonics_between(to_slots(edges, directions), other, ORDERS, dim=-2)
        # R_sl(d) = Σ_r W_lrs e_r(d), as one product
        circular = functional.linear(radial, self.circular.permute(2, 0, 1).flatten(0, 1))
        bases = {name: layer(radial) for name, layer in self.down.items()}
        return radial, {
            **bases,
            "circular": circular.unflatten(-1, (SMALL, ORDERS)),
            "angular": angular.flatten(2, 3).flatten(0, 1).to(circular.dtype),
        }

    def flop(self, n_atoms: int, slots: int) -> int:
        """Returns the FLOP of one forward pass of a crystal padded to n_atoms: matrix products, 2 per multiply-add."""
        width, edges = self.hidden, n_atoms * slots
        layer = width * width
        triplets = (
            layer
            + SMALL * width
            + width * self.trip
            + slots * ORDERS * self.trip
            + SMALL * ORDERS * self.trip
            + self.trip * SMALL * self.trip
            + 2 * self.trip * width
        )
        residuals = 2 * (BEFORE_SKIP + AFTER_SKIP + AFTER_CONCAT) * layer
        block = edges * (triplets + 2 * layer + residuals + SMALL * width) + n_atoms * (3 + 2 * PER_ATOM) * layer
        output = edges * ((1 + 2 * PER_ATOM) * layer + SMALL * width + width)
        start = edges * RADIAL * (width + 3 * SMALL + SMALL * ORDERS) + n_atoms * 3 * layer + self.latent * width
        return 2 * (start + len(self.blocks) * block + len(self.outputs) * output)


def _variance(values: Tensor, mask: Tensor) -> Tensor:
    return values.detach()[mask].float().var(dim=0).mean()
