"""Uniqueness within a sample, and novelty against known crystals and known frameworks."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from xtalgen.crystals import Crystal
from xtalgen.metrics.choices import Geometry, Rules, Split
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
LANTHANIDES, ACTINIDES = (57, 71), (89, 103)
NOT_VALID = "not_valid"


@dataclass(frozen=True)
class LikenessRules(Rules):
    """When crystals are equal; geometry: which one is compared; known: splits that a novel crystal is not in."""

    tolerances: Tolerances = SAME
    geometry: Geometry = Geometry.RELAXED
    known: tuple[Split, ...] = (Split.TRAIN,)


@dataclass(frozen=True)
class MatchVerdict:
    """Whether a crystal is unique and novel, and the ids of those it equals.

    status: "ok"; "no_geometry", "not_valid" where it was not asked for, or "timeout", "degenerate", "error", "crash"
    where a comparison that was needed failed: such a crystal is neither unique nor novel.
    """

    unique: bool
    novel: bool
    duplicate_of: str | None = None
    match_id: str | None = None
    status: str = "ok"


@dataclass(frozen=True)
class Matching:
    """How crystals are compared; timeout: seconds of wall time for one comparison."""

    tolerances: Tolerances = SAME
    workers: int = 1
    timeout: float = 60.0

    def compare(
        self,
        crystals: Sequence[Crystal],
        known: Sequence[Crystal] = (),
        asked: Bool[np.ndarray, " n"] | None = None,
    ) -> list[MatchVerdict]:
        """Returns for each crystal whether it is unique and novel, by StructureMatcher.

        Unique: no earlier unique crystal matches. Matching is not transitive, so the order of the crystals decides and
        is part of the definition (MatterGen counts this way). Novel: no known crystal matches. Only crystals of one
        reduced formula are compared, each reduced at most once; nearest volume per atom first, which changes the cost
        and which equal crystal is named but never the verdict; of identical crystals only two. asked: the crystals that
        are judged, by default all. A few comparisons are done in this process, more in `workers` processes.
        """
        crystals = CrystalList.of(crystals)
        if asked is not None:
            verdicts = self.compare(crystals.only(asked), known)
            pairs = zip(verdicts, asked, strict=True)
            return [verdict if wanted else replace(verdict, status=NOT_VALID) for verdict, wanted in pairs]
        verdicts = [MatchVerdict(False, False, status="no_geometry") for _ in crystals]
        samples = _by_formula(crystals)
        references = _by_formula(known, samples) if samples else {}
        groups = {}
        for formula, rows in samples.items():
            if len(rows) == 1 and formula not in references:
                verdicts[rows[0]] = MatchVerdict(True, True)
            else:
                others = [arrays(known[row]) for row in references.get(formula, [])]
                groups[formula] = _Group([arrays(crystals[row]) for row in rows], others, self)
        results = self._results(list(groups.values())) if groups else ()
        for formula, result in zip(groups, results, strict=True):
            rows = samples[formula]
            equal = (result, [crystals[row].id for row in rows], [known[row].id for row in references.get(formula, [])])
            for row, verdict in zip(rows, _verdicts(*equal), strict=True):
                verdicts[row] = verdict
        return verdicts

    def _results(self, groups: "Sequence[_Group]") -> Iterator[Any]:
        """Yields what `_compare` returns for each group, or its failure."""
        sizes = [len(group.samples) + len(group.known) for group in groups]
        workers = 1 if sum(sizes) <= FEW else self.workers
        limit = None if workers == 1 else self.timeout * max(sizes)  # a backstop; each comparison has its own limit
        label = "unique, novel"
        return map_items(_compare, groups, workers=workers, timeout=limit, label=label, initializer=warm_up)

    def unique_within(self, crystals: Sequence[Crystal], chosen: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Returns which of the chosen crystals are unique among the chosen."""
        rows = np.flatnonzero(chosen)
        unique = np.zeros(len(crystals), dtype=bool)
        unique[rows] = [verdict.unique for verdict in self.compare(CrystalList.of(crystals).take(rows))]
        return unique

    def framework_novel(
        self, crystals: Sequence[Crystal], known: Sequence[Crystal], novel: Bool[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Returns which novel crystals stay novel when all lanthanides count as one element, and all actinides.

        Generated crystals are often known frameworks with one rare earth for another, which StructureMatcher calls
        novel. Only novel crystals with such elements need another comparison.
        """
        novel = novel.copy()
        rows = np.flatnonzero(novel & has_f_block(crystals))
        merged = [merge_f_block(known[int(row)]) for row in np.flatnonzero(has_f_block(known))]
        found = self.compare([merge_f_block(crystals[int(row)]) for row in rows], merged)
        novel[rows] = [verdict.novel for verdict in found]
        return novel


@dataclass(frozen=True)
class _Group:
    """All crystals of one reduced formula: samples in sample order, and the known ones."""

    samples: list[Arrays]
    known: list[Arrays]
    matching: Matching


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
            with time_limit(group.matching.timeout):
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
    size, judge = reduced.volume / len(reduced), matcher(group.matching.tolerances)
    fitting = [other for other in others if len(reduced) in other.sizes]
    for other in sorted(fitting, key=lambda other: abs(other.volume - size)):
        if (candidate := other.reduced(group.matching.timeout)) is None or len(candidate) != len(reduced):
            continue
        with time_limit(group.matching.timeout):
            if judge.fit(candidate, reduced, skip_structure_reduction=True):
                return other.index
    return None


def _status(error: Exception) -> str:
    kinds: list[tuple[type[Exception], str]] = [(TimeoutError, "timeout"), (NotComparableError, "degenerate")]
    return next((name for kind, name in kinds if isinstance(error, kind)), "error")


def has_f_block(crystals: Sequence[Crystal]) -> Bool[np.ndarray, " n"]:
    """Returns which crystals are usable and contain a lanthanide or an actinide."""
    crystals = CrystalList.of(crystals)
    found = crystals.usable
    found[found] = [bool((_f_block(crystals[row].atomic_numbers) > 0).any()) for row in np.flatnonzero(found)]
    return found


def merge_f_block(crystal: Crystal) -> Crystal:
    """Returns the crystal with lanthanum for every lanthanide and actinium for every actinide."""
    block = _f_block(crystal.atomic_numbers)
    numbers = np.where(block > 0, block, crystal.atomic_numbers).astype(np.uint8)
    return replace(crystal, atomic_numbers=numbers)


def _f_block(numbers: np.ndarray) -> np.ndarray:
    """Returns the first atomic number of the series that each element belongs to, 0 for none."""
    series = np.zeros(len(numbers), dtype=int)
    for first, last in (LANTHANIDES, ACTINIDES):
        series[(numbers >= first) & (numbers <= last)] = first
    return series
