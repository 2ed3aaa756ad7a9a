"""Samples the models whose weights come with the package: new crystals, or structures for given formulas."""

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.commands.choices import DEFAULT_MODEL, shipped_weights
from xtalgen.commands.functions.results import CrystalSet
from xtalgen.crystals import Crystal, read_crystals
from xtalgen.metrics.novelty import Matching
from xtalgen.runtime.devices import pick_device
from xtalgen.stages.sample import SamplingRequest, sample
from xtalgen.structure.composition import read_formula
from xtalgen.structure.elements import NUMBERS
from xtalgen.structure.standard_cell import sort_atoms

log = logging.getLogger(__name__)
CHUNK = 25  # crystals per call of the model, between two steps of the progress bar
TASKS = {"dng": "generation", "csp": "structure prediction"}
# Models whose default settings give the likeliest structure every time: how often each is asked with other settings for
# each further structure that is wanted.
DRAWS = {"formula_orbits": (8, {"structure_temperature": 1.0, "candidates": 1, "analogues": 0})}


def generate(
    n: int = 100,
    *,
    model: str = DEFAULT_MODEL,
    checkpoint: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> CrystalSet:
    """Returns `n` new crystals of any composition; equal seeds give equal crystals.

    checkpoint: of the model; None takes the weights that come with the package. settings: of sampling, those of
    `sample` in the configuration of a run. Failed crystals keep their row, with a status. Raises ValueError for a model
    without such weights, or unknown settings.
    """
    if n < 1:
        raise ValueError(f"n is {n}; ask for at least one crystal.")
    return CrystalSet(
        _sample(model=model, checkpoint=checkpoint, task="dng", settings=settings, seed=seed, device=device, n=n)
    )


def predict(
    formulas: str | Sequence[str],
    k: int = 1,
    *,
    model: str = DEFAULT_MODEL,
    checkpoint: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> CrystalSet:
    """Returns at most `k` different structures for each formula; the cell holds the atoms that the formula counts.

    "NaCl" asks for a cell of two atoms, "Na4Cl4" for one of eight. The first structure of a formula is the model's
    prediction; further ones are drawn, the most frequent first (column `n_drawn`), and equal ones are left out
    (StructureMatcher with the tolerances of uniqueness). `target_id` names the formula. Other arguments as those of
    `generate`. Raises ValueError for a text that is no formula.
    """
    wanted = list(dict.fromkeys([formulas] if isinstance(formulas, str) else formulas))
    if k < 1 or not wanted:
        raise ValueError(f"{len(wanted)} formulas, k = {k}; give at least one formula, and k at least 1.")
    times, other = DRAWS.get(model, (1, {})) if settings is None else (1, {})
    ask = partial(_sample, model=model, checkpoint=checkpoint, task="csp", seed=seed, device=device)
    targets = [_target(formula) for formula in wanted]
    drawn = list(ask(targets=targets * (1 if other else k), settings=settings))
    if k > 1 and other:
        drawn += ask(targets=targets * (times * (k - 1)), settings=other)
    found = {formula: _most_frequent(formula, drawn, k) for formula in wanted}
    for formula, rows in found.items():
        if len(rows) < k:
            log.info("%s: %d different structures of %d; a larger cell may have more", formula, len(rows), k)
    return CrystalSet([row for rows in found.values() for row in rows])


def _most_frequent(formula: str, drawn: Sequence[Crystal], k: int) -> list[Crystal]:
    """Returns at most `k` different structures of a formula: the first drawn, then the most frequent ones."""
    rows = [row for row in drawn if row.info["target_id"] == formula]
    rows = [replace(row, id=f"{formula}-{index}") for index, row in enumerate(rows)]
    verdicts = Matching().compare(rows)
    first = {row.id: verdict.duplicate_of or row.id for row, verdict in zip(rows, verdicts, strict=True)}
    counts = Counter(first.values())
    usable = [row for row, verdict in zip(rows, verdicts, strict=True) if verdict.unique] or rows[:1]
    order = [usable[0], *sorted(usable[1:], key=lambda row: -counts[row.id])]
    return [
        replace(row, id=f"{formula}-{rank}", info={**row.info, "n_drawn": counts[row.id]})
        for rank, row in enumerate(order[:k], start=1)
    ]


def _target(formula: str) -> Crystal:
    counts = read_formula(formula)
    numbers = np.repeat([NUMBERS[symbol] for symbol in counts], list(counts.values())).astype(np.uint8)
    return Crystal(formula, atomic_numbers=numbers[sort_atoms(numbers)])


def find_weights(model: str, task: str, checkpoint: str | Path | None) -> Path:
    """Returns the checkpoint to sample a task with: the given one, or that which comes with the package.

    Raises FileNotFoundError when there is no such file; ValueError, listing the models there are, for one without
    weights.
    """
    if checkpoint is not None:
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"{checkpoint}: there is no such file. Give a checkpoint.safetensors of {model}.")
        return Path(checkpoint)
    shipped = shipped_weights(task)
    if model not in shipped:
        raise ValueError(
            f"no weights of {model!r} for {TASKS[task]} come with xtalgen; there are {', '.join(shipped)}. Choose one "
            "of them, or give your own as checkpoint."
        )
    return shipped[model]


def _sample(
    *,
    model: str,
    checkpoint: str | Path | None,
    task: str,
    settings: Mapping[str, Any] | None,
    seed: int,
    device: str,
    n: int = 0,
    targets: Sequence[Crystal] = (),
) -> list[Crystal]:
    request = SamplingRequest(
        model=model,
        checkpoint=find_weights(model, task, checkpoint),
        settings=dict(settings or {}),
        seed=seed,
        device=pick_device(device),
        n=n or len(targets),
        targets=tuple(targets),
        chunk=CHUNK,
        prefix=model,
    )
    with tempfile.TemporaryDirectory(prefix="xtalgen-") as folder:
        out = Path(folder) / "sample.parquet"
        sample(request, 1, 1, work=Path(folder) / "work", out=out)
        return read_crystals(out)
