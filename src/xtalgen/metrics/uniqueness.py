"""Uniqueness within a sample, and novelty against the training split."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.geometry import volume
from xtalgen.structure.matcher import (
    SAME,
    Arrays,
    NotComparableError,
    Tolerances,
    arrays,
    content,
    formulas,
    matcher,
    reduce,
    time_limit,
    warm_up,
)

Formula = tuple[tuple[int, int], ...]
FEW = 300  # crystals to compare that are not worth starting processes


@dataclass(frozen=True)
class MatchVerdict:
    """Whether a crystal is unique and novel, and the ids of those it equals.

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


@dataclass
class _Candidate:
    """A crystal to compare with: reduced only when its turn comes, which may be never.

    sizes: how many atoms it can have when reduced; structures of different size do not match. volume: Å³ per atom.
    """

    index: int
    item: Arrays

    def __post_init__(self) -> None:
        n_atoms, most = len(self.item[2]), formulas(self.item[2])
        self.sizes = {n_atoms // part for part in range(1, most + 1) if most % part == 0}
        self.volume = volume(self.item[0]) / n_atoms
        self._reduced: Any = None

    def reduced(self, timeout: float) -> Any:
        """Returns the reduced structure; None when there is none, so that it equals nothing."""
        if self._reduced is None and self.sizes:
            try:
                with time_limit(timeout):
                    self._reduced = reduce(self.item)
            except Exception:  # noqa: BLE001 - a broken crystal is data, whatever pymatgen raises
                self.sizes = set()
        return self._reduced


def unique_and_novel(
    crystals: Sequence[Crystal],
    known: Sequence[Crystal],
    *,
    workers: int,
    timeout: float,
    tolerances: Tolerances = SAME,
) -> list[MatchVerdict]:
    """Returns for each crystal whether it is unique and novel, by StructureMatcher.

    Unique: no earlier unique crystal matches. Matching is not transitive, so the order of the crystals decides and is
    part of the definition (MatterGen counts this way). Novel: no known crystal matches. Only crystals of one reduced
    formula are compared, each reduced at most once; nearest volume per atom first, which changes the cost and which
    equal crystal is named but never the verdict; of identical crystals only two. timeout: seconds for one comparison.
    A few comparisons are done in this process, more in `workers` processes.
    """
    kinds = [MatchVerdict(False, False, status="no_geometry") for _ in crystals]
    samples = _by_formula(crystals)
    references = _by_formula(known, samples)
    asked = []
    for formula, rows in samples.items():
        if len(rows) == 1 and formula not in references:
            kinds[rows[0]] = MatchVerdict(True, True)
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
    sizes = [len(group.samples) + len(group.known) for group in groups]
    workers = 1 if sum(sizes) <= FEW else workers
    limit = None if workers == 1 else timeout * max(sizes)  # only a backstop; each comparison has its own limit
    results = map_items(_compare, groups, workers=workers, timeout=limit, label="unique, novel", initializer=warm_up)
    for formula, result in zip(asked, results, strict=True):
        rows = samples[formula]
        equal = (result, [crystals[row].id for row in rows], [known[row].id for row in references.get(formula, [])])
        for row, verdict in zip(rows, _verdicts(*equal), strict=True):
            kinds[row] = verdict
    return kinds


def _verdicts(result: Any, ids: Sequence[str], known: Sequence[str]) -> list[MatchVerdict]:
    """Returns the verdicts on the samples `ids` of one formula from the result of `_compare`, or from its failure."""
    if isinstance(result, Failure):
        return [MatchVerdict(False, False, status=result.kind) for _ in ids]
    return [
        MatchVerdict(
            unique=status == "ok" and duplicate is None,
            novel=status == "ok" and match is None,
            duplicate_of=None if duplicate is None else ids[duplicate],
            match_id=None if match is None else known[match],
            status=status,
        )
        for duplicate, match, status in result
    ]


def _by_formula(crystals: Sequence[Crystal], among: Collection[Formula] | None = None) -> dict[Formula, list[int]]:
    """Returns the rows of usable crystals by reduced formula; of the formulas `among` only, where they are given."""
    formulas: dict[bytes, Formula] = {}
    rows: dict[Formula, list[int]] = {}
    crystals = CrystalList.of(crystals)
    for row in np.flatnonzero(crystals.usable).tolist():
        crystal = crystals[row]
        content = np.sort(crystal.atomic_numbers).tobytes()
        if content not in formulas:
            formulas[content] = reduced_counts(crystal.atomic_numbers)
        formula = formulas[content]
        if among is None or formula in among:
            rows.setdefault(formula, []).append(row)
    return rows


def _compare(group: _Group) -> list[tuple[int | None, int | None, str]]:
    """Returns (index of the equal earlier sample, index of the equal known crystal, status) for each sample."""
    known = [_Candidate(index, item) for index, item in enumerate(group.known)]
    representatives: list[_Candidate] = []
    found: list[tuple[int | None, int | None, str]] = []
    settled: dict[tuple[bytes, bytes, bytes], tuple[int | None, int | None, str]] = {}
    for index, item in enumerate(group.samples):
        if (key := content(item)) in settled:
            found.append(settled[key])
            continue
        duplicate, match, status = None, None, "ok"
        try:
            with time_limit(group.timeout):
                reduced = reduce(item)
            duplicate = _first_equal(reduced, representatives, group)
            match = _first_equal(reduced, known, group)
        except Exception as error:  # noqa: BLE001 - a broken crystal is data, whatever pymatgen raises
            duplicate, match, status = None, None, _status(error)
        found.append((duplicate, match, status))
        if status == "ok" and duplicate is None:
            representatives.append(_Candidate(index, item))
        else:  # what is identical shares the verdict; only of a unique crystal the first copy still has to be compared
            settled[key] = found[-1]
    return found


def _first_equal(reduced: Any, others: Sequence[_Candidate], group: _Group) -> int | None:
    """Returns the index of the first that matches, nearest volume first."""
    size, judge = reduced.volume / len(reduced), matcher(group.tolerances)
    fitting = [other for other in others if len(reduced) in other.sizes]
    for other in sorted(fitting, key=lambda other: abs(other.volume - size)):
        if (candidate := other.reduced(group.timeout)) is None or len(candidate) != len(reduced):
            continue
        with time_limit(group.timeout):
            if judge.fit(candidate, reduced, skip_structure_reduction=True):
                return other.index
    return None


def _status(error: Exception) -> str:
    kinds: list[tuple[type[Exception], str]] = [(TimeoutError, "timeout"), (NotComparableError, "degenerate")]
    return next((name for kind, name in kinds if isinstance(error, kind)), "error")
