"""Scores of infilling: rank that a model gives to the hidden element."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.metrics.statistics.comparisons import pack_outcomes
from xtalgen.metrics.statistics.intervals import missing, rate
from xtalgen.metrics.types import Scores

TOPS = (1, 3, 5, 10)


def score_guesses(guesses: Sequence[Crystal]) -> Scores:
    """Returns how often the hidden element is among the k likeliest, over all crystals that had one hidden.

    guesses: rows with `hidden` and `rank`; a row whose element is not among the candidates has no rank and counts as
    missed, one that could not be written had nothing hidden and is a failure.
    """
    hidden = [row for row in guesses if row.info.get("hidden") is not None]
    ranks = np.array([row.info["rank"] or np.inf for row in hidden], dtype=float)
    none = missing("no crystal could be written")
    metrics = {f"top_{k}": rate(int((ranks <= k).sum()), len(ranks)) if len(ranks) else none for k in TOPS}
    left_out = Counter(f"infilling: {row.status if not row.ok else 'unwritable'}" for row in guesses)
    left_out.subtract(f"infilling: {row.status if not row.ok else 'unwritable'}" for row in hidden)
    found = [(f"top {k}", int((ranks <= k).sum())) for k in TOPS[::-1]]
    return Scores(
        {},
        metrics,
        [("asked", len(guesses)), ("hidden", len(hidden)), *found],
        +left_out,
        outcomes=pack_outcomes([row.id for row in hidden], {f"top_{k}": ranks <= k for k in TOPS}),
    )
