"""Crystals drawn from the network of orbits: all of a batch take a step together until each is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from xtalgen.models.nn.batches import MAX_ATOMS, mix_seed
from xtalgen.models.nn.orbit_network import Orbits, Sheet, read_number
from xtalgen.models.nn.orbit_steps import GROUP, SITE, Answer, Formula, Query, Written, X, write

MOST_STEPS = 1 + MAX_ATOMS + 6 + 3 * MAX_ATOMS
SMALLEST_TEMPERATURE = 1e-6


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
) -> list[Written | None]:
    """Returns what is drawn for each formula; None where no known space group has positions for its atoms.

    temperature: of all choices and numbers; 0 takes the likeliest. candidates: symmetries (a space group with all
    positions) to draw for each, the first at `temperature`, the others at 1; the likeliest of them as a whole goes on.
    What is drawn depends on the seed and a formula's place, not on the batch.
    """
    drawing = _Drawing(orbits, formulas, places, seed=seed, device=device, candidates=candidates)
    heats = torch.ones(len(drawing.rows), dtype=torch.float64)
    heats[::candidates] = temperature
    while going := [row for row in drawing.rows if row.query and row.query.kind <= SITE]:
        drawing.choose(going, heats)
    every = range(0, len(drawing.rows), candidates)
    best = [max(drawing.rows[first : first + candidates], key=lambda row: row.score) for first in every]
    while going := [row for row in best if row.query]:
        drawing.tell(going, temperature)
    return [row.written for row in best]


@dataclass
class _Row:
    """A crystal that is being written. told: its formula's place and its answers; score: their log-likelihood."""

    number: int
    writing: Iterator[Any]
    query: Query | None
    told: tuple[Answer, ...]
    steps: int = 0
    score: float = 0.0
    written: Written | None = None

    def go_on(self, answer: Answer) -> None:
        """Sends the answer of a step."""
        self.steps += 1
        self.told = (*self.told, answer)
        try:
            self.query = self.writing.send(answer)
        except StopIteration as end:
            self.query, self.written = None, end.value


class _Drawing:
    def __init__(
        self, orbits: Orbits, formulas: Sequence[Formula], places: Sequence[int], *, seed: int, device: str,
        candidates: int,
    ) -> None:  # fmt: skip
        self.orbits, self.device = orbits, device
        repeated = [formula for formula in formulas for _ in range(candidates)]
        self.rows = []
        for number, formula in enumerate(repeated):
            writing = write(formula, orbits.groups, looking_ahead=True)
            self.rows.append(_Row(number, writing, next(writing, None), (number // candidates,)))
        self.sheet = Sheet(repeated, MOST_STEPS)
        generators = [torch.Generator().manual_seed(mix_seed(seed, 1, place)) for place in places]
        self.chances = torch.cat(
            [torch.rand(candidates, MOST_STEPS, generator=own, dtype=torch.float64) for own in generators]
        )

    def choose(self, rows: Sequence[_Row], heats: Float[Tensor, " all"]) -> None:
        """Lets these rows, which all ask for a group or a position, choose at their temperatures.

        The network looks once at candidates that were told the same.
        """
        network = self.orbits.network
        firsts = {row.told: row for row in reversed(rows)}
        places = {told: place for place, told in enumerate(firsts)}
        for row in rows:
            self.sheet.ask(row.number, row.steps, row.query)
        known, kind, group = self._look([*firsts.values()])
        groups, sites = network.group_scores(known), network.site_scores(known, group)
        width = max(groups.shape[1], sites.shape[1])
        groups, sites = (nn.functional.pad(scores, (0, width - scores.shape[1])) for scores in (groups, sites))
        scores = torch.where((kind == GROUP).unsqueeze(-1), groups, sites).double()
        closed = torch.ones(scores.shape, dtype=torch.bool)
        for place, row in enumerate(firsts.values()):
            closed[place, list(row.query.choices)] = False
        scores = scores.masked_fill(closed.to(scores.device), float("-inf")).log_softmax(dim=-1)
        scores = scores[[places[row.told] for row in rows]]
        chosen = _pick(scores, self._chances(rows), heats[[row.number for row in rows]].to(scores.device))
        gained = scores.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        for row, answer, score in zip(rows, chosen.tolist(), gained.tolist(), strict=True):
            self.sheet.answer(row.number, row.steps, row.query, answer)
            row.score += score
            row.go_on(answer)

    def tell(self, rows: Sequence[_Row], temperature: float) -> None:
        """Lets these rows, which all ask for a number, draw it."""
        for row in rows:
            self.sheet.ask(row.number, row.steps, row.query)
        known, kind, _ = self._look(rows)
        scores = self.orbits.network.number_scores(known, kind).double()
        bins = _pick(scores, self._chances(rows), torch.full_like(scores[:, 0], temperature))
        for row, answer in zip(rows, read_number(scores.softmax(dim=-1), bins, kind >= X).tolist(), strict=True):
            self.sheet.answer(row.number, row.steps, row.query, answer)
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


def _pick(
    scores: Float[Tensor, "batch classes"], chances: Float[Tensor, " batch"], temperatures: Float[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """Returns the class at which a row's summed probability passes its chance; the likeliest at temperature 0."""
    summed = (scores / temperatures.clamp_min(SMALLEST_TEMPERATURE).unsqueeze(-1)).softmax(dim=-1).cumsum(dim=-1)
    drawn = torch.searchsorted(summed, chances.unsqueeze(-1) * summed[:, -1:], right=True).squeeze(-1)
    return torch.where(temperatures == 0, scores.argmax(dim=-1), drawn)
