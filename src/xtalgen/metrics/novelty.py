"""Which crystals are new: unique among the sample, before relaxation too, unknown, and unknown as a framework."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from xtalgen.crystals import Crystal
from xtalgen.metrics.uniqueness import MatchVerdict, unique_and_novel
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.matcher import Tolerances

LANTHANIDES, ACTINIDES = (57, 71), (89, 103)
NOT_VALID = "not_valid"


@dataclass(frozen=True)
class Matching:
    """How crystals are compared: tolerances, processes, seconds of wall time for one comparison."""

    tolerances: Tolerances
    workers: int
    timeout: float

    def compare(self, crystals: Sequence[Crystal], known: Sequence[Crystal] = ()) -> list[MatchVerdict]:
        """Returns whether each crystal is unique and novel."""
        crystals = CrystalList.of(crystals)
        if not crystals.usable.any():  # spares starting processes
            return [MatchVerdict(False, False, status="no_geometry") for _ in crystals]
        return unique_and_novel(crystals, known, workers=self.workers, timeout=self.timeout, tolerances=self.tolerances)


def judge_likeness(
    crystals: Sequence[Crystal], known: Sequence[Crystal], asked: Bool[np.ndarray, " n"], matching: Matching
) -> list[MatchVerdict]:
    """Returns `compare` of the crystals that are asked for; the others are neither unique nor novel."""
    kinds = matching.compare(CrystalList.of(crystals).only(asked), known)
    return [kind if wanted else replace(kind, status=NOT_VALID) for kind, wanted in zip(kinds, asked, strict=True)]


def framework_novel(
    crystals: Sequence[Crystal], known: Sequence[Crystal], kinds: Sequence[MatchVerdict], matching: Matching
) -> Bool[np.ndarray, " n"]:
    """Returns which novel crystals stay novel when all lanthanides count as one element, and all actinides.

    Generated crystals are often known frameworks with one rare earth for another, which StructureMatcher calls novel.
    Only novel crystals with such elements need another comparison: what is known stays known.
    """
    novel = np.array([kind.novel for kind in kinds], dtype=bool)
    rows = np.flatnonzero(novel & has_f_block(crystals))
    merged = [merge_f_block(known[int(row)]) for row in np.flatnonzero(has_f_block(known))]
    found = matching.compare([merge_f_block(crystals[int(row)]) for row in rows], merged)
    novel[rows] = [kind.novel for kind in found]
    return novel


def unique_within(
    crystals: Sequence[Crystal], chosen: Bool[np.ndarray, " n"], matching: Matching
) -> Bool[np.ndarray, " n"]:
    """Returns which of the chosen crystals are unique among the chosen."""
    rows = np.flatnonzero(chosen)
    unique = np.zeros(len(crystals), dtype=bool)
    unique[rows] = [kind.unique for kind in matching.compare(CrystalList.of(crystals).take(rows))]
    return unique


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
