"""What scoring takes and gives: settings, the crystals and fingerprints of a set, its scores."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import Fingerprints
from xtalgen.metrics.coverage import Cutoffs
from xtalgen.metrics.intervals import RESAMPLES, Estimate
from xtalgen.metrics.protocols import DEFAULT, RECIPES, Recipe

Columns = dict[str, tuple[pa.DataType, Sequence[Any]]]
Flags = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Settings:
    """How to score. match_timeout: seconds of wall time for one structure comparison."""

    recipe: Recipe = RECIPES[DEFAULT]
    match_timeout: float = 60.0
    resamples: int = RESAMPLES
    workers: int = 1
    seed: int = 0


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


@dataclass(frozen=True)
class Inputs:
    """Everything that generated crystals are scored with; lists of crystals and fingerprints in the sample's order.

    known: what a novel crystal is not in; train standardises coverage.
    """

    sample: Sequence[Crystal]
    relaxed: Sequence[Crystal] | None
    hull: Sequence[Crystal] | None
    train: Sequence[Crystal]
    test: Sequence[Crystal]
    known: Sequence[Crystal]
    fingerprints: Fingerprints | None
    references: Fingerprints | None
    limits: Cutoffs
