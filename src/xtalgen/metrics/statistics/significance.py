"""Tests the best row of a table against the runner-up."""

from collections.abc import Sequence
from dataclasses import dataclass

from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation
from xtalgen.metrics.statistics.comparisons import Comparison, compare_intervals, compare_paired, compare_rates
from xtalgen.metrics.statistics.intervals import Estimate


@dataclass(frozen=True)
class Lead:
    """The lead of a column's best row over the next best: their places in the group, and the test of the difference."""

    metric: str
    best: int
    next: int
    comparison: Comparison


def compare(one: Evaluation, other: Evaluation, metric: str) -> Comparison | None:
    """Returns the test of a metric between two sets; None if the data do not suffice.

    The test is paired if both sets have the same targets, exact for other rates, and based on the intervals otherwise.
    """
    first, second = one.value(metric), other.value(metric)
    if first.value is None or second.value is None:
        return None
    if METRICS[metric].percent:
        found = compare_paired(one.outcomes, other.outcomes, metric)
        if found is None and first.n and second.n:
            found = compare_rates(first.value, first.n, second.value, second.n)
        if found is not None:
            return found
    bounds = (_interval(first), _interval(second))
    if bounds[0] is None or bounds[1] is None:
        return None
    return compare_intervals(first.value, bounds[0], second.value, bounds[1])


def find_lead(group: Sequence[Evaluation], metric: str) -> Lead | None:
    """Returns the lead of the best row; None with fewer than two values, a tie, or no test."""
    values = {place: row.value(metric).value for place, row in enumerate(group)}
    sign = -1.0 if METRICS[metric].better == "higher" else 1.0
    ranked = sorted((sign * value, place) for place, value in values.items() if value is not None)
    if len(ranked) < 2 or ranked[0][0] == ranked[1][0]:
        return None
    best, following = ranked[0][1], ranked[1][1]
    comparison = compare(group[best], group[following], metric)
    return None if comparison is None else Lead(metric, best, following, comparison)


def _interval(value: Estimate) -> tuple[float, float] | None:
    return None if value.low is None or value.high is None else (value.low, value.high)
