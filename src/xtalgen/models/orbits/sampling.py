"""Sampling of crystals from the network of orbits and from analogues, all crystals of a batch step by step together.

Network and analogues are combined as a product of experts: log p ∝ TRUST · log p(network) + log p(analogues).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xtalgen.crystals import Crystal
from xtalgen.models.orbits.analogues import FLOOR, MOST_RETRIEVED, Retrieved
from xtalgen.models.orbits.network import BINS, Orbits, TokenBuffer, distances_in_bins, read_number
from xtalgen.models.orbits.steps import GROUP, SITE, Answer, Formula, Groups, Query, WyckoffCrystal, X, build, write
from xtalgen.models.sampling.requests import RequestBatch, to_crystals
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.batches import MAX_ATOMS, mix_seed

MOST_STEPS = 1 + MAX_ATOMS + 6 + 3 * MAX_ATOMS
SMALLEST_TEMPERATURE = 1e-6
TRUST = 0.4  # weight of the network's log-likelihoods, chosen on validation data (records/ladder.md)
BLUR = 1.0  # standard deviation, in bins, of the normal distribution around an analogue's number
NUMBER_FLOOR = 1e-3  # probability of a bin far from every analogue

Retrieve = Callable[[Formula], Retrieved | None]


@torch.inference_mode()
def draw(
    orbits: Orbits,
    formulas: Sequence[Formula],
    indices: Sequence[int],
    *,
    seed: int,
    device: str,
    temperature: float,
    candidates: int = 1,
    retrieve: Retrieve = lambda _: None,
    n_analogues: int = 0,
) -> list[WyckoffCrystal | None]:
    """Returns a crystal for each formula; None where no known space group has positions for its atoms.

    temperature: of all choices and numbers; 0 takes the most likely. candidates: symmetries (a space group with all
    positions) drawn per formula, the first at `temperature`, the others at 1. retrieve: returns the analogues of a
    formula; their `n_analogues` most likely symmetries are added to the candidates. The candidate of the highest
    probability by network and analogues is kept, and its numbers are drawn from the product of both. Results depend on
    the seed and a formula's index, not on the batch.
    """
    # P(crystal | formula) = P(symmetry | formula) P(numbers | symmetry, formula): first the discrete choices of all
    # candidates, then, for the best candidate of each formula, cell and coordinates.
    retrieved = [retrieve(formula) if n_analogues else None for formula in formulas]
    drawing = _Drawing(
        orbits, formulas, indices, retrieved, seed=seed, device=device, candidates=candidates, n_analogues=n_analogues
    )
    # The first row of a formula is drawn at the requested temperature, the others explore at 1.
    temperatures = torch.tensor([temperature if row.first else 1.0 for row in drawing.rows], dtype=torch.float64)
    while active := [row for row in drawing.rows if row.query and row.query.kind <= SITE]:
        drawing.choose(active, temperatures)
    best = drawing.best()
    analogues = _Numbers(best, retrieved, device)
    while active := [row for row in best if row.query]:
        drawing.draw_numbers(active, temperature, analogues)
    return [row.written for row in best]


@dataclass
class _Row:
    """A partially generated crystal.

    index: of its formula in the batch; first: whether it is the first row of its formula; given: prescribed choices,
    which are not drawn; answers: those so far; score: their log-likelihood under the network.
    """

    number: int
    index: int
    writing: Generator[Query, Any, WyckoffCrystal | None]
    query: Query | None
    first: bool = False
    given: tuple[int, ...] = ()
    answers: list[Answer] = field(default_factory=list)
    score: float = 0.0
    written: WyckoffCrystal | None = None

    @property
    def asked(self) -> Query:
        """The current query, until the crystal is complete."""
        assert self.query is not None
        return self.query

    @property
    def choices(self) -> tuple[int, ...]:
        """The discrete answers, which come first."""
        return tuple(map(int, self.answers))

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.answers)

    def advance(self, answer: Answer) -> None:
        """Answers the current query and receives the next one."""
        self.answers.append(answer)
        try:
            self.query = self.writing.send(answer)
        except StopIteration as end:
            self.query, self.written = None, end.value


class _Drawing:
    def __init__(
        self,
        orbits: Orbits,
        formulas: Sequence[Formula],
        indices: Sequence[int],
        retrieved: Sequence[Retrieved | None],
        *,
        seed: int,
        device: str,
        candidates: int,
        n_analogues: int,
    ) -> None:
        self.orbits, self.device = orbits, device
        self.symmetries = [one.symmetries() if one else {} for one in retrieved]
        self.rows: list[_Row] = []
        chances = []
        for index, (formula, known) in enumerate(zip(formulas, self.symmetries, strict=True)):
            # Rows of a formula: `candidates` free ones, then one for each of the likeliest symmetries of its analogues.
            given = [()] * candidates + [*known][:n_analogues]
            for order, choices in enumerate(given):
                writing = write(formula, orbits.groups, looking_ahead=True)
                first = next(writing, None)
                self.rows.append(_Row(len(self.rows), index, writing, first, order == 0, choices))
            # One uniform number per row and step, so that results do not depend on the composition of a batch.
            generator = torch.Generator().manual_seed(mix_seed(seed, 1, indices[index]))
            chances.append(torch.rand(len(given), MOST_STEPS, generator=generator, dtype=torch.float64))
        self.chances = torch.cat(chances)
        self.buffer = TokenBuffer([formulas[row.index] for row in self.rows], MOST_STEPS)

    def best(self) -> list[_Row]:
        """Returns the row of the highest probability for each formula."""
        best: dict[int, tuple[float, _Row]] = {}
        for row in self.rows:
            score, known = row.score, self.symmetries[row.index]
            if known:
                # log p(symmetry) of the product of experts; FLOOR keeps symmetries without analogue finite.
                score = TRUST * score + np.log(known.get(row.choices, 0.0) + FLOOR)
            if row.first or score > best[row.index][0]:
                best[row.index] = (score, row)
        return [row for _, row in best.values()]

    def choose(self, rows: Sequence[_Row], temperatures: Float[Tensor, " all"]) -> None:
        """Draws a group or position for each of these rows at its temperature.

        The network is evaluated once for all rows of a formula with the same answers so far.
        """
        network = self.orbits.network
        # Rows with equal prefixes share one evaluation; `reversed` keeps the first row of each.
        firsts = {(row.index, *row.answers): row for row in reversed(rows)}
        indices = {answers: index for index, answers in enumerate(firsts)}
        for row in rows:
            self.buffer.ask(row.number, row.steps, row.asked)
        known, kind, group = self._hidden([*firsts.values()])
        groups, sites = network.group_scores(known), network.site_scores(known, group)
        # Group and site scores are padded to one width, so that rows at different kinds of steps share a batch.
        width = max(groups.shape[1], sites.shape[1])
        groups, sites = (nn.functional.pad(scores, (0, width - scores.shape[1])) for scores in (groups, sites))
        scores = torch.where((kind == GROUP).unsqueeze(-1), groups, sites).double()
        # Only the choices offered by `write` stay open, so every drawn symmetry can place all atoms.
        closed = torch.ones(scores.shape, dtype=torch.bool)
        for index, row in enumerate(firsts.values()):
            closed[index, list(row.asked.choices)] = False
        scores = scores.masked_fill(closed.to(scores.device), float("-inf")).log_softmax(dim=-1)
        scores = scores[[indices[(row.index, *row.answers)] for row in rows]]
        chosen = _pick(scores, self._chances(rows), temperatures[[row.number for row in rows]].to(scores.device))
        # Prescribed choices replace drawn ones, but are scored by the network in the same way.
        given = torch.tensor([row.given[row.steps] if row.given else -1 for row in rows], device=chosen.device)
        chosen = torch.where(given >= 0, given, chosen)
        gained = scores.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        for row, answer, score in zip(rows, chosen.tolist(), gained.tolist(), strict=True):
            self.buffer.answer(row.number, row.steps, row.asked, answer)
            row.score += score
            row.advance(answer)

    def draw_numbers(self, rows: Sequence[_Row], temperature: float, analogues: "_Numbers") -> None:
        """Draws a number for each of these rows."""
        for row in rows:
            self.buffer.ask(row.number, row.steps, row.asked)
        known, kind, _ = self._hidden(rows)
        circular = kind >= X
        scores = self.orbits.network.number_scores(known, kind).double().log_softmax(dim=-1)
        # log p ∝ TRUST log p(network) + log p(analogues); NaN: no analogues.
        of_analogues = analogues.scores(rows, circular)
        scores = torch.where(of_analogues.isnan(), scores, TRUST * scores + of_analogues)
        bins = _pick(scores, self._chances(rows), torch.full_like(scores[:, 0], temperature))
        # A bin becomes a number by averaging over its neighbourhood, weighted by the combined probabilities.
        numbers = read_number(scores.softmax(dim=-1), bins, circular)
        analogues.follow(rows, numbers, circular)
        for row, answer in zip(rows, numbers.tolist(), strict=True):
            self.buffer.answer(row.number, row.steps, row.asked, answer)
            row.advance(answer)

    def _hidden(
        self, rows: Sequence[_Row]
    ) -> tuple[Float[Tensor, "rows hidden"], Int[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Returns the hidden states at the rows' current queries, and the queries' kinds and groups."""
        # Causal attention: the hidden state at a row's last step needs no later steps.
        last = torch.tensor([row.steps for row in rows], device=self.device)
        steps = self.buffer.steps([row.number for row in rows], int(last.max()) + 1, self.device)
        at = (torch.arange(len(rows), device=self.device), last)
        return self.orbits.network(steps)[at], steps.kind[at], steps.group[at]

    def _chances(self, rows: Sequence[_Row]) -> Float[Tensor, " rows"]:
        return self.chances[[row.number for row in rows], [row.steps for row in rows]].to(self.device)


class _Numbers:
    """Numbers of the analogues with the chosen symmetry, reweighted by agreement with the numbers drawn so far."""

    def __init__(self, best: Sequence[_Row], retrieved: Sequence[Retrieved | None], device: str) -> None:
        analogues: list[tuple[Any, Any]] = [
            known.numbers_of(row.choices) if known else ([], ()) for row, known in zip(best, retrieved, strict=True)
        ]
        longest = max((len(one) for numbers, _ in analogues for one in numbers), default=0)
        self.values = torch.zeros(len(best), MOST_RETRIEVED, longest, dtype=torch.float64, device=device)
        self.weights = torch.zeros(len(best), MOST_RETRIEVED, dtype=torch.float64, device=device)
        # Index of the first number of each crystal: numbers follow the discrete choices.
        self.n_choices = [row.steps for row in best]
        for index, (numbers, weights) in enumerate(analogues):
            if numbers:
                values = torch.tensor(numbers, dtype=torch.float64)
                self.values[index, : len(values), : values.shape[1]] = values
                self.weights[index, : len(values)] = torch.tensor(weights) / max(float(np.sum(weights)), 1e-300)

    def scores(self, rows: Sequence[_Row], circular: Tensor) -> Float[Tensor, "rows bins"]:
        """Returns log p of the bins of the next number by the analogues, NaN where there are none.

        p_b = Σ_a w_a exp(-(b - x_a)² / 2 BLUR²) / Z, plus a floor.
        """
        indices, values = self._next(rows)
        # (rows, analogues, bins): distance of every bin to the next number of every analogue.
        bins = torch.arange(BINS, device=values.device) / torch.where(circular, BINS, BINS - 1).unsqueeze(-1)
        away = distances_in_bins(values.unsqueeze(-1), bins.unsqueeze(1), circular.view(-1, 1, 1))
        near = torch.softmax(-0.5 * (away / BLUR) ** 2, dim=-1)
        weights = self.weights[indices]
        scores = torch.log((near * weights.unsqueeze(-1)).sum(dim=1) + NUMBER_FLOOR)
        return torch.where(weights.sum(dim=1, keepdim=True) > 0, scores, torch.nan)

    def follow(self, rows: Sequence[_Row], numbers: Float[Tensor, " rows"], circular: Tensor) -> None:
        """Updates the weights of the analogues after a number is drawn: w_a ∝ w_a exp(-(x - x_a)² / 2 BLUR²)."""
        indices, values = self._next(rows)
        away = distances_in_bins(values, numbers.unsqueeze(-1), circular.unsqueeze(-1))
        # Bayes' rule: the weight of an analogue times the likelihood of the drawn number under it.
        weights = self.weights[indices] * (torch.exp(-0.5 * (away / BLUR) ** 2) + NUMBER_FLOOR)
        self.weights[indices] = weights / weights.sum(dim=1, keepdim=True).clamp_min(SMALLEST_TEMPERATURE)

    def _next(self, rows: Sequence[_Row]) -> tuple[Int[Tensor, " rows"], Float[Tensor, "rows analogues"]]:
        indices = torch.tensor([row.index for row in rows], device=self.values.device)
        step = torch.tensor([row.steps - self.n_choices[row.index] for row in rows], device=self.values.device)
        if not self.values.shape[-1]:
            return indices, self.weights[indices]
        step = step.clamp_max(self.values.shape[-1] - 1)
        return indices, self.values[indices, :, step]


def atoms_of(batch: RequestBatch) -> list[Int[np.ndarray, " atoms"]]:
    """Returns the atomic numbers of each crystal of a batch, without padding."""
    return [row[:n] for row, n in zip(batch.atomic_numbers.cpu().numpy(), batch.n_atoms, strict=True)]


def to_crystal(
    wanted: Int[np.ndarray, " atoms"], written: WyckoffCrystal | None, groups: Groups, otherwise: str
) -> Crystal:
    """Returns the crystal with its atoms in the wanted order; None gives a failed crystal of status `otherwise`."""
    if written is None:
        return Crystal(id="", status=otherwise, atomic_numbers=wanted.astype(np.uint8))
    lattice, coords, numbers = build(written, groups)
    # Both stable sorts group atoms by element, which maps the built atoms to the wanted order.
    ordered = np.empty_like(coords)
    ordered[np.argsort(wanted, kind="stable")] = coords[np.argsort(numbers, kind="stable")]
    geometry = (*lattice_to_parameters(lattice), ordered, wanted)
    lengths, angles, places, elements = (torch.from_numpy(part).unsqueeze(0) for part in geometry)
    return to_crystals(lengths, angles, places, elements, [len(wanted)])[0]


def _pick(
    scores: Float[Tensor, "batch classes"], chances: Float[Tensor, " batch"], temperatures: Float[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """Returns a class per row by inverse transform sampling; the most likely class at temperature 0."""
    summed = (scores / temperatures.clamp_min(SMALLEST_TEMPERATURE).unsqueeze(-1)).softmax(dim=-1).cumsum(dim=-1)
    # u · Σ p instead of u, since the cumulative sum ends at 1 only up to rounding.
    drawn = torch.searchsorted(summed, chances.unsqueeze(-1) * summed[:, -1:], right=True).squeeze(-1)
    return torch.where(temperatures == 0, scores.argmax(dim=-1), drawn)
