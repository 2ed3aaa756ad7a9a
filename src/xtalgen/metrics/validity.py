"""Validity in structure and composition, as CDVAE's evaluation defines them (Xie et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from xtalgen.crystals import MAX_ATOMIC_NUMBER, Crystal
from xtalgen.metrics.choices import Denominator, OxidationStates, Rules
from xtalgen.metrics.compositions import comp_valid
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.elements import MAX_VALID_NUMBER
from xtalgen.structure.geometry import MIN_DISTANCE
from xtalgen.structure.lattice import lattice_to_parameters

BLOCK_PAIRS = 200_000
IMAGES = np.array(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij")).reshape(3, -1).T


@dataclass(frozen=True)
class ValidityRules(Rules):
    """Choices in which definitions of "valid" differ.

    oxidation_states: the table of SMACT; max_combinations: of oxidation states, more are invalid; angles: cells with an
    angle outside this open range (degrees) are no crystals; max_number: nor are those with heavier elements;
    composition_needs_geometry: whether a crystal without usable cell is invalid in composition too; needs_fingerprint:
    whether one whose CrystalNN fingerprint failed is invalid; rates_of: their denominator.
    """

    oxidation_states: OxidationStates = OxidationStates.SMACT_2_2_1
    max_combinations: int | None = 10_000_000
    angles: tuple[float, float] | None = None
    max_number: int = MAX_VALID_NUMBER
    composition_needs_geometry: bool = True
    needs_fingerprint: bool = True
    rates_of: Denominator = Denominator.ASKED_FOR

    def judge(self, crystals: Sequence[Crystal], failed: Bool[np.ndarray, " n"] | None = None) -> "Validity":
        """Returns the validity of each crystal; `failed` marks those whose fingerprint failed."""
        accepted = self.accept(crystals)
        structure, distance = struct_valid(crystals, accepted=accepted)
        judged = accepted if self.composition_needs_geometry else np.ones(len(crystals), dtype=bool)
        composition = np.array(
            [fine and self._balanced(crystal) for crystal, fine in zip(crystals, judged, strict=True)], dtype=bool
        )
        both = structure & composition
        if failed is not None and self.needs_fingerprint:
            both = both & ~failed
        return Validity(accepted, structure, composition, both, distance)

    def accept(self, crystals: Sequence[Crystal]) -> Bool[np.ndarray, " n"]:
        """Returns which rows are taken for crystals at all."""
        crystals = CrystalList.of(crystals)
        accepted = crystals.usable_up_to(min(self.max_number, MAX_ATOMIC_NUMBER))
        if self.angles is not None:
            for row in np.flatnonzero(accepted):
                _, angles = lattice_to_parameters(crystals[row].lattice)
                accepted[row] = angles.min() > self.angles[0] and angles.max() < self.angles[1]
        return accepted

    def _balanced(self, crystal: Crystal) -> bool:
        numbers = crystal.atomic_numbers
        if numbers is None or not len(numbers):
            return False
        return comp_valid(reduced_counts(numbers), self.oxidation_states, self.max_combinations)


@dataclass(frozen=True)
class Validity:
    """Validity by row, and the smallest distance in Å between two different sites.

    accepted: rows that fit the guards of the recipe; the others do not count as crystals.
    """

    accepted: Bool[np.ndarray, " n"]
    structure: Bool[np.ndarray, " n"]
    composition: Bool[np.ndarray, " n"]
    both: Bool[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]


def struct_valid(
    crystals: Sequence[Crystal],
    min_distance: float = MIN_DISTANCE,
    accepted: Bool[np.ndarray, " n"] | None = None,
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns which crystals are structurally valid and the smallest distance in Å between two of their sites.

    The distance is over all periodic images of two different sites; a site's own images are not tested, as in CDVAE
    and all that follow it, so a crystal of one site has distance infinity. NaN where the geometry is unusable.
    accepted: the rows to judge, by default those that fit the guards of `ValidityRules()`; the others are invalid.
    """
    distances = np.full(len(crystals), np.nan)
    rows = np.flatnonzero(ValidityRules().accept(crystals) if accepted is None else accepted)
    sizes = [crystals[int(row)].n_atoms for row in rows]
    pairs = np.array([size * (size - 1) // 2 for size in sizes], dtype=np.int64)
    blocks = np.cumsum(pairs) // BLOCK_PAIRS
    for block in np.unique(blocks):
        chosen = rows[blocks == block]
        distances[chosen] = _min_distances([crystals[int(row)] for row in chosen])
    return distances >= min_distance, distances


def _min_distances(crystals: Sequence[Crystal]) -> np.ndarray:
    """Returns the smallest periodic distance of two different sites of each crystal, all pairs in one array."""
    lattices = np.stack([crystal.lattice for crystal in crystals])
    owner, shifts = [], []
    for index, crystal in enumerate(crystals):
        first, second = np.triu_indices(crystal.n_atoms, k=1)
        owner.append(np.full(len(first), index))
        shifts.append(crystal.frac_coords[first] - crystal.frac_coords[second])
    belongs, delta = np.concatenate(owner), np.concatenate(shifts)
    result = np.full(len(crystals), np.inf)
    if not len(belongs):
        return result
    cartesian = np.einsum("pi,pij->pj", delta - np.round(delta), lattices[belongs])
    nearest = np.full(len(belongs), np.inf)
    for image in IMAGES:
        moved = cartesian + (image @ lattices)[belongs]
        np.minimum(nearest, np.einsum("pi,pi->p", moved, moved), out=nearest)
    np.minimum.at(result, belongs, np.sqrt(nearest))
    # Images beyond the first shell can be closer only if a lattice plane spacing is below the distance found.
    spacings = 1 / np.linalg.norm(np.linalg.inv(lattices), axis=1)
    skewed = np.isfinite(result) & (result > 1.5 * spacings.min(axis=1))
    for row in np.flatnonzero(skewed).tolist():
        result[row] = _min_distance_reduced(crystals[row])
    return result


def _min_distance_reduced(crystal: Crystal) -> float:
    from xtalgen.structure.pymatgen import to_structure

    distances = to_structure(crystal).distance_matrix
    return float(distances[np.triu_indices(len(distances), k=1)].min())
