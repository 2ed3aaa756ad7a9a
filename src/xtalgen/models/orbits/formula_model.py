"""A model of formulas: P(formula | N) = Π_k P(element_k | before) P(count_k | element_k, before), N atoms in the cell.

N is drawn from the training set's histogram. Elements are ordered by electronegativity, cations first, so that the last
counts can balance the charges. A causal transformer, given the number of atoms left, predicts the next element and its
count; the formula ends when no atom is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xtalgen.crystals import MAX_ATOMIC_NUMBER
from xtalgen.structure.elements import ORDER
from xtalgen.training.batches import MAX_ATOMS, MAX_ELEMENT, Batch
from xtalgen.training.loop import Trainable

NOBLE = (2, 10, 18, 36, 54, 86)
END = MAX_ELEMENT  # the index after those of ORDER
MOST_IN_A_COUNT = MAX_ATOMS


@dataclass(frozen=True)
class Steps:
    """Formulas as steps: the index of an element in ORDER, its count, and the atoms left before it.

    After the last element END, 0 and 0.
    """

    elements: Int[Tensor, "batch steps"]
    counts: Int[Tensor, "batch steps"]
    left: Int[Tensor, "batch steps"]


def steps_of(atomic_numbers: Int[Tensor, "batch atoms"], most: int) -> Steps:
    """Returns the steps of formulas, without elements beyond the first `most`; atomic number 0 is padding."""
    rank = torch.zeros(MAX_ELEMENT + 1, dtype=torch.long, device=atomic_numbers.device)
    rank[list(ORDER)] = torch.arange(MAX_ELEMENT, device=rank.device)
    counts = torch.zeros(len(atomic_numbers), MAX_ELEMENT, dtype=torch.long, device=rank.device)
    counts.scatter_add_(1, rank[atomic_numbers], (atomic_numbers > 0).long())
    indices = torch.arange(MAX_ELEMENT, device=rank.device)
    # Sorting moves END to the back: the elements present, in the order of electronegativity.
    present = torch.where(counts > 0, indices, END).sort(dim=1).values[:, :most]
    numbers = nn.functional.pad(counts, (0, 1)).gather(1, present)
    # Atoms left before step k: all atoms minus those of earlier steps.
    return Steps(present, numbers, numbers.sum(dim=1, keepdim=True) - numbers.cumsum(dim=1) + numbers)


class FormulaNetwork(nn.Module):
    """A causal transformer over the steps of a formula.

    The input of a step is the sum of the embeddings of the element before it (with its period and column, so that rare
    elements learn from their neighbours), of that element's count, and of the number of atoms left.
    """

    periods: Tensor
    columns: Tensor

    def __init__(self, hidden: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        periods, columns = zip(*(period_and_column(z) for z in ORDER), strict=True)
        self.register_buffer("periods", torch.tensor([*periods, 0]), persistent=False)
        self.register_buffer("columns", torch.tensor([*columns, 0]), persistent=False)
        self.of_element = nn.Embedding(MAX_ELEMENT + 1, hidden)
        self.of_period, self.of_column = nn.Embedding(9, hidden), nn.Embedding(33, hidden)
        self.of_count, self.of_left = (nn.Embedding(MOST_IN_A_COUNT + 1, hidden) for _ in range(2))
        layer = nn.TransformerEncoderLayer(
            hidden, heads, 4 * hidden, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(hidden), enable_nested_tensor=False)
        self.to_count = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.GELU(), nn.Linear(hidden, MOST_IN_A_COUNT))
        self.bias = nn.Parameter(torch.zeros(MAX_ELEMENT))
        for table in (self.of_element, self.of_period, self.of_column, self.of_count, self.of_left):
            nn.init.normal_(table.weight, std=0.3 / hidden**0.5)

    def embed(self) -> Float[Tensor, "elements hidden"]:
        """Returns the embeddings of all elements, followed by that of the start token."""
        return self.of_element.weight + self.of_period(self.periods) + self.of_column(self.columns)

    def forward(
        self, elements: Int[Tensor, "batch steps"], counts: Int[Tensor, "batch steps"], left: Int[Tensor, "batch steps"]
    ) -> Float[Tensor, "batch steps hidden"]:
        """Returns the hidden state before each step, from the elements and counts before it and the atoms left.

        Element and count of the last step are not used.
        """
        # Teacher forcing: the input of step k is the element and count of step k - 1.
        begin = elements.new_full((len(elements), 1), END)
        past = torch.cat([begin, elements[:, :-1]], dim=1)
        past_counts = torch.cat([torch.zeros_like(begin), counts[:, :-1]], dim=1)
        known = self.embed()[past] + self.of_count(past_counts) + self.of_left(left)
        causal = torch.ones(past.shape[1], past.shape[1], dtype=torch.bool, device=past.device).triu(1)
        return self.body(known, mask=causal)

    def next_element(self, known: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch elements"]:
        """Returns the scores of all elements."""
        return known @ self.embed()[:MAX_ELEMENT].T + self.bias

    def next_count(
        self, known: Float[Tensor, "*batch hidden"], elements: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch counts"]:
        """Returns the scores of the counts 1, 2, … of these elements."""
        return self.to_count(torch.cat([known, self.embed()[elements]], dim=-1))


class Formulas(Trainable):
    """The network with its loss and sampler.

    most: maximum number of elements of a formula; histogram: frequency of each number of atoms.
    """

    network: FormulaNetwork

    def __init__(
        self, *, hidden: int, layers: int, heads: int, dropout: float, most: int, histogram: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.network = FormulaNetwork(hidden, layers, heads, dropout)
        self.most, self.histogram = most, dict(histogram)

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean negative log-likelihood of a formula given its number of atoms, and its parts."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        devices = [batch.mask.device] if batch.mask.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)  # dropout draws from the global generator
            parts = self.log_losses(steps_of(batch.atomic_numbers, self.most))
        return reduce(add, parts.values()), parts

    def log_losses(self, steps: Steps) -> dict[str, Float[Tensor, ""]]:
        """Returns the mean negative log-likelihoods of the elements and of the counts of formulas."""
        known = self.network(steps.elements, steps.counts, steps.left)
        # The end needs no loss: the formula ends when no atom is left.
        named = steps.elements != END
        indices = steps.elements.clamp_max(MAX_ELEMENT - 1)
        element = _cross_entropy(self._elements(known, steps.elements), indices)
        count = _cross_entropy(self._counts(known, indices, steps.left), (steps.counts - 1).clamp_min(0))
        return {
            "elements": torch.where(named, element, 0.0).sum(dim=1).mean(),
            "counts": torch.where(named, count, 0.0).sum(dim=1).mean(),
        }

    def _elements(self, known: Float[Tensor, "batch steps hidden"], chosen: Int[Tensor, "batch steps"]) -> Tensor:
        """Returns the scores of the elements of each step, -inf for those up to the one before."""
        last = nn.functional.pad(chosen[:, :-1], (1, 0), value=-1)
        indices = torch.arange(MAX_ELEMENT, device=last.device)
        # The last element is always allowed, so that scores after the end are finite; no step follows it.
        # Strictly increasing indices, so that every formula has one sequence only.
        past = (indices <= last.unsqueeze(-1)) & (indices < MAX_ELEMENT - 1)
        return self.network.next_element(known).masked_fill(past & (last != END).unsqueeze(-1), float("-inf"))

    def _counts(
        self, known: Float[Tensor, "batch steps hidden"], elements: Int[Tensor, "batch steps"], left: Tensor
    ) -> Tensor:
        """Returns the scores of the counts of each step, -inf above the number of atoms left."""
        scores = self.network.next_count(known, elements)
        too_many = torch.arange(1, MOST_IN_A_COUNT + 1, device=left.device) > left.clamp_min(1).unsqueeze(-1)
        return scores.masked_fill(too_many, float("-inf"))

    @torch.inference_mode()
    def draw(
        self, number: int, seed: int, device: str, temperature: float = 1.0, count_temperature: float = 1.0
    ) -> list[dict[int, int]]:
        """Returns formulas as counts by atomic number.

        temperature: of the choice of elements; count_temperature: of their counts. The random numbers of a formula
        depend on the seed and its index only.
        """
        generator = torch.Generator().manual_seed(seed)
        chances = torch.rand(number, 1 + 2 * self.most, generator=generator, dtype=torch.float64).to(device)
        sizes = torch.tensor([int(size) for size in self.histogram], device=device)
        often = torch.tensor(list(self.histogram.values()), dtype=torch.float64, device=device)
        # N ~ histogram of the training set
        left = sizes[_choose(often.log().expand(number, -1), chances[:, 0])].unsqueeze(1)
        elements = torch.full((number, 1), END, device=device)
        counts = torch.zeros_like(elements)
        # Chances: 0 for N, then two per step, for element and count.
        for step in range(self.most):
            known = self.network(elements, counts, left)
            chosen = _choose(self._elements(known, elements)[:, -1] / temperature, chances[:, 2 * step + 1])
            scores = self._counts(known[:, -1:], chosen.unsqueeze(1), left[:, -1:])[:, 0]
            count = _choose(scores / count_temperature, chances[:, 2 * step + 2]) + 1
            # The last step, and the last element of ORDER, take all remaining atoms.
            rest = left[:, -1]
            all_of_it = (chosen == MAX_ELEMENT - 1) | (step == self.most - 1)
            count = torch.where(all_of_it, rest, count)
            ended = rest == 0
            elements[:, -1], counts[:, -1] = torch.where(ended, END, chosen), torch.where(ended, 0, count)
            elements = nn.functional.pad(elements, (0, 1), value=END)
            left = torch.cat([left, (rest - counts[:, -1]).unsqueeze(1)], dim=1)
            counts = nn.functional.pad(counts, (0, 1))
        return [
            {ORDER[index]: count for index, count in zip(row, numbers, strict=True) if index != END}
            for row, numbers in zip(elements.tolist(), counts.tolist(), strict=True)
        ]

    def flop(self, n_atoms: int) -> tuple[int, int]:  # noqa: ARG002 - a formula's steps do not grow with the cell
        """Returns the FLOP of one formula padded to all steps: (forward, forward and backward); products only."""
        steps = self.most
        weights = sum(weight.numel() for weight in self.network.parameters() if weight.dim() == 2)
        hidden = self.network.of_count.embedding_dim
        forward = 2 * steps * weights + 4 * len(self.network.body.layers) * hidden * steps**2
        return forward, 3 * forward

    def traffic(self, n_atoms: int) -> int:  # noqa: ARG002 - as above
        """Returns an estimate of the bytes one formula moves in a training step."""
        hidden, layers = self.network.of_count.embedding_dim, len(self.network.body.layers)
        return 5 * 4 * self.most * layers * 12 * hidden


def period_and_column(atomic_number: int) -> tuple[int, int]:
    """Returns period and column of an element; columns 1 to 32 of the long periodic table, the same for its block."""
    before = max((noble for noble in NOBLE if noble < atomic_number), default=0)
    period = 1 + sum(noble < atomic_number for noble in NOBLE)
    after = min((noble for noble in (*NOBLE, MAX_ATOMIC_NUMBER) if noble >= atomic_number), default=MAX_ATOMIC_NUMBER)
    into, width = atomic_number - before, after - before
    # From the left up to the alkaline earths, from the right for all others: halogens are column 31 in every period.
    return period, into if into <= 2 else 32 - (width - into)


def _cross_entropy(
    scores: Float[Tensor, "batch steps classes"], targets: Int[Tensor, "batch steps"]
) -> Float[Tensor, "batch steps"]:
    return nn.functional.cross_entropy(scores.float().transpose(1, 2), targets, reduction="none")


def _choose(scores: Float[Tensor, "batch classes"], chances: Tensor) -> Int[Tensor, " batch"]:
    """Returns the class of each row by inverse transform sampling; chances are uniform in [0, 1)."""
    summed = scores.double().softmax(dim=-1).cumsum(dim=-1)
    return torch.searchsorted(summed, chances.unsqueeze(-1) * summed[:, -1:], right=True).squeeze(-1)
