"""Uniqueness within a sample, and novelty against the training split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.metrics.matching import (
    SAME,
    Arrays,
    NotComparableError,
    Tolerances,
    arrays,
    matcher,
    reduce,
    time_limit,
    warm_up,
)
from xtalgen.metrics.validity import reduced_counts, usable
from xtalgen.parallel import Failure, map_items


@dataclass(frozen=True)
class Kind:
    """Whether a crystal is the first of its kind and unknown, and the ids of those it equals.

    status: "ok"; "no_geometry", or "timeout", "degenerate", "error", "crash" where a comparison that was needed failed:
    such a crystal is neither unique nor novel.
    """

    unique: bool
    novel: bool
    duplicate_of: str | None = None
    match_id: str | None = None
    status: str = "ok"


@dataclass(frozen=True)
class _Group:
    """All crystals of one reduced formula: samples in sample order, and the known ones."""

    samples: list[Arrays]
    known: list[Arrays]
    tolerances: Tolerances
    timeout: float


def unique_and_novel(
    crystals: Sequence[Crystal],
    known: Sequence[Crystal],
    *,
    workers: int,
    timeout: float,
    tolerances: Tolerances = SAME,
) -> list[Kind]:
    """Returns for each crystal whether it is unique and novel, by StructureMatcher.

    Unique: no earlier unique crystal matches. Matching is not transitive, so the order of the crystals decides and is
    part of the definition (MatterGen counts this way). Novel: no known crystal matches. Only crystals of one reduced
    formula are compared, each reduced once; nearest volume per atom first, which changes the cost and which equal
    crystal is named but never the verdict. timeout: seconds for one comparison.
    """
    kinds = [Kind(False, False, status="no_geometry") for _ in crystals]
    samples, references = _by_formula(crystals), _by_formula(known)
    asked = []
    for formula, rows in samples.items():
        if len(rows) == 1 and formula not in references:
            kinds[rows[0]] = Kind(True, True)
        else:
            asked.append(formula)
    groups = [
        _Group(
            [arrays(crystals[row]) for row in samples[formula]],
            [arrays(known[row]) for row in references.get(formula, [])],
            tolerances,
            timeout,
        )
        for formula in asked
    ]
    largest = max((len(group.samples) + len(group.known) for group in groups), default=0)
    limit = None if workers == 1 else timeout * largest  # only a backstop; each comparison has its own limit
    results = map_items(_compare, groups, workers=workers, timeout=limit, label="unique, novel", initializer=warm_up)
    for formula, result in zip(asked, results, strict=True):
        rows, names = samples[formula], references.get(formula, [])
        for place, row in enumerate(rows):
            if isinstance(result, Failure):
                kinds[row] = Kind(False, False, status=result.kind)
                continue
            duplicate, match, status = result[place]
            kinds[row] = Kind(
                unique=status == "ok" and duplicate is None,
                novel=status == "ok" and match is None,
                duplicate_of=None if duplicate is None else crystals[rows[duplicate]].id,
                match_id=None if match is None else known[names[match]].id,
                status=status,
            )
    return kinds


def _by_formula(crystals: Sequence[Crystal]) -> dict[Any, list[int]]:
    rows: dict[Any, list[int]] = {}
    for row, crystal in enumerate(crystals):
        if usable(crystal):
            rows.setdefault(reduced_counts(crystal.atomic_numbers), []).append(row)
    return rows


def _compare(group: _Group) -> list[tuple[int | None, int | None, str]]:
    """Returns (index of the equal earlier sample, index of the equal known crystal, status) for each sample."""
    judge = matcher(group.tolerances)
    known = {index: reduced for index, item in enumerate(group.known) if (reduced := _reduced(item, group.timeout))}
    representatives: dict[int, Any] = {}
    found: list[tuple[int | None, int | None, str]] = []
    for index, item in enumerate(group.samples):
        try:
            with time_limit(group.timeout):
                reduced = reduce(item)
            duplicate = _first_equal(judge, reduced, representatives, group.timeout)
            match = _first_equal(judge, reduced, known, group.timeout)
        except Exception as error:  # noqa: BLE001 - a broken crystal is data, whatever pymatgen raises
            found.append((None, None, _status(error)))
            continue
        if duplicate is None:
            representatives[index] = reduced
        found.append((duplicate, match, "ok"))
    return found


def _first_equal(judge: Any, reduced: Any, others: dict[int, Any], timeout: float) -> int | None:
    def difference(index: int) -> float:
        return abs(others[index].volume / len(others[index]) - reduced.volume / len(reduced))

    for index in sorted(others, key=difference):
        with time_limit(timeout):
            if judge.fit(others[index], reduced, skip_structure_reduction=True):
                return index
    return None


def _reduced(item: Arrays, timeout: float) -> Any:
    try:
        with time_limit(timeout):
            return reduce(item)
    except Exception:  # noqa: BLE001 - a known crystal that cannot be compared equals nothing
        return None


def _status(error: Exception) -> str:
    kinds: list[tuple[type[Exception], str]] = [(TimeoutError, "timeout"), (NotComparableError, "degenerate")]
    return next((name for kind, name in kinds if isinstance(error, kind)), "error")
