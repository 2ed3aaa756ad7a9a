"""How far a set is from the test split: coverage, and distances between distributions, as a recipe defines them."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import Fingerprints
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.metrics.choices import Denominator, Scale
from xtalgen.metrics.coverage import coverage
from xtalgen.metrics.distributions import density, num_elems, wasserstein
from xtalgen.metrics.protocols import Recipe
from xtalgen.metrics.statistics.comparisons import pack_outcomes
from xtalgen.metrics.statistics.intervals import Estimate, missing, rate
from xtalgen.metrics.types import Inputs, MetricConfig
from xtalgen.metrics.validity import Validity
from xtalgen.runtime.pinned_tables import read_pinned
from xtalgen.structure.composition import reduced_counts

CONSTANTS = Path(__file__).with_name("magpie_scale.yaml")
CONSTANTS_SHA256 = "bb750719a7cf4605cc54de138983b3999009162e424a28fea562f2f00b020242"
NAMES = ("cov_recall", "cov_precision")


def coverage_metrics(inputs: Inputs, recipe: Recipe, validity: Validity) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Returns recall over references with fingerprint, precision over the crystals that the recipe says, and outcomes.

    The outcomes say which references are covered, for paired tests of the recall.
    """
    generated, references = inputs.fingerprints, inputs.references
    if generated is None or references is None:
        return dict.fromkeys(NAMES, missing("no fingerprints were given")), {}
    if not references.ok.any():
        return dict.fromkeys(NAMES, missing("no test crystal has a fingerprint")), {}
    mean, deviation = _scale(inputs, references, recipe)
    ours = generated.ok & validity.both if recipe.coverage.only_valid else generated.ok
    sets = [
        (found.structure[ok], (found.composition[ok] - mean) / deviation)
        for found, ok in ((generated, ours), (references, references.ok))
    ]
    covered = coverage(sets[0], sets[1], inputs.limits)
    survivors = recipe.coverage.precision_of is Denominator.FINGERPRINTED
    n = int(ours.sum()) if survivors else int(generated.chosen.sum())
    precision = rate(int(covered.generated.sum()), n)
    if survivors and n == 0:
        precision = missing("no crystal has a fingerprint")
    recall = rate(int(covered.references.sum()), len(covered.references))
    ids = [inputs.test[int(place)].id for place in np.flatnonzero(references.ok)]
    return dict(zip(NAMES, (recall, precision), strict=True)), pack_outcomes(ids, {"cov_recall": covered.references})


def _scale(
    inputs: Inputs, references: Fingerprints, recipe: Recipe
) -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, " features"]]:
    """Returns what composition features are standardised by."""
    if recipe.coverage.standardised_by is Scale.CDVAE_CONSTANTS:
        return _constants()
    train = [reduced_counts(inputs.train[row].atomic_numbers) for row in np.flatnonzero(inputs.train.usable)]
    features = magpie_features(train) if train else references.composition[references.ok]
    deviation = features.std(axis=0)
    # A feature that is the same in all of the training split has no scale; CDVAE's scaler divides by 1 then.
    return features.mean(axis=0), np.where(deviation > 1e-12, deviation, 1.0)


@functools.cache
def _constants() -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, " features"]]:
    read = read_pinned(CONSTANTS, CONSTANTS_SHA256)
    return np.array(read["means"]), np.array(read["deviations"])


def distribution_metrics(inputs: Inputs, settings: MetricConfig, validity: Validity) -> dict[str, Estimate]:
    """Returns the Wasserstein distances of density and number of elements from the test split."""
    recipe = settings.recipe
    rules = recipe.distributions
    valid = inputs.sample.take(np.flatnonzero(validity.both & inputs.sample.usable))
    test = inputs.test.take(np.flatnonzero(inputs.test.usable))
    found = {}
    for name, prop in (("wdist_density", density), ("wdist_num_elems", num_elems)):
        values = np.array([prop(crystal) for crystal in valid], dtype=float)
        whole = rules.elements_of_all and prop is num_elems
        if whole:
            values = _elements_of_all(inputs.sample, validity)
        elif not rules.fewer and len(values) < rules.crystals:
            found[name] = missing(f"{len(values):,} valid crystals; this recipe takes {rules.crystals:,}", len(values))
            continue
        found[name] = wasserstein(
            values,
            np.array([prop(crystal) for crystal in test], dtype=float),
            at_most=max(len(values), 1) if whole else rules.crystals,
            seed=settings.seed,
            resamples=settings.resamples,
        )
    return found


def _elements_of_all(sample: Sequence[Crystal], validity: Validity) -> Float[np.ndarray, " n"]:
    """Returns the number of elements of every crystal that has any; those beyond the guards count as elements.

    FlowMM puts a crystal of one atom in their place.
    """
    pairs = zip(sample, validity.accepted, strict=True)
    return np.array([num_elems(row) if accepted else 1 for row, accepted in pairs if row.n_atoms], dtype=float)
