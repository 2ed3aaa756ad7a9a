"""Stability: what a recipe calls stable and metastable, and on which energies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from xtalgen.crystals import Crystal
from xtalgen.metrics.choices import TOLERANCE, Among, Geometry, Rules
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.thermodynamics.energy_above_hull import AboveHull, Phase, relaxed_phases, sampled_phases


@dataclass(frozen=True)
class StabilityRules(Rules):
    """Thresholds in eV/atom above the hull, inclusive, and what else S.U.N. asks for.

    tolerance: added to both, for what relaxing leaves undecided; disjoint: metastable excludes stable; energies: of
    which geometry; unique_among: where S.U.N. looks for an earlier equal crystal; elements: whether pure elements count
    in S.U.N.
    """

    stable_below: float = 0.0
    metastable_below: float = 0.1
    tolerance: float = TOLERANCE
    disjoint: bool = False
    energies: Geometry = Geometry.RELAXED
    unique_among: Among = Among.EVERYTHING
    elements: bool = True

    def phases(self, sample: CrystalList, relaxed: CrystalList) -> list[Phase | None]:
        """Returns the composition and energy of each crystal that are compared with the hull; None without energy."""
        return sampled_phases(sample, relaxed) if self.energies is Geometry.SAMPLED else relaxed_phases(relaxed)

    def judge(self, above: Sequence[AboveHull], asked: Bool[np.ndarray, " n"]) -> dict[str, Bool[np.ndarray, " n"]]:
        """Returns which of the crystals asked for are stable and metastable, from their energies above the hull."""
        energies = np.array([np.nan if found.value is None else found.value for found in above], dtype=float)
        stable = asked & (energies <= self.stable_below + self.tolerance)
        metastable = asked & (energies <= self.metastable_below + self.tolerance)
        return {"stable": stable, "metastable": metastable & ~stable if self.disjoint else metastable}

    def count(self, crystals: Sequence[Crystal]) -> Bool[np.ndarray, " n"]:
        """Returns which crystals may count in S.U.N."""
        return np.array([self.elements or len(set(_numbers(row))) > 1 for row in crystals], dtype=bool)


def _numbers(row: Crystal) -> list[int]:
    return [] if row.atomic_numbers is None else row.atomic_numbers.tolist()
