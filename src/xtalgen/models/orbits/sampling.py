"""Crystals drawn from the network of orbits and from analogues: all of a batch take a step together until written."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xtalgen.crystals import Crystal
from xtalgen.models.orbits.analogues import FLOOR, MOST_RECALLED, Recalled
from xtalgen.models.orbits.network import BINS, Orbits, Sheet, distances_in_bins, read_number
from xtalgen.models.orbits.steps import GROUP, SITE, Answer, Formula, Groups, Query, Written, X, build, write
from xtalgen.models.sampling.requests import Wanted, to_crystals
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.training.batches import MAX_ATOMS, mix_seed

MOST_STEPS = 1 + MAX_ATOMS + 6 + 3 * MAX_ATOMS
SMALLEST_TEMPERATURE = 1e-6
TRUST = 0.4  # in the network beside analogues: what its log-likelihoods count for (records/ladder.md)
BLUR = 1.0  # of a number of an analogue: the standard deviation, in bins
NUMBER_FLOOR = 1e-3  # the chance of a bin that no analogue is near to

Recall = Callable[[Formula], Recalled | None]


@torch.inference_mode()
def draw(
    orbits: Orbits,
    formulas: Sequence[Formula],
    places: Sequence[int],
    *,
    seed: int,
    device: str,
    temperature: float,
    candidates: int = 1,
    recall: Recall = lambda _: None,
    remembered: int = 0,
) -> list[Written | None]:
    """Returns what is drawn for each formula; None where no known space group has positions for its atoms.

    temperature: of all choices and numbers; 0 takes the likeliest. candidates: symmetries (a space group with all
    positions) to draw for each, the first at `temperature`, the others at 1. recall: gives a formula's analogues, of
    which the `remembered` likeliest symmetries are candidates too. The one goes on whose chance as a whole is highest,
    that of the network to the power of TRUST times that of the analogues; its numbers follow such a product as well.
    What is drawn depends on the seed and a formula's place, not on the batch.
    """
    recalled = [recall(formula) if remembered else None for formula in formulas]
    drawing = _Drawing(
        orbits, formulas, places, recalled, seed=seed, device=device, candidates=candidates, remembered=remembered
    )
    heats = torch.tensor([temperature if row.first else 1.0 for row in drawing.rows], dtype=torch.float64)
    while going := [row for row in drawing.rows if row.query and row.query.kind <= SITE]:
        drawing.choose(going, heats)
    best = drawing.best()
    analogues = _Numbers(best, recalled, device)
    while going := [row for row in best if row.query]:
        drawing.tell(going, temperature, analogues)
    return [row.written for row in best]


@dataclass
class _Row:
    """A crystal that is being written.

    place: of its formula in the batch; first: of its formula's rows; given: choices to make, nothing to draw them;
    told: its answers; score: their log-likelihood.
    """

    number: int
    place: int
    writing: Generator[Query, Any, Written | None]
    query: Query | None
    first: bool = False
    given: tuple[int, ...] = ()
    told: list[Answer] = field(default_factory=list)
    score: float = 0.0
    written: Written | None = None

    @property
    def asked(self) -> Query:
        """What its next step asks for, until it is written."""
        assert self.query is not None
        return self.query

    @property
    def choices(self) -> tuple[int, ...]:
        """Its answers, as long as they are choices."""
        return tuple(map(int, self.told))

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.told)

    def go_on(self, answer: Answer) -> None:
        """Sends the answer of a step."""
        self.told.append(answer)
        try:
            self.query = self.writing.send(answer)
        except StopIteration as end:
            self.query, self.written = None, end.value


class _Drawing:
    def __init__(
        self,
        orbits: Orbits,
        formulas: Sequence[Formula],
        places: Sequence[int],
        recalled: Sequence[Recalled | None],
        *,
        seed: int,
        device: str,
        candidates: int,
        remembered: int,
    ) -> None:
        self.orbits, self.device = orbits, device
        self.symmetries = [found.symmetries() if found else {} for found in recalled]
        self.rows: list[_Row] = []
        chances = []
        for place, (formula, known) in enumerate(zip(formulas, self.symmetries, strict=True)):
            given = [()] * candidates + [*known][:remembered]
            for order, choices in enumerate(given):
                writing = write(formula, orbits.groups, looking_ahead=True)
                first = next(writing, None)
                self.rows.append(_Row(len(self.rows), place, writing, first, order == 0, choices))
            generator = torch.Generator().manual_seed(mix_seed(seed, 1, places[place]))
            chances.append(torch.rand(len(given), MOST_STEPS, generator=generator, dtype=torch.float64))
        self.chances = torch.cat(chances)
        self.sheet = Sheet([formulas[row.place] for row in self.rows], MOST_STEPS)

    def best(self) -> list[_Row]:
        """Returns for each formula the row that is likeliest as a whole."""
        best: dict[int, tuple[float, _Row]] = {}
        for row in self.rows:
            score, remembered = row.score, self.symmetries[row.place]
            if remembered:
                score = TRUST * score + np.log(remembered.get(row.choices, 0.0) + FLOOR)
            if row.first or score > best[row.place][0]:
                best[row.place] = (score, row)
        return [row for _, row in best.values()]

    def choose(self, rows: Sequence[_Row], heats: Float[Tensor, " all"]) -> None:
        """Lets these rows, which all ask for a group or a position, choose at their temperatures.

        The network looks once at rows of a formula that were told the same.
        """
        network = self.orbits.network
        firsts = {(row.place, *row.told): row for row in reversed(rows)}
        places = {told: place for place, told in enumerate(firsts)}
        for row in rows:
            self.sheet.ask(row.number, row.steps, row.asked)
        known, kind, group = self._look([*firsts.values()])
        groups, sites = network.group_scores(known), network.site_scores(known, group)
        width = max(groups.shape[1], sites.shape[1])
        groups, sites = (nn.functional.pad(scores, (0, width - scores.shape[1])) for scores in (groups, sites))
        scores = torch.where((kind == GROUP).unsqueeze(-1), groups, sites).double()
        closed = torch.ones(scores.shape, dtype=torch.bool)
        for place, row in enumerate(firsts.values()):
            closed[place, list(row.asked.choices)] = False
        scores = scores.masked_fill(closed.to(scores.device), float("-inf")).log_softmax(dim=-1)
        scores = scores[[places[(row.place, *row.told)] for row in rows]]
        chosen = _pick(scores, self._chances(rows), heats[[row.number for row in rows]].to(scores.device))
        given = torch.tensor([row.given[row.steps] if row.given else -1 for row in rows], device=chosen.device)
        chosen = torch.where(given >= 0, given, chosen)
        gained = scores.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        for row, answer, score in zip(rows, chosen.tolist(), gained.tolist(), strict=True):
            self.sheet.answer(row.number, row.steps, row.asked, answer)
            row.score += score
            row.go_on(answer)

    def tell(self, rows: Sequence[_Row], temperature: float, analogues: "_Numbers") -> None:
        """Lets these rows, which all ask for a number, draw it."""
        for row in rows:
            self.sheet.ask(row.number, row.steps, row.asked)
        known, kind, _ = self._look(rows)
        circular = kind >= X
        scores = self.orbits.network.number_scores(known, kind).double().log_softmax(dim=-1)
        told = analogues.scores(rows, circular)
        scores = torch.where(told.isnan(), scores, TRUST * scores + told)
        bins = _pick(scores, self._chances(rows), torch.full_like(scores[:, 0], temperature))
        numbers = read_number(scores.softmax(dim=-1), bins, circular)
        analogues.follow(rows, numbers, circular)
        for row, answer in zip(rows, numbers.tolist(), strict=True):
            self.sheet.answer(row.number, row.steps, row.asked, answer)
            row.go_on(answer)

    def _look(
        self, rows: Sequence[_Row]
    ) -> tuple[Float[Tensor, "rows hidden"], Int[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Returns what is known before the rows' questions are answered, and their kinds and groups."""
        last = torch.tensor([row.steps for row in rows], device=self.device)
        steps = self.sheet.steps([row.number for row in rows], int(last.max()) + 1, self.device)
        at = (torch.arange(len(rows), device=self.device), last)
        return self.orbits.network(steps)[at], steps.kind[at], steps.group[at]

    def _chances(self, rows: Sequence[_Row]) -> Float[Tensor, " rows"]:
        return self.chances[[row.number for row in rows], [row.steps for row in rows]].to(self.device)


class _Numbers:
    """The numbers of the analogues that have the symmetry chosen. Those that agree with what is told gain weight."""

    def __init__(self, best: Sequence[_Row], recalled: Sequence[Recalled | None], device: str) -> None:
        found: list[tuple[Any, Any]] = [
            known.numbers_of(row.choices) if known else ([], ()) for row, known in zip(best, recalled, strict=True)
        ]
        longest = max((len(told) for numbers, _ in found for told in numbers), default=0)
        self.values = torch.zeros(len(best), MOST_RECALLED, longest, dtype=torch.float64, device=device)
        self.weights = torch.zeros(len(best), MOST_RECALLED, dtype=torch.float64, device=device)
        self.told = [row.steps for row in best]
        for place, (numbers, weights) in enumerate(found):
            if numbers:
                told = torch.tensor(numbers, dtype=torch.float64)
                self.values[place, : len(told), : told.shape[1]] = told
                self.weights[place, : len(told)] = torch.tensor(weights) / max(float(np.sum(weights)), 1e-300)

    def scores(self, rows: Sequence[_Row], circular: Tensor) -> Float[Tensor, "rows bins"]:
        """Returns how likely the analogues find the bins of the next number, NaN where there are none."""
        places, values = self._next(rows)
        bins = torch.arange(BINS, device=values.device) / torch.where(circular, BINS, BINS - 1).unsqueeze(-1)
        away = distances_in_bins(values.unsqueeze(-1), bins.unsqueeze(1), circular.view(-1, 1, 1))
        near = torch.softmax(-0.5 * (away / BLUR) ** 2, dim=-1)
        weights = self.weights[places]
        told = torch.log((near * weights.unsqueeze(-1)).sum(dim=1) + NUMBER_FLOOR)
        return torch.where(weights.sum(dim=1, keepdim=True) > 0, told, torch.nan)

    def follow(self, rows: Sequence[_Row], numbers: Float[Tensor, " rows"], circular: Tensor) -> None:
        """Weighs the analogues anew, once a number is told."""
        places, values = self._next(rows)
        away = distances_in_bins(values, numbers.unsqueeze(-1), circular.unsqueeze(-1))
        weights = self.weights[places] * (torch.exp(-0.5 * (away / BLUR) ** 2) + NUMBER_FLOOR)
        self.weights[places] = weights / weights.sum(dim=1, keepdim=True).clamp_min(SMALLEST_TEMPERATURE)

    def _next(self, rows: Sequence[_Row]) -> tuple[Int[Tensor, " rows"], Float[Tensor, "rows analogues"]]:
        places = torch.tensor([row.place for row in rows], device=self.values.device)
        step = torch.tensor([row.steps - self.told[row.place] for row in rows], device=self.values.device)
        if not self.values.shape[-1]:
            return places, self.weights[places]
        step = step.clamp_max(self.values.shape[-1] - 1)
        return places, self.values[places, :, step]


def atoms_of(batch: Wanted) -> list[Int[np.ndarray, " atoms"]]:
    """Returns the atomic numbers of each crystal of a batch, without padding."""
    return [row[:n] for row, n in zip(batch.atomic_numbers.cpu().numpy(), batch.n_atoms, strict=True)]


def to_crystal(wanted: Int[np.ndarray, " atoms"], written: Written | None, groups: Groups, otherwise: str) -> Crystal:
    """Returns the crystal with its atoms in the order asked for; one of status `otherwise` for None."""
    if written is None:
        return Crystal(id="", status=otherwise, atomic_numbers=wanted.astype(np.uint8))
    lattice, coords, numbers = build(written, groups)
    ordered = np.empty_like(coords)
    ordered[np.argsort(wanted, kind="stable")] = coords[np.argsort(numbers, kind="stable")]
    geometry = (*lattice_to_parameters(lattice), ordered, wanted)
    lengths, angles, places, elements = (torch.from_numpy(part).unsqueeze(0) for part in geometry)
    return to_crystals(lengths, angles, places, elements, [len(wanted)])[0]


def _pick(
    scores: Float[Tensor, "batch classes"], chances: Float[Tensor, " batch"], temperatures: Float[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """Returns the class at which a row's summed probability passes its chance; the likeliest at temperature 0."""
    summed = (scores / temperatures.clamp_min(SMALLEST_TEMPERATURE).unsqueeze(-1)).softmax(dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(summed, chances.unsqueeze(-1) * summed[:, -1:], right=True).squeeze(-1)
    return torch.where(temperatures == 0, scores.argmax(dim=-1), drawn)
