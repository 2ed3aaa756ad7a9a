"""Selects the crystals that compete with samples on a convex hull."""

from collections.abc import Callable, Sequence

import numpy as np

from xtalgen.crystals import Crystal


def elements_of(crystal: Crystal) -> frozenset[int]:
    """Returns the atomic numbers of the elements of a crystal."""
    return frozenset(int(number) for number in crystal.atomic_numbers)


def competition(samples: Sequence[Crystal]) -> Callable[[Crystal], bool]:
    """Returns a predicate: whether a crystal's elements are a subset of those of a sample."""
    systems = np.zeros((len(samples), 256), dtype=bool)  # by sample and atomic number
    for index, sample in enumerate(samples):
        systems[index, sample.atomic_numbers] = True
    systems = np.unique(systems, axis=0)
    known: dict[frozenset[int], bool] = {}

    def competes(crystal: Crystal) -> bool:
        elements = elements_of(crystal)
        if elements not in known:
            known[elements] = bool(systems[:, sorted(elements)].all(axis=1).any())
        return known[elements]

    return competes
