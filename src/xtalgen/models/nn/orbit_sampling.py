"""Crystals drawn from the network of orbits: all of a batch take a step together until each is written."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xtalgen.models.nn.batches import MAX_ATOMS, mix_seed
from xtalgen.models.nn.orbit_network import Orbits, Sheet, Steps, read_number
from xtalgen.models.nn.orbit_steps import GROUP, SITE, Answer, Formula, Query, Written, X, write

MOST_STEPS = 1 + MAX_ATOMS + 6 + 3 * MAX_ATOMS


@torch.inference_mode()
def draw(
    orbits: Orbits, formulas: Sequence[Formula], places: Sequence[int], *, seed: int, device: str, temperature: float
) -> list[Written | None]:
    """Returns what is drawn for each formula; None where no known space group has positions for its atoms.

    temperature: of all choices and numbers; 0 takes the likeliest. What is drawn depends on the seed and a formula's
    place, not on the batch.
    """
    width = MOST_STEPS
    sheet = Sheet(formulas, width)
    generators = [torch.Generator().manual_seed(mix_seed(seed, 1, place)) for place in places]
    chances = torch.stack([torch.rand(width, generator=generator, dtype=torch.float64) for generator in generators])
    writing = [write(formula, orbits.groups, looking_ahead=True) for formula in formulas]
    results: list[Written | None] = [None] * len(formulas)
    asked: dict[int, Query] = {}
    for row, one in enumerate(writing):
        query = next(one, None)
        if query is not None:
            asked[row] = query
    step = 0
    while asked:
        rows = list(asked)
        for row, query in asked.items():
            sheet.ask(row, step, query)
        answers = _answers(orbits, sheet.steps(rows, step + 1, device), [asked[row] for row in rows],
                           chances[rows, step].to(device), temperature)  # fmt: skip
        for row, answer in zip(rows, answers, strict=True):
            sheet.answer(row, step, asked[row], answer)
            try:
                asked[row] = writing[row].send(answer)
            except StopIteration as end:
                results[row] = end.value
                del asked[row]
        step += 1
    return results


def _answers(
    orbits: Orbits, steps: Steps, queries: Sequence[Query], chances: Tensor, temperature: float
) -> list[Answer]:
    """Returns the answer of the last step of each row."""
    network = orbits.network
    known = network(steps)[:, -1]
    kind, group = steps.kind[:, -1], steps.group[:, -1]
    answers = np.zeros(len(queries))
    for wanted in ("group", "site", "number"):
        rows = {"group": kind == GROUP, "site": kind == SITE, "number": kind > SITE}[wanted].nonzero().squeeze(-1)
        if len(rows) == 0:
            continue
        if wanted == "number":
            scores = network.number_scores(known[rows], kind[rows])
        else:
            scores = (
                network.group_scores(known[rows])
                if wanted == "group"
                else network.site_scores(known[rows], group[rows])
            )
            closed = torch.ones(scores.shape, dtype=torch.bool)
            for place, row in enumerate(rows.tolist()):
                closed[place, list(queries[row].choices)] = False
            scores = scores.masked_fill(closed.to(scores.device), float("-inf"))
        chosen = _choose(scores.double(), chances[rows], temperature)
        if wanted == "number":
            circular = kind[rows] >= X
            chosen = read_number(scores.double().softmax(dim=-1), chosen, circular)
        answers[rows.cpu().numpy()] = chosen.cpu().numpy()
    return [int(a) if query.kind <= SITE else float(a) for a, query in zip(answers, queries, strict=True)]


def _choose(scores: Tensor, chances: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return scores.argmax(dim=-1)
    summed = (scores / temperature).softmax(dim=-1).cumsum(dim=-1)
    return torch.searchsorted(summed, chances.unsqueeze(-1) * summed[:, -1:], right=True).squeeze(-1)
