"""Input and output of scoring: settings, crystals and fingerprints of a set, scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from xtalgen.featurizers.fingerprints import Fingerprints
from xtalgen.metrics.coverage import Cutoffs
from xtalgen.metrics.protocols import DEFAULT, RECIPES, Recipe
from xtalgen.metrics.statistics.intervals import RESAMPLES, Bootstrap, Estimate
from xtalgen.structure.crystal_list import CrystalList

Columns = dict[str, tuple[pa.DataType, Sequence[Any]]]
Flags = Bool[np.ndarray, " n"]
Measured = dict[str, Estimate | Bootstrap]  # metrics whose intervals are still to be drawn


@dataclass(frozen=True)
class MetricConfig:
    """How to score. match_timeout: seconds of wall time for one structure comparison."""

    recipe: Recipe = RECIPES[DEFAULT]
    match_timeout: float = 60.0
    resamples: int = RESAMPLES
    workers: int = 1
    seed: int = 0

    def describe(self, task: str) -> dict[str, Any]:
        """Returns the choices that concern a task, as the metrics file of a set holds them."""
        return self.recipe.describe(task) | {
            "intervals": f"95 %; rates: Wilson; others: percentile bootstrap, {self.resamples} resamples",
            "seed": self.seed,
            "match_timeout": self.match_timeout,
        }


@dataclass(frozen=True)
class Scores:
    """Verdicts by row, metrics, counts after each step, counts of failures by class, further facts of the recipe.

    outcomes: what paired tests need (see `comparisons.pack_outcomes`).
    """

    columns: Columns
    metrics: dict[str, Estimate]
    funnel: list[tuple[str, int]]
    failures: Counter[str]
    recipe: dict[str, Any] = field(default_factory=dict)
    n_reference: int | None = None
    outcomes: dict[str, Any] = field(default_factory=dict)


def count_survivors(n: int, steps: Mapping[str, Flags]) -> list[tuple[str, int]]:
    """Returns the funnel: of `n` crystals, how many passed each step and every step before it."""
    left, funnel = np.ones(n, dtype=bool), [("sampled", n)]
    for name, passed in steps.items():
        left = left & passed
        funnel.append((name, int(left.sum())))
    return funnel


@dataclass(frozen=True)
class Inputs:
    """Everything that generated crystals are scored with; lists of crystals and fingerprints in the sample's order.

    known: what a novel crystal is not in; train standardises coverage. Without a data set, train and test are empty and
    known is None.
    """

    sample: CrystalList
    relaxed: CrystalList | None
    hull: CrystalList | None
    train: CrystalList
    test: CrystalList
    known: CrystalList | None
    fingerprints: Fingerprints | None
    references: Fingerprints | None
    limits: Cutoffs
