"""Crystals as sequences of steps for training, resident on the device in buckets of similar length."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from xtalgen.crystals import Crystal
from xtalgen.models.orbits.network import Steps, TokenBuffer
from xtalgen.models.orbits.steps import Answer, Formula, Groups, Query, answers_of, formula_of, write
from xtalgen.structure.wyckoff_positions import COLUMN
from xtalgen.training.batches import Bucketed, Split, select, select_both

BUCKET = 8  # steps


class OrbitData(Bucketed):
    """A data set as one `Steps` per bucket. The size of a crystal is its number of steps and elements."""

    def __init__(self, crystals: Sequence[Crystal], groups: Groups, device: str) -> None:
        self.crystals, self.device = list(crystals), torch.device(device)
        all_answers: list[Any] = [answers_of(crystal.info[COLUMN], groups) for crystal in crystals]
        formulas = [formula_of(crystal.atomic_numbers) for crystal in crystals]
        asked = [replay(formula, answers, groups) for formula, answers in zip(formulas, all_answers, strict=True)]
        lengths = np.array([len(queries) for queries in asked])
        self.lengths = lengths + np.array([len(formula) for formula in formulas])
        ceilings = -(-lengths // BUCKET) * BUCKET
        self.buckets: list[Steps] = []
        for ceiling in np.unique(ceilings):
            rows = np.flatnonzero(ceilings == ceiling)
            width = int(lengths[rows].max())
            buffer = TokenBuffer([formulas[row] for row in rows], width)
            for index, row in enumerate(rows):
                for step, (query, answer) in enumerate(zip(asked[row], all_answers[row], strict=True)):
                    buffer.ask(index, step, query)
                    buffer.answer(index, step, query, answer)
            self.buckets.append(buffer.steps(range(len(rows)), width, device))
        values = [[crystal.atomic_numbers.tolist(), crystal.info[COLUMN]] for crystal in crystals]
        self.digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.lengths)

    def sizes(self) -> np.ndarray:
        """Returns the number of steps and elements of each crystal."""
        return self.lengths

    def padded_sizes(self) -> np.ndarray:
        """Returns the padded number of steps and elements of each crystal, in no particular order."""
        return np.concatenate(
            [np.full(len(steps), steps.kind.shape[1] + steps.elements.shape[1]) for steps in self.buckets]
        )


def load_orbits(train: Sequence[Crystal], val: Sequence[Crystal], device: str) -> tuple[Split, Groups]:
    """Returns the crystals of both sets that can be encoded as steps, and the groups and positions of the training set.

    Raises ValueError when a set has none.
    """
    groups = Groups.seen([crystal.info[COLUMN] for crystal in select(train, _undescribed)[0]])

    def refuse(crystal: Crystal) -> str | None:
        unknown = answers_of(crystal.info[COLUMN], groups) is None if not _undescribed(crystal) else False
        return _undescribed(crystal) or ("Wyckoff position that the training set lacks" if unknown else None)

    kept, left_out = select_both(train, val, refuse)
    data = {name: OrbitData(crystals, groups, device) for name, crystals in kept.items()}
    return Split(data["train"], data["val"], left_out), groups


def replay(formula: Formula, answers: Sequence[Answer], groups: Groups) -> list[Query]:
    """Returns the queries of a crystal's steps, given its answers."""
    writing = write(formula, groups, looking_ahead=False)
    return [next(writing), *(writing.send(answer) for answer in answers[:-1])]


def _undescribed(crystal: Crystal) -> str | None:
    return None if crystal.info.get(COLUMN) else "no Wyckoff positions"
