"""Validity in structure and composition, as CDVAE's evaluation defines them (Xie et al. 2022)."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from xtalgen.crystals import Crystal

MIN_DISTANCE = 0.5
MIN_VOLUME = 0.1
MAX_VALID_NUMBER = 104
OXIDATION_STATES = "smact14"
MAX_COMBINATIONS = 10_000_000
BLOCK_PAIRS = 200_000
IMAGES = np.array(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij")).reshape(3, -1).T


def usable(crystal: Crystal) -> bool:
    """Whether a crystal has a geometry to work on: finite, at least 0.1 Å³, elements up to Z = 104.

    FlowMM counts heavier elements as invalid. Pymatgen would build neither a NaN nor a flat cell.
    """
    if crystal.lattice is None or crystal.frac_coords is None or crystal.atomic_numbers is None:
        return False
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return False
    numbers = np.asarray(crystal.atomic_numbers)
    fits = crystal.lattice.shape == (3, 3) and crystal.frac_coords.shape == (len(numbers), 3) and len(numbers) > 0
    return bool(
        fits and volume(crystal.lattice) >= MIN_VOLUME and numbers.min() >= 1 and numbers.max() <= MAX_VALID_NUMBER
    )


def volume(lattice: Float[np.ndarray, "3 3"]) -> float:
    """Returns the volume of a cell in Å³."""
    return float(abs(np.linalg.det(lattice)))


def struct_valid(
    crystals: Sequence[Crystal], min_distance: float = MIN_DISTANCE
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns which crystals are structurally valid and the smallest distance in Å between two of their sites.

    The distance is over all periodic images of two different sites; a site's own images are not tested, as in CDVAE
    and all that follow it, so a crystal of one site has distance infinity. NaN where the geometry is unusable.
    """
    distances = np.full(len(crystals), np.nan)
    rows = np.array([row for row, crystal in enumerate(crystals) if usable(crystal)], dtype=int)
    pairs = np.array([crystals[row].n_atoms * (crystals[row].n_atoms - 1) // 2 for row in rows], dtype=int)
    blocks = np.cumsum(pairs) // BLOCK_PAIRS
    for block in np.unique(blocks):
        chosen = rows[blocks == block]
        distances[chosen] = _min_distances([crystals[row] for row in chosen])
    return distances >= min_distance, distances


@dataclass(frozen=True)
class Validity:
    """What is valid, by row, and the smallest distance in Å between two different sites."""

    structure: Bool[np.ndarray, " n"]
    composition: Bool[np.ndarray, " n"]
    both: Bool[np.ndarray, " n"]
    distance: Float[np.ndarray, " n"]


def judge(crystals: Sequence[Crystal], failed: Bool[np.ndarray, " n"] | None = None) -> Validity:
    """Returns the validity of each crystal; `failed` marks those whose fingerprint failed, which are not valid."""
    structure, distance = struct_valid(crystals)
    composition = np.array(
        [usable(crystal) and comp_valid(reduced_counts(crystal.atomic_numbers)) for crystal in crystals], dtype=bool
    )
    both = structure & composition
    return Validity(structure, composition, both if failed is None else both & ~failed, distance)


def comp_valid(counts: Sequence[tuple[int, int]]) -> bool:
    """Returns whether a composition is valid by SMACT with the 2014 oxidation states (Davies et al. 2019).

    counts: (atomic number, count) of each element, reduced by their greatest common divisor. Elements, alloys of metals
    included, are valid. Elements beyond Z = 104 or unknown to SMACT, and compositions with more than 1e7 combinations
    of oxidation states (as in DiffCSP), are not.
    """
    return _comp_valid(tuple(sorted((int(number), int(count)) for number, count in counts)))


def reduced_counts(atomic_numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Returns (atomic number, count) of each element, by atomic number, divided by the greatest common divisor."""
    numbers, counts = np.unique(np.asarray(atomic_numbers), return_counts=True)
    divisor = math.gcd(*(int(count) for count in counts))
    return tuple((int(number), int(count) // divisor) for number, count in zip(numbers, counts, strict=True))


@functools.cache
def _comp_valid(counts: tuple[tuple[int, int], ...]) -> bool:
    from pymatgen.core import Composition, Element
    from smact.screening import smact_validity

    if not counts or any(not 1 <= number <= MAX_VALID_NUMBER for number, _ in counts):
        return False
    composition = Composition({Element.from_Z(number).symbol: count for number, count in counts})
    if len(counts) > 1 and _combinations([element.symbol for element in composition]) > MAX_COMBINATIONS:
        return False
    try:
        return bool(smact_validity(composition, oxidation_states_set=OXIDATION_STATES))
    except (KeyError, NameError, TypeError):  # SMACT has no data on the element
        return False


def _combinations(symbols: list[str]) -> int:
    import smact

    try:
        return math.prod(len(smact.Element(symbol).oxidation_states_smact14 or [0]) for symbol in symbols)
    except (KeyError, NameError):
        return 0


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
    # Images beyond the first shell can be nearer only if a lattice plane spacing is small against the distance found.
    spacings = 1 / np.linalg.norm(np.linalg.inv(lattices), axis=1)
    skewed = np.isfinite(result) & (result > 1.5 * spacings.min(axis=1))
    for index in np.flatnonzero(skewed):
        result[index] = _min_distance_reduced(crystals[index])
    return result


def _min_distance_reduced(crystal: Crystal) -> float:
    from xtalgen.structures import to_structure

    distances = to_structure(crystal).distance_matrix
    return float(distances[np.triu_indices(len(distances), k=1)].min())
