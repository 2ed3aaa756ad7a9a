"""Coverage: share of the test split that is generated (recall) and share of generated crystals near it (precision)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

BLOCK = 512


@dataclass(frozen=True)
class Cutoffs:
    """Distances within which crystals cover each other: structure fingerprint, standardised composition fingerprint."""

    structure: float = 0.4
    composition: float = 10.0


CUTOFFS = {"perov_5": Cutoffs(0.2, 4.0), "carbon_24": Cutoffs(0.2, 4.0)}


@dataclass(frozen=True)
class Coverage:
    """Which references are covered (among those with fingerprint) and which generated crystals (likewise)."""

    references: Bool[np.ndarray, " references"]
    generated: Bool[np.ndarray, " generated"]


def cutoffs(dataset: str) -> Cutoffs:
    """Returns CDVAE's cutoffs of a data set; those of MP-20 for one that CDVAE did not use."""
    return CUTOFFS.get(dataset, Cutoffs())


def coverage(
    generated: tuple[Float[np.ndarray, "generated s"], Float[np.ndarray, "generated c"]],
    references: tuple[Float[np.ndarray, "references s"], Float[np.ndarray, "references c"]],
    limits: Cutoffs,
) -> Coverage:
    """Returns the coverage between two sets of (structure, standardised composition) fingerprints.

    The smallest structure distance and the smallest composition distance are taken independently: they may come from
    different crystals (CDVAE, compute_cov), so recalls of 99 % are common.
    """
    structure = minima(generated[0], references[0])
    composition = minima(generated[1], references[1])
    # COV-R counts references with a generated crystal within both cut-offs, COV-P generated crystals with a reference.
    covered = [
        (by_structure <= limits.structure) & (by_composition <= limits.composition)
        for by_structure, by_composition in zip(structure, composition, strict=True)
    ]
    return Coverage(references=covered[1], generated=covered[0])


def minima(
    a: Float[np.ndarray, "a d"], b: Float[np.ndarray, "b d"]
) -> tuple[Float[np.ndarray, " a"], Float[np.ndarray, " b"]]:
    """Returns the Euclidean distance of each row of a to its nearest of b, and the reverse; infinity without any.

    One matrix product per block of rows with running minima, |x - y|² = |x|² + |y|² - 2 x·y in float64, so memory is
    one block and not the whole distance matrix.
    """
    nearest_a, nearest_b = np.full(len(a), np.inf), np.full(len(b), np.inf)
    if len(a) == 0 or len(b) == 0:
        return nearest_a, nearest_b
    center = b.mean(axis=0)  # centring leaves distances unchanged and reduces cancellation
    a, b = a - center, b - center
    squares = np.einsum("ij,ij->i", b, b)
    for start in range(0, len(a), BLOCK):
        rows = a[start : start + BLOCK]
        # |x - y|² in place, (BLOCK, len(b)): -2 x·y + |y|² + |x|²
        squared = rows @ b.T
        squared *= -2.0
        squared += squares
        squared += np.einsum("ij,ij->i", rows, rows)[:, None]
        nearest_a[start : start + BLOCK] = squared.min(axis=1)
        np.minimum(nearest_b, squared.min(axis=0), out=nearest_b)
    return np.sqrt(np.maximum(nearest_a, 0.0)), np.sqrt(np.maximum(nearest_b, 0.0))
