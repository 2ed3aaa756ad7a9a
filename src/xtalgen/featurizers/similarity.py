"""Finds the known crystal nearest to a new one, first by composition, then by structure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import structure_fingerprint
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.structure.matcher import arrays

SHORTLIST = 20  # known crystals of nearest composition whose structures are compared
N_ELEMENTS = 128


@dataclass(frozen=True)
class Nearest:
    """A known crystal and its distance.

    composition: share of atoms that differ in element, 0 for equal compositions, 1 for no common element. structure:
    Euclidean distance of the mean CrystalNN fingerprints, as in coverage; None where one has none.
    """

    id: str
    composition: float
    structure: float | None


def nearest_known(
    crystals: Sequence[Crystal], known: Sequence[Crystal], *, workers: int = 1, timeout: float | None = None
) -> list[Nearest | None]:
    """Returns, for each crystal, the known one of nearest composition, and of these the nearest structure.

    The structures of the twenty nearest by composition (the first ones in case of ties) are compared. None without
    known crystals. timeout: seconds for one fingerprint.
    """
    if not known or not crystals:
        return [None] * len(crystals)
    shares = _shares(known)
    lists = []
    for share in _shares(crystals):
        distances = np.abs(shares - share).sum(axis=1) / 2
        order = np.argsort(np.round(distances, 6), kind="stable")[:SHORTLIST]
        lists.append([(int(index), float(distances[index])) for index in order])
    wanted = sorted({index for each in lists for index, _ in each})
    items = [arrays(row) for row in (*crystals, *(known[index] for index in wanted))]
    prints = list(map_items(structure_fingerprint, items, workers=workers, timeout=timeout, label="nearest known"))
    of_known = dict(zip(wanted, prints[len(crystals) :], strict=True))
    return [
        min((_compare(print_, known[index], distance, of_known[index]) for index, distance in each), key=_rank)
        for print_, each in zip(prints[: len(crystals)], lists, strict=True)
    ]


def _compare(one: list[float] | Failure, other: Crystal, distance: float, its: list[float] | Failure) -> Nearest:
    apart = None
    if not isinstance(one, Failure) and not isinstance(its, Failure):
        apart = float(np.linalg.norm(np.array(one) - np.array(its)))
    return Nearest(other.id, distance, apart)


def _rank(found: Nearest) -> tuple[float, float, str]:
    return round(found.composition, 6), np.inf if found.structure is None else found.structure, found.id


def _shares(rows: Sequence[Crystal]) -> Float[np.ndarray, "rows elements"]:
    """Returns the mole fractions of all elements."""
    shares = np.zeros((len(rows), N_ELEMENTS), dtype=np.float32)
    for index, row in enumerate(rows):
        numbers, counts = np.unique(row.atomic_numbers, return_counts=True)
        shares[index, numbers] = counts / row.n_atoms
    return shares
