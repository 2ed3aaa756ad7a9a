"""Distances between the distributions of a property over generated crystals and over the test split."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import wasserstein_distance

from xtalgen.crystals import MAX_ATOMIC_NUMBER, Crystal
from xtalgen.metrics.choices import Rules
from xtalgen.metrics.statistics.intervals import Bootstrap, Estimate, missing
from xtalgen.metrics.validity import Validity
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.geometry import volume

GRAMS_PER_CM3 = 1.66053906892  # one dalton per Å³ (CODATA 2022)


@dataclass(frozen=True)
class DistributionRules(Rules):
    """crystals: how many valid ones are drawn; fewer: whether fewer still give a value; elements_of_all: no draw."""

    crystals: int = 1000
    fewer: bool = True
    elements_of_all: bool = False  # number of elements over all crystals, valid or not

    def distances(self, sample: CrystalList, test: CrystalList, validity: Validity) -> dict[str, Estimate | Bootstrap]:
        """Returns the Wasserstein distances of density and number of elements of a sample from the test split."""
        valid = sample.take(np.flatnonzero(validity.both & sample.usable))
        known = test.take(np.flatnonzero(test.usable))
        found: dict[str, Estimate | Bootstrap] = {}
        for name, prop in (("wdist_density", density), ("wdist_num_elems", num_elems)):
            values, at_most = np.array([prop(crystal) for crystal in valid], dtype=float), self.crystals
            if self.elements_of_all and prop is num_elems:
                values, at_most = _elements_of_all(sample, validity), len(sample)
            elif not self.fewer and len(values) < self.crystals:
                reason = f"{len(values):,} valid crystals; this recipe takes {self.crystals:,}"
                found[name] = missing(reason, len(values))
                continue
            references = np.array([prop(crystal) for crystal in known], dtype=float)
            found[name] = wasserstein(values, references, at_most=at_most)
        return found


def density(crystal: Crystal) -> float:
    """Returns the mass density of a crystal with geometry in g/cm³."""
    return float(_masses()[crystal.atomic_numbers].sum() * GRAMS_PER_CM3 / volume(crystal.lattice))


def num_elems(crystal: Crystal) -> int:
    """Returns the number of distinct elements of a crystal with geometry."""
    return len(np.unique(crystal.atomic_numbers))


def wasserstein(
    values: Float[np.ndarray, " n"], references: Float[np.ndarray, " m"], *, at_most: int
) -> Estimate | Bootstrap:
    """Returns the Wasserstein distance of a seeded subset of `at_most` values from the references.

    CDVAE takes 1,000 random valid crystals and fails with fewer; here fewer give a value with their number as n, and
    none give a null value with a reason.
    """
    if len(references) == 0:
        return missing("the test split has no usable crystal")
    return Bootstrap(
        values,
        lambda drawn: float(wasserstein_distance(drawn, references)),
        reason="no valid crystal",
        at_most=at_most,
    )


def _elements_of_all(sample: CrystalList, validity: Validity) -> Float[np.ndarray, " n"]:
    """Returns the number of elements of every crystal that has any; those beyond the guards count as elements.

    FlowMM puts a crystal of one atom in their place.
    """
    pairs = zip(sample, validity.accepted, strict=True)
    return np.array([num_elems(row) if accepted else 1 for row, accepted in pairs if row.n_atoms], dtype=float)


@functools.cache
def _masses() -> np.ndarray:
    from pymatgen.core import Element

    return np.array([np.nan] + [float(Element.from_Z(z).atomic_mass) for z in range(1, MAX_ATOMIC_NUMBER + 1)])
