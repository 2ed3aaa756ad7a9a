"""Analogues: training crystals with the same numbers of atoms per element, weighted by similarity of elements.

Distances of elements are learnt so that close crystals share symmetry and Wyckoff positions, by neighbourhood
components analysis (Goldberger et al. 2004): crystal i takes the symmetry of crystal j ≠ i with the probability p_ij =
exp(s_ij) / Σ_k exp(s_ik), s the similarity of their formulas, and the loss is -log Σ_j p_ij over the crystals j of the
right symmetry. Structure prediction by substitution goes back to Hautier et al. (2011); combining a network with
retrieval, to nearest-neighbour language models (Khandelwal et al. 2020).
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xtalgen.crystals import Crystal
from xtalgen.models.orbits.formula_model import END, period_and_column
from xtalgen.models.orbits.steps import Formula, Groups, answers_of, formula_of
from xtalgen.structure.elements import ORDER
from xtalgen.structure.wyckoff_positions import COLUMN
from xtalgen.training.batches import MAX_ATOMS, MAX_ELEMENT, Split, mix_seed
from xtalgen.training.loop import Trainable

DIMENSIONS = 16  # of the space in which elements are embedded
FLOOR = 1e-3  # the probability of a symmetry that no analogue has
MOST_RETRIEVED = 64  # analogues of one symmetry whose numbers are used
SMALLEST = 1e-12
LEAST_SIMILAR = -1e4  # log probability of a crystal without any other of its counts


@dataclass(frozen=True)
class AnalogueBatch:
    """Formulas with their targets. symmetry: index of their choices among those of the memory, -1 where missing.

    elements, counts: END and 0 at padding. own: the crystal's own index in the memory, -1 for none.
    """

    elements: Int[Tensor, "batch elements"]
    counts: Int[Tensor, "batch elements"]
    symmetry: Int[Tensor, " batch"]
    own: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.own)

    def take(self, indices: Int[Tensor, " taken"]) -> "AnalogueBatch":
        """Returns the formulas at these indices."""
        return AnalogueBatch(*(part[indices] for part in (self.elements, self.counts, self.symmetry, self.own)))


@dataclass(frozen=True)
class Memory:
    """Crystals as answers to the steps: formulas, choices (group, slot after slot) and numbers."""

    formulas: Sequence[Formula]
    choices: Sequence[tuple[int, ...]]
    numbers: Sequence[tuple[float, ...]]

    @classmethod
    def of(cls, crystals: Sequence[Crystal], groups: Groups) -> "Memory":
        """Returns the memory of crystals. Raises ValueError for one whose positions the groups lack."""
        choices, numbers = [], []
        for crystal in crystals:
            answers = answers_of(crystal.info[COLUMN], groups)
            if answers is None:
                raise ValueError(f"{crystal.id}: one of its Wyckoff positions does not occur in the training set.")
            # The answers begin with the group and one slot per orbit; the rest are numbers.
            chosen = 1 + len(crystal.info[COLUMN]["letters"])
            choices.append(tuple(map(int, answers[:chosen])))
            numbers.append(tuple(answers[chosen:]))
        return cls([formula_of(crystal.atomic_numbers) for crystal in crystals], choices, numbers)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor]) -> "Memory":
        """Returns the memory stored by `arrays`."""
        known = {name: array.cpu().tolist() for name, array in arrays.items()}
        formulas = [
            tuple((element, count) for element, count in zip(*row, strict=True) if element != END)
            for row in zip(known["elements"], known["counts"], strict=True)
        ]
        choices, numbers = (_cut(known[name], known[f"n_{name}"]) for name in ("choices", "numbers"))
        return cls(formulas, choices, numbers)

    def arrays(self) -> dict[str, Tensor]:
        """Returns the memory as tensors."""
        most = max(map(len, self.formulas))
        # Ragged sequences are stored flat with their lengths, except for formulas, which are padded.
        rows = [[*formula, *[(END, 0)] * (most - len(formula))] for formula in self.formulas]
        elements, counts = np.array(rows, dtype=np.uint8).transpose(2, 0, 1)
        return {
            "elements": torch.from_numpy(elements.copy()),
            "counts": torch.from_numpy(counts.copy()),
            "choices": torch.tensor([one for sequence in self.choices for one in sequence], dtype=torch.int16),
            "n_choices": torch.tensor([*map(len, self.choices)], dtype=torch.int16),
            "numbers": torch.tensor([one for sequence in self.numbers for one in sequence], dtype=torch.float32),
            "n_numbers": torch.tensor([*map(len, self.numbers)], dtype=torch.int16),
        }

    def symmetries(self) -> dict[tuple[int, ...], int]:
        """Returns all choices that occur, each with its index."""
        return {choices: index for index, choices in enumerate(dict.fromkeys(self.choices))}


class AnalogueData:
    """Formulas on the device; crystals with the same numbers of atoms per element share batches.

    memory: where analogues are retrieved from; within: whether the crystals are those of the memory. Its sizes are
    numbers of elements.
    """

    def __init__(
        self, crystals: Sequence[Crystal], groups: Groups, memory: Memory, device: str, *, within: bool
    ) -> None:
        self.crystals, self.device = list(crystals), torch.device(device)
        own = Memory.of(crystals, groups)
        indices = memory.symmetries()
        arrays = own.arrays()
        self.all = AnalogueBatch(
            arrays["elements"].long().to(device),
            arrays["counts"].long().to(device),
            torch.tensor([indices.get(choices, -1) for choices in own.choices], device=device),
            torch.arange(len(crystals), device=device) if within else torch.full((len(crystals),), -1, device=device),
        )
        # Kinds with equal counts stay together, so that a batch compares few kinds.
        kinds = [counts_of(formula) for formula in own.formulas]
        self.kinds = [np.array([index for index, kind in enumerate(kinds) if kind == one]) for one in Counter(kinds)]
        self.lengths = np.array([len(formula) for formula in own.formulas])
        content = repr([own.formulas, own.choices, own.numbers, within])
        self.digest = hashlib.sha256(content.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.all)

    def plan(self, batch_size: int) -> list[tuple[int, int]]:
        """Returns the batches of an epoch as (first index, end index)."""
        return [(first, min(first + batch_size, len(self))) for first in range(0, len(self), batch_size)]

    def epoch(self, batch_size: int, seed: Sequence[int], skip: int = 0) -> Iterator[AnalogueBatch]:
        """Yields every crystal once, in an order that depends only on the seed, without the first `skip` batches."""
        generator = np.random.default_rng(mix_seed(*seed))
        order = [generator.permutation(self.kinds[kind]) for kind in generator.permutation(len(self.kinds))]
        yield from self._in_order(np.concatenate(order), batch_size, skip)

    def batches(self, batch_size: int) -> Iterator[AnalogueBatch]:
        """Yields every crystal once, in a fixed order."""
        yield from self._in_order(np.concatenate(self.kinds), batch_size, 0)

    def _in_order(self, order: Int[np.ndarray, " crystals"], batch_size: int, skip: int) -> Iterator[AnalogueBatch]:
        for first, end in self.plan(batch_size)[skip:]:
            yield self.all.take(torch.from_numpy(order[first:end]).to(self.device))

    def sizes(self) -> np.ndarray:
        """Returns the number of elements of each crystal."""
        return self.lengths

    def padded_sizes(self) -> np.ndarray:
        """Returns the same: nothing is padded."""
        return self.lengths


def load_analogues(split: Split, groups: Groups) -> tuple[AnalogueData, AnalogueData]:
    """Returns the training and the validation crystals, both with the training crystals as memory."""
    memory, device = Memory.of(split.train.crystals, groups), str(split.train.device)
    train = AnalogueData(split.train.crystals, groups, memory, device, within=True)
    return train, AnalogueData(split.val.crystals, groups, memory, device, within=False)


class ElementDistances(nn.Module):
    """Distances between embeddings of elements.

    An embedding is the sum of a vector of the element, of its period and of its column. Rare elements thus lie near
    their neighbours in the periodic table.
    """

    periods: Tensor
    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        periods, columns = zip(*(period_and_column(z) for z in ORDER), strict=True)
        self.register_buffer("periods", torch.tensor(periods), persistent=False)
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.of_element, self.of_period, self.of_column = (
            nn.Embedding(number, DIMENSIONS) for number in (MAX_ELEMENT, 9, 33)
        )
        # ln w(n): exponentiated in `similarity`, so that weights are positive.
        self.of_count = nn.Embedding(MAX_ATOMS + 1, 1)
        self.same = nn.Parameter(torch.zeros(()))
        for table, spread in ((self.of_element, 0.15), (self.of_period, 0.35), (self.of_column, 0.35)):
            nn.init.normal_(table.weight, std=spread)
        nn.init.zeros_(self.of_count.weight)

    def forward(self) -> Float[Tensor, "elements elements"]:
        """Returns the distances d_ab of all elements, by their indices in ORDER."""
        # One row of DIMENSIONS numbers per element.
        where = self.of_element.weight + self.of_period(self.periods) + self.of_column(self.columns)
        away = (where.unsqueeze(1) - where.unsqueeze(0)).square().sum(dim=-1)
        return (away + 1e-8).sqrt()  # the gradient of a root is not finite at 0

    def similarity(
        self,
        elements: Int[Tensor, "queries elements"],
        others: Int[Tensor, "others elements"],
        counts: Int[Tensor, " elements"],
    ) -> Float[Tensor, "queries others"]:
        """Returns the similarity of formulas of the same counts n: s = -Σ_k w(n_k) d(a_k, b_k), plus c for equal ones.

        The weight w depends on the number of atoms of an element. c is learnt: two crystals of one formula in a data
        set usually have different structures.
        """
        # The k-th elements of both formulas are paired, since elements are ordered by electronegativity.
        away, weights = self(), self.of_count(counts).exp().squeeze(-1)
        similarity = torch.zeros(len(elements), len(others), device=elements.device)
        for index in range(elements.shape[1]):
            similarity = similarity - weights[index] * away[elements[:, index]][:, others[:, index]]
        return similarity + self.same * (elements.unsqueeze(1) == others.unsqueeze(0)).all(dim=-1)


@dataclass(frozen=True)
class Retrieved:
    """The analogues of a formula, most similar first: choices, numbers, weights (their sum is 1)."""

    choices: list[tuple[int, ...]]
    numbers: list[tuple[float, ...]]
    weights: Float[np.ndarray, " analogues"]

    def symmetries(self) -> dict[tuple[int, ...], float]:
        """Returns the probabilities of all choices that occur, likeliest first."""
        chances: Counter[tuple[int, ...]] = Counter()
        for choices, weight in zip(self.choices, self.weights.tolist(), strict=True):
            chances[choices] += weight
        return dict(chances.most_common())

    def numbers_of(self, choices: tuple[int, ...]) -> tuple[list[tuple[float, ...]], Float[np.ndarray, " analogues"]]:
        """Returns the numbers of the most similar analogues with these choices, and their weights."""
        indices = [index for index, one in enumerate(self.choices) if one == choices][:MOST_RETRIEVED]
        return [self.numbers[index] for index in indices], self.weights[indices]


class Analogues(Trainable):
    """The memory, with the learnt distances by which analogues are retrieved from it."""

    network: ElementDistances
    elements: Tensor
    counts: Tensor

    def __init__(self, arrays: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = ElementDistances()
        self.names = tuple(arrays)
        for name, array in arrays.items():
            self.register_buffer(name, array)

    @classmethod
    def empty(cls, sizes: Mapping[str, Sequence[int]]) -> "Analogues":
        """Returns a module for weights of these sizes (`sizes`)."""
        kinds = {"elements": torch.uint8, "counts": torch.uint8, "numbers": torch.float32}
        return cls({name: torch.zeros(tuple(size), dtype=kinds.get(name, torch.int16)) for name, size in sizes.items()})

    def sizes(self) -> dict[str, Any]:
        """Returns the shapes of the memory's tensors, as JSON values."""
        return {name: list(getattr(self, name).shape) for name in self.names}

    def retriever(self) -> "Retriever":
        """Returns the retriever of analogues."""
        return Retriever(self.network, Memory.from_arrays({name: getattr(self, name) for name in self.names}))

    def loss(self, batch: AnalogueBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002
        """Returns the mean negative log-likelihood (nats) of a crystal's choices given all others of its counts."""
        # Crystals compete only with those of equal counts, so each kind is one block of similarities.
        _, kinds = torch.unique(batch.counts, dim=0, return_inverse=True)
        rows = [torch.nonzero(kinds == kind).squeeze(-1) for kind in range(int(kinds.max()) + 1)]
        chances = torch.cat([self._chances(batch.take(same)) for same in rows])
        # The floor bounds the loss of a crystal whose symmetry occurs nowhere else among its kind.
        loss = -torch.log((1 - FLOOR) * chances + FLOOR).mean()
        return loss, {"analogues": loss}

    def _chances(self, batch: AnalogueBatch) -> Float[Tensor, " batch"]:
        """Returns Σ_j p_ij over the j of the right symmetry, for formulas that all have the same counts."""
        indices, symmetry = self._sorted
        n = int((batch.counts[0] > 0).sum())
        others = indices.get(tuple(batch.counts[0, :n].tolist()))
        if others is None:
            return torch.zeros(len(batch), device=batch.own.device)
        known = self.elements[others, :n].long()
        similarity = self.network.similarity(batch.elements[:, :n], known, batch.counts[0, :n])
        # j ≠ i: a crystal of the training set must not retrieve itself.
        itself = batch.own.unsqueeze(1) == others
        # Subtracting the largest exponent keeps the softmax finite.
        largest = similarity.detach().masked_fill(itself, float("-inf")).amax(dim=1, keepdim=True)
        nearest = largest.clamp_min(LEAST_SIMILAR)
        weights = torch.where(itself, 0.0, (similarity - nearest).masked_fill(itself, 0.0).exp())
        # Σ_j p_ij over the j of the right symmetry, p_ij = exp(s_ij) / Σ_k exp(s_ik).
        hits = batch.symmetry.unsqueeze(1) == symmetry[others]
        return (weights * hits).sum(dim=1) / weights.sum(dim=1).clamp_min(SMALLEST)

    @cached_property
    def _sorted(self) -> tuple[dict[tuple[int, ...], Tensor], Tensor]:
        """The memory's indices by counts, and the symmetry of each; for training, once the memory is filled."""
        memory = Memory.from_arrays({name: getattr(self, name) for name in self.names})
        symmetries, device = memory.symmetries(), self.elements.device
        indices = {kind: torch.tensor(rows, device=device) for kind, rows in _by_counts(memory.formulas).items()}
        return indices, torch.tensor([symmetries[choices] for choices in memory.choices], device=device)

    def flop(self, n_atoms: int) -> tuple[int, int]:
        """Returns the FLOP of comparing a formula of this number of elements with the mean number of others."""
        kinds = Counter(map(tuple, self.counts.tolist()))
        others = sum(number**2 for number in kinds.values()) // max(len(self.counts), 1)
        return 3 * n_atoms * others, 9 * n_atoms * others

    def traffic(self, n_atoms: int) -> int:
        """Returns an estimate of the bytes that this moves in a training step."""
        return 8 * self.flop(n_atoms)[1]


class Retriever:
    """Retrieves the analogues of formulas, one formula at a time."""

    def __init__(self, distances: ElementDistances, memory: Memory) -> None:
        self.memory, self.indices = memory, _by_counts(memory.formulas)
        self.distances = distances
        self.elements = {
            kind: torch.tensor([[element for element, _ in memory.formulas[row]] for row in rows])
            for kind, rows in self.indices.items()
        }

    @torch.inference_mode()
    def __call__(self, formula: Formula) -> Retrieved | None:
        """Returns the analogues of a formula; None if no crystal has the same counts."""
        kind = counts_of(formula)
        if kind not in self.indices:
            return None
        device = self.distances.periods.device
        asked = torch.tensor([[element for element, _ in formula]], device=device)
        counts = torch.tensor(kind, device=device)
        similarity = self.distances.similarity(asked, self.elements[kind].to(device), counts)[0]
        # p_j ∝ exp(s_j) over all crystals with the same counts
        weights, order = similarity.double().softmax(dim=0).sort(descending=True, stable=True)
        rows = [self.indices[kind][index] for index in order.tolist()]
        return Retrieved(
            [self.memory.choices[row] for row in rows],
            [self.memory.numbers[row] for row in rows],
            weights.cpu().numpy(),
        )


def counts_of(formula: Formula) -> tuple[int, ...]:
    """Returns the numbers of atoms of a formula's elements, in the order of electronegativity."""
    return tuple(count for _, count in formula)


def _by_counts(formulas: Sequence[Formula]) -> dict[tuple[int, ...], list[int]]:
    """Returns the indices of formulas by their counts."""
    indices: dict[tuple[int, ...], list[int]] = {}
    for index, formula in enumerate(formulas):
        indices.setdefault(counts_of(formula), []).append(index)
    return indices


def _cut(values: Sequence[Any], lengths: Sequence[int]) -> list[tuple[Any, ...]]:
    ends = np.cumsum(lengths).tolist()
    return [tuple(values[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
