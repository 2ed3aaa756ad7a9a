"""Coverage: share of the test split that is generated (recall) and share of generated crystals near it (precision)."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from xtalgen.featurizers.fingerprints import Fingerprints
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.metrics.choices import Denominator, Rules, Scale
from xtalgen.metrics.statistics.intervals import Estimate, missing, rate
from xtalgen.runtime.pinned_tables import read_pinned
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList

BLOCK = 512
CONSTANTS = Path(__file__).with_name("magpie_scale.yaml")
CONSTANTS_SHA256 = "bb750719a7cf4605cc54de138983b3999009162e424a28fea562f2f00b020242"
NAMES = ("cov_recall", "cov_precision")


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


@dataclass(frozen=True)
class CoverageRules(Rules):
    """standardised_by: where mean and deviation of composition features come from; precision_of: its denominator."""

    standardised_by: Scale = Scale.TRAINING
    precision_of: Denominator = Denominator.ASKED_FOR
    only_valid: bool = False  # whether only valid crystals have fingerprints

    def measure(
        self,
        generated: Fingerprints | None,
        references: Fingerprints | None,
        train: CrystalList,
        valid: Bool[np.ndarray, " n"],
        limits: Cutoffs,
    ) -> tuple[dict[str, Estimate], Bool[np.ndarray, " references"]]:
        """Returns recall and precision, and which of the references with a fingerprint are covered.

        train: what composition features are standardised by, where the rules say so; valid: which generated crystals
        are.
        """
        nothing = np.zeros(0, dtype=bool)
        if generated is None or references is None:
            return dict.fromkeys(NAMES, missing("no fingerprints were given")), nothing
        if not references.ok.any():
            return dict.fromkeys(NAMES, missing("no test crystal has a fingerprint")), nothing
        mean, deviation = self._scale(train, references)
        ours = generated.ok & valid if self.only_valid else generated.ok
        sets = [
            (found.structure[ok], (found.composition[ok] - mean) / deviation)
            for found, ok in ((generated, ours), (references, references.ok))
        ]
        covered = coverage(sets[0], sets[1], limits)
        survivors = self.precision_of is Denominator.FINGERPRINTED
        n = int(ours.sum()) if survivors else int(generated.chosen.sum())
        precision = rate(int(covered.generated.sum()), n)
        if survivors and n == 0:
            precision = missing("no crystal has a fingerprint")
        recall = rate(int(covered.references.sum()), len(covered.references))
        return dict(zip(NAMES, (recall, precision), strict=True)), covered.references

    def _scale(
        self, train: CrystalList, references: Fingerprints
    ) -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, " features"]]:
        """Returns mean and deviation of the composition features."""
        if self.standardised_by is Scale.CDVAE_CONSTANTS:
            return _constants()
        known = [reduced_counts(train[row].atomic_numbers) for row in np.flatnonzero(train.usable)]
        features = magpie_features(known) if known else references.composition[references.ok]
        deviation = features.std(axis=0)
        # A feature that is the same in all of the training split has no scale; CDVAE's scaler divides by 1 then.
        return features.mean(axis=0), np.where(deviation > 1e-12, deviation, 1.0)


@functools.cache
def _constants() -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, " features"]]:
    read = read_pinned(CONSTANTS, CONSTANTS_SHA256)
    return np.array(read["means"]), np.array(read["deviations"])


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
