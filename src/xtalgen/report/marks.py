"""Marks beside the scores of a column, the same in the terminal, on the page of tables and in the explorer."""

import math
from collections.abc import Iterable, Sequence

from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation
from xtalgen.metrics.statistics.intervals import Estimate
from xtalgen.metrics.statistics.significance import compare, find_lead

BEST, TIED, NOISE = "★", "=", "≈"
MEANING = {
    BEST: "best",
    TIED: "best, tied as written",
    NOISE: "within noise of the best value (p ≥ 0.05)",
}


def marks(group: Sequence[Evaluation], metric: str) -> list[str]:
    """Returns the mark of each row, or "".

    No row is marked where fewer than two have a value, or where all values are equal as written: then nothing is best.
    """
    values = [row.value(metric) for row in group]
    best = best_rows(metric, values, decimals(metric, values))
    if not best or best == {index for index, value in enumerate(values) if value.value is not None}:
        return [""] * len(group)
    lead = find_lead(group, metric)
    own = TIED if len(best) > 1 else NOISE if lead is not None and lead.comparison.noise else BEST
    return [
        own if index in best else NOISE if value.value is not None and _undecided(group, metric, index, best) else ""
        for index, value in enumerate(values)
    ]


def legend(found: Iterable[str]) -> str:
    """Returns one line that explains the marks that occur; empty where none does."""
    there = set(found)
    return "; ".join(f"{mark} {meaning}" for mark, meaning in MEANING.items() if mark in there)


def best_rows(metric: str, values: Sequence[Estimate], digits: int) -> set[int]:
    """Returns the rows whose value is best as written, ties included; none where fewer than two rows have a value."""
    scale = 100.0 if METRICS[metric].percent else 1.0
    written = {i: round(value.value * scale, digits) for i, value in enumerate(values) if value.value is not None}
    if len(written) < 2:
        return set()
    best = (max if METRICS[metric].better == "higher" else min)(written.values())
    return {index for index, number in written.items() if number == best}


def decimals(metric: str, values: Sequence[Estimate]) -> int:
    """Returns the decimals of a column: the narrowest interval's half width gets a digit of at least 4."""
    scale, least, most = (100.0, 1, 2) if METRICS[metric].percent else (1.0, 3, 4)
    halves = [
        (value.high - value.low) / 2 * scale for value in values if value.low is not None and value.high is not None
    ]
    numbers = [value.value for value in values if value.value is not None]
    if not METRICS[metric].percent and not halves and all(number == int(number) for number in numbers):
        return 0  # counts
    needed = [math.ceil(-math.log10(half / 4)) for half in halves if half > 0]
    return min(most, max([least, *needed]))


def _undecided(group: Sequence[Evaluation], metric: str, index: int, best: set[int]) -> bool:
    """Whether a row may equal one of the best: by a test, or by overlapping intervals where there is none."""
    for other in best:
        found = compare(group[other], group[index], metric)
        noise = _overlap(group[other].value(metric), group[index].value(metric)) if found is None else found.noise
        if noise:
            return True
    return False


def _overlap(one: Estimate, other: Estimate) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high
