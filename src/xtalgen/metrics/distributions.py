"""Distances between the distributions of a property over generated crystals and over the test split."""

import functools

import numpy as np
from jaxtyping import Float
from scipy.stats import wasserstein_distance

from xtalgen.crystals import MAX_ATOMIC_NUMBER, Crystal
from xtalgen.metrics.statistics.intervals import Estimate, bootstrap, missing
from xtalgen.structure.geometry import volume

GRAMS_PER_CM3 = 1.66053906892  # one dalton per Å³ (CODATA 2022)


def density(crystal: Crystal) -> float:
    """Returns the mass density of a crystal with geometry in g/cm³."""
    return float(_masses()[crystal.atomic_numbers].sum() * GRAMS_PER_CM3 / volume(crystal.lattice))


def num_elems(crystal: Crystal) -> int:
    """Returns the number of distinct elements of a crystal with geometry."""
    return len(np.unique(crystal.atomic_numbers))


def wasserstein(
    values: Float[np.ndarray, " n"], references: Float[np.ndarray, " m"], *, at_most: int, seed: int, resamples: int
) -> Estimate:
    """Returns the Wasserstein distance of a seeded subset of `at_most` values from the references.

    CDVAE takes 1,000 random valid crystals and fails with fewer; here fewer give a value with their number as n, and
    none give a null value with a reason.
    """
    if len(references) == 0:
        return missing("the test split has no usable crystal")
    if len(values) > at_most:
        values = np.random.default_rng(seed).choice(values, size=at_most, replace=False)
    return bootstrap(
        values,
        lambda drawn: float(wasserstein_distance(drawn, references)),
        seed=seed,
        reason="no valid crystal",
        resamples=resamples,
    )


@functools.cache
def _masses() -> np.ndarray:
    from pymatgen.core import Element

    return np.array([np.nan] + [float(Element.from_Z(z).atomic_mass) for z in range(1, MAX_ATOMIC_NUMBER + 1)])
