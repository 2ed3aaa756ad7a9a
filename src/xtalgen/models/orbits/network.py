"""A causal transformer over the steps of a crystal given its formula: symmetry, Wyckoff positions, cell, coordinates.

Numbers are predicted as probabilities of bins, trained on soft labels around the true number; a drawn bin becomes a
number by averaging over neighbouring bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from xtalgen.models.orbits.formula_model import END, period_and_column
from xtalgen.models.orbits.steps import KINDS, MOST_LETTERS, NOWHERE, SITE, VOLUME, Answer, Formula, Groups, Query, X
from xtalgen.structure.elements import ORDER
from xtalgen.structure.wyckoff_positions import parse_form
from xtalgen.training.batches import MAX_ATOMS, MAX_ELEMENT
from xtalgen.training.loop import Trainable

BINS = 96  # a multiple of 24, so that special coordinates are centres of bins
WIDTH = 1.0  # standard deviation of soft labels, in bins
NEAR = 3  # bins on either side over which the mean is taken
WAVES = 8  # sines and cosines that encode a number
MOST_ORBITS = MAX_ATOMS


@dataclass(frozen=True)
class Steps:
    """The steps of crystals, padded; NOWHERE and 0 where a field does not apply. See `steps.Query`.

    chosen: the answer of discrete steps; value: the answer of numerical steps; open: slots that a site may occupy;
    mask: False at padding; elements, counts: of the formulas, END and 0 at padding.
    """

    kind: Int[Tensor, "batch steps"]
    group: Int[Tensor, "batch steps"]
    element: Int[Tensor, "batch steps"]
    left: Int[Tensor, "batch steps"]
    ordinal: Int[Tensor, "batch steps"]
    position: Int[Tensor, "batch steps"]
    chosen: Int[Tensor, "batch steps"]
    value: Float[Tensor, "batch steps"]
    open: Bool[Tensor, "batch steps letters"]
    mask: Bool[Tensor, "batch steps"]
    elements: Int[Tensor, "batch elements"]
    counts: Int[Tensor, "batch elements"]

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, indices: Int[Tensor, " taken"]) -> "Steps":
        """Returns the steps of the crystals at these indices."""
        return Steps(**{known.name: getattr(self, known.name).index_select(0, indices) for known in fields(self)})


class TokenBuffer:
    """Buffer for steps, one row per formula."""

    def __init__(self, formulas: Sequence[Formula], width: int) -> None:
        rows, most = len(formulas), max(map(len, formulas))
        names = ("group", "element", "ordinal", "position", "chosen")
        self.arrays = {name: np.full((rows, width), NOWHERE, dtype=np.int64) for name in names}
        self.arrays |= {name: np.zeros((rows, width), dtype=np.int64) for name in ("kind", "left")}
        self.arrays["value"] = np.zeros((rows, width), dtype=np.float32)
        self.arrays["open"] = np.zeros((rows, width, MOST_LETTERS), dtype=bool)
        self.arrays["mask"] = np.zeros((rows, width), dtype=bool)
        self.elements = np.full((rows, most), END, dtype=np.int64)
        self.counts = np.zeros((rows, most), dtype=np.int64)
        for row, formula in enumerate(formulas):
            self.elements[row, : len(formula)], self.counts[row, : len(formula)] = zip(*formula, strict=True)

    def ask(self, row: int, step: int, query: Query) -> None:
        """Stores the query of a step."""
        for name in ("kind", "group", "element", "left", "ordinal", "position"):
            self.arrays[name][row, step] = getattr(query, name)
        self.arrays["mask"][row, step] = True
        if query.kind == SITE:
            self.arrays["open"][row, step, list(query.choices)] = True

    def answer(self, row: int, step: int, query: Query, answer: Answer) -> None:
        """Stores the answer of a step."""
        self.arrays["chosen" if query.kind <= SITE else "value"][row, step] = answer

    def steps(self, rows: Sequence[int], width: int, device: torch.device | str) -> Steps:
        """Returns the first `width` steps of these rows."""
        cut = {name: array[rows, :width] for name, array in self.arrays.items()}
        cut |= {"elements": self.elements[rows], "counts": self.counts[rows]}
        return Steps(**{name: torch.from_numpy(array).to(device) for name, array in cut.items()})


class Block(nn.Module):
    """A pre-norm transformer layer (Xiong et al. 2020)."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.before, self.between = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.to_three, self.from_heads = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.inner = nn.Sequential(
            nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * hidden, hidden)
        )

    def forward(
        self, tokens: Float[Tensor, "batch tokens hidden"], seen: Bool[Tensor, "batch tokens tokens"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Returns the tokens after the layer. seen: attention mask; the last dimension is the tokens attended to."""
        # (batch, tokens, 3, heads, width) → three tensors (batch, heads, tokens, width)
        three = self.to_three(self.before(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = three.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen.unsqueeze(1), dropout_p=self.dropout.p if self.training else 0.0
        )
        tokens = tokens + self.dropout(self.from_heads(mixed.transpose(1, 2).flatten(2)))
        return tokens + self.dropout(self.inner(self.between(tokens)))


class OrbitNetwork(nn.Module):
    """The transformer. The token of a step encodes the previous answer and the current query."""

    periods: Tensor
    columns: Tensor
    features: Tensor
    slots: Tensor
    waves: Tensor

    def __init__(self, groups: Groups, *, hidden: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.groups = groups
        periods, columns = zip(*(period_and_column(z) for z in ORDER), strict=True)
        self.register_buffer("periods", torch.tensor([*periods, 0]), persistent=False)
        self.register_buffer("columns", torch.tensor([*columns, 0]), persistent=False)
        self.register_buffer("features", torch.tensor(_features(groups), dtype=torch.float32), persistent=False)
        self.register_buffer("slots", torch.tensor(_slots(groups)), persistent=False)
        self.register_buffer("waves", 2 * torch.pi * torch.arange(1, WAVES + 1), persistent=False)
        # The last row of each table stands for "does not apply": NOWHERE is index -1.
        self.of_element = nn.Embedding(MAX_ELEMENT + 1, hidden)
        self.of_period, self.of_column = nn.Embedding(9, hidden), nn.Embedding(33, hidden)
        self.of_group = nn.Embedding(len(groups) + 1, hidden)
        self.of_position = nn.Embedding(len(groups.positions) + 1, hidden)
        self.of_feature = nn.Sequential(nn.Linear(self.features.shape[1], hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.of_count, self.of_left = (nn.Embedding(MAX_ATOMS + 1, hidden) for _ in range(2))
        self.of_kind, self.was_kind = (nn.Embedding(KINDS + 1, hidden) for _ in range(2))
        self.of_ordinal, self.was_ordinal = (nn.Embedding(MOST_ORBITS + 1, hidden) for _ in range(2))
        self.of_value = nn.Linear(2 * WAVES + 1, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)
        self.to_group = nn.Linear(hidden, len(groups))
        self.to_site = nn.Linear(hidden, hidden)
        self.to_cell, self.to_coordinate = nn.Linear(hidden, BINS), nn.Linear(hidden, BINS)
        for part in self.modules():
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=0.3 / hidden**0.5)

    def positions(self) -> Float[Tensor, "positions hidden"]:
        """Returns the embeddings of all Wyckoff positions, followed by that of "none"."""
        return self.of_position.weight + nn.functional.pad(self.of_feature(self.features), (0, 0, 0, 1))

    def forward(self, steps: Steps) -> Float[Tensor, "batch steps hidden"]:
        """Returns the hidden state before each answer; the answer of the last step is not used."""
        elements = self.of_element.weight + self.of_period(self.periods) + self.of_column(self.columns)
        positions = self.positions()
        # The formula as a set of tokens without order, seen by all steps: (batch, elements, hidden).
        prefix = elements[steps.elements] + self.of_count(steps.counts)
        # The query of each step: (batch, steps, hidden).
        asks = (
            self.of_kind(steps.kind)
            + self.of_group.weight[steps.group]
            + elements[steps.element]
            + self.of_left(steps.left)
            + self.of_ordinal.weight[steps.ordinal]
            + positions[steps.position]
        )
        # Site steps encode the position chosen, coordinate steps the position they belong to.
        site = torch.where(steps.kind == SITE, self._chosen_position(steps), steps.position)
        # [v, sin 2πkv, cos 2πkv] for k = 1 … WAVES: circular numbers need periodic features.
        angle = steps.value.unsqueeze(-1) * self.waves
        encoded = torch.cat([steps.value.unsqueeze(-1), angle.sin(), angle.cos()], dim=-1)
        number = (steps.kind > SITE).unsqueeze(-1)
        # The answer of each step; shifted by one it becomes an input of the next.
        was = (
            self.was_kind(steps.kind)
            + self.was_ordinal.weight[steps.ordinal]
            + positions[site]
            + torch.where(number, self.of_value(encoded), 0.0)
        )
        tokens = torch.cat([prefix, asks + nn.functional.pad(was[:, :-1], (0, 0, 1, 0))], dim=1)
        seen = _seen(steps)
        for block in self.blocks:
            tokens = block(tokens, seen)
        return self.norm(tokens[:, prefix.shape[1] :])

    def _chosen_position(self, steps: Steps) -> Int[Tensor, "batch steps"]:
        """Returns the index among all positions that site steps chose; that of none (the last) for other steps."""
        return self.slots[steps.group, torch.where(steps.kind == SITE, steps.chosen, 0)]

    def group_scores(self, known: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch groups"]:
        """Returns the scores of all space groups."""
        return self.to_group(known)

    def site_scores(
        self, known: Float[Tensor, "*steps hidden"], group: Int[Tensor, "*steps"]
    ) -> Float[Tensor, "*steps letters"]:
        """Returns the scores of the positions of a group by slot; slots without a position have meaningless scores."""
        # (…, positions of all groups), of which the slots of the given group are gathered: (…, letters).
        scores = self.to_site(known) @ self.positions().T
        return scores.gather(-1, self.slots[group])

    def number_scores(
        self, known: Float[Tensor, "*steps hidden"], kind: Int[Tensor, "*steps"]
    ) -> Float[Tensor, "*steps bins"]:
        """Returns the scores of the bins of a number."""
        return torch.where((kind >= X).unsqueeze(-1), self.to_coordinate(known), self.to_cell(known))


class Orbits(Trainable):
    """The network with its loss."""

    network: OrbitNetwork

    def __init__(self, groups: Groups, *, hidden: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.groups = groups
        self.network = OrbitNetwork(groups, hidden=hidden, layers=layers, heads=heads, dropout=dropout)

    def loss(self, batch: Steps, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean negative log-likelihood (nats) of a crystal given its formula, and its parts.

        For numbers it is the cross-entropy with their soft labels.
        """
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        devices = [batch.mask.device] if batch.mask.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)  # dropout draws from the global generator
            known = self.network(batch)
        # Negative log-likelihoods add up over the factors of P(symmetry) P(cell) P(coordinates), per crystal.
        parts = {name: value / len(batch) for name, value in self._log_losses(known, batch).items()}
        return reduce(add, parts.values()), parts

    def _log_losses(self, known: Tensor, steps: Steps) -> dict[str, Float[Tensor, ""]]:
        network = self.network
        kind = torch.where(steps.mask, steps.kind, NOWHERE)
        group = nn.functional.cross_entropy(network.group_scores(known[:, 0]), steps.chosen[:, 0], reduction="sum")
        # Every step is scored as every kind, so shapes do not depend on the data and the host need not synchronise.
        # -inf at closed slots: the softmax runs over the possible positions only, as in sampling.
        site = network.site_scores(known, steps.group).masked_fill(~steps.open, float("-inf"))
        is_site = kind == SITE
        site = torch.where(is_site.unsqueeze(-1), site, 0.0).log_softmax(dim=-1)
        site = site.gather(-1, torch.where(is_site, steps.chosen, 0).unsqueeze(-1)).squeeze(-1)
        scores = network.number_scores(known, steps.kind).float().log_softmax(dim=-1)
        # Cross-entropy with soft labels, -Σ_b q_b log p_b.
        number = -(scores * soft_labels(steps.value, steps.kind >= X)).sum(dim=-1)
        return {
            "group": group,
            "sites": -torch.where(is_site, site, 0.0).sum(),
            "cell": torch.where((kind >= VOLUME) & (kind < X), number, 0.0).sum(),
            "coordinates": torch.where(kind >= X, number, 0.0).sum(),
        }

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of products for a number of tokens (steps, elements): (forward, forward and backward)."""
        network = self.network
        hidden = network.of_group.embedding_dim
        parts = (*network.blocks, network.to_site, network.to_cell, network.to_coordinate)
        weights = sum(weight.numel() for part in parts for weight in part.parameters() if weight.dim() == 2)
        weights += len(self.groups.positions) * hidden
        forward = 2 * n_atoms * weights + 4 * len(network.blocks) * hidden * n_atoms**2
        return forward, 3 * forward

    def traffic(self, n_atoms: int) -> int:
        """Returns an estimate of the bytes that this number of tokens moves in a training step."""
        hidden, layers = self.network.of_group.embedding_dim, len(self.network.blocks)
        return 5 * 4 * n_atoms * layers * 12 * hidden


def _seen(steps: Steps) -> Bool[Tensor, "batch tokens tokens"]:
    """Returns the attention mask: all tokens see the formula, steps also themselves and earlier steps."""
    elements, n = steps.elements != END, steps.kind.shape[1]
    order = torch.arange(-elements.shape[1], n, device=elements.device)
    # Order of tokens: negative for the formula, 0, 1, … for steps. A token attends to all of lower or equal order.
    earlier = order <= order.clamp_min(-1).unsqueeze(-1)  # below 0: the formula, which attends only to itself
    return earlier & nn.functional.pad(elements, (0, n), value=True).unsqueeze(1)


def soft_labels(value: Float[Tensor, "*batch"], circular: Bool[Tensor, "*batch"]) -> Float[Tensor, "*batch bins"]:
    """Returns the probabilities of bins around a number from 0 to 1: p_b ∝ exp(-(b - value)² / 2 WIDTH²), in bins.

    The bins of circular numbers lie at 0, 1/BINS, …; those of others reach from 0 to 1.
    """
    value, circular = value.unsqueeze(-1), circular.unsqueeze(-1)
    bins = torch.arange(BINS, device=value.device) / torch.where(circular, BINS, BINS - 1)
    return torch.softmax(-0.5 * (distances_in_bins(bins, value, circular) / WIDTH) ** 2, dim=-1)


def distances_in_bins(values: Tensor, others: Tensor, circular: Tensor) -> Tensor:
    """Returns the signed distance between numbers in bins, the shorter way round for circular ones. All broadcast."""
    away = (values - others) * torch.where(circular, BINS, BINS - 1)
    return torch.where(circular, away - BINS * torch.round(away / BINS), away)


def read_number(
    chances: Float[Tensor, "batch bins"], bins: Int[Tensor, " batch"], circular: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Returns numbers from 0 to 1: the mean of the chances within NEAR bins of the chosen ones."""
    offsets = torch.arange(-NEAR, NEAR + 1, device=bins.device)
    indices = bins.unsqueeze(-1) + offsets
    inside = circular.unsqueeze(-1) | ((indices >= 0) & (indices < BINS))
    weights = torch.where(inside, chances.gather(-1, indices % BINS), 0.0)
    # Mean of the distribution restricted to 2 NEAR + 1 bins, in units of bins.
    mean = bins + (weights * offsets).sum(dim=-1) / weights.sum(dim=-1)
    return torch.where(circular, (mean / BINS) % 1.0, (mean / (BINS - 1)).clamp(0.0, 1.0))


def _features(groups: Groups) -> np.ndarray:
    """Returns features of positions: map (9), sines and cosines of the shift (6), log₂ multiplicity, free axes (3)."""
    rows = []
    for group in groups:
        for position in group.positions:
            matrix, shift, _, axes = parse_form(position.form)
            angle = 2 * np.pi * shift
            free = [float(axis in axes) for axis in range(3)]
            rows.append([*matrix.ravel(), *np.sin(angle), *np.cos(angle), np.log2(position.multiplicity), *free])
    return np.array(rows, dtype=np.float32)


def _slots(groups: Groups) -> np.ndarray:
    """Returns the index among all positions of each group's slots; that of none for missing slots and for no group."""
    none = len(groups.positions)
    slots = np.full((len(groups) + 1, MOST_LETTERS), none, dtype=np.int64)
    for index, group in enumerate(groups):
        slots[index, : len(group.positions)] = group.first + np.arange(len(group.positions))
    return slots
