"""Scores of crystal structure prediction: comparison of predicted structures with the true ones."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import Fingerprints
from xtalgen.metrics.choices import MatchFilter
from xtalgen.metrics.protocols import PredictionRules
from xtalgen.metrics.statistics.comparisons import pack_outcomes
from xtalgen.metrics.statistics.intervals import Bootstrap, estimate_all, missing, rate
from xtalgen.metrics.types import Columns, Flags, Measured, MetricConfig, Scores, count_survivors
from xtalgen.metrics.validity import Validity
from xtalgen.runtime.parallel import Failure
from xtalgen.runtime.resume import map_resumably
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.matcher import CSP, NotComparableError, Tolerances, arrays, rms_distance, warm_up

ONE = "one prediction per target"


@dataclass(frozen=True)
class Predictions:
    """Predictions and the targets they were made for.

    own: index of each prediction's target; fingerprints and references: in the order of predictions and targets.
    """

    sample: CrystalList
    targets: CrystalList
    own: Sequence[int]
    fingerprints: Fingerprints | None
    references: Fingerprints | None


def assign_targets(sample: Sequence[Crystal], test: Sequence[Crystal], where: str) -> tuple[list[int], list[int]]:
    """Returns the rows of the test split that are targets, and the place among them of each prediction's target.

    Raises ValueError, beginning with `where`, when a prediction names no row of the test split.
    """
    rows = {crystal.id: row for row, crystal in enumerate(test)}
    places: dict[int, int] = {}
    own = []
    for number, crystal in enumerate(sample):
        target = crystal.info.get("target_id")
        if target not in rows:
            raise ValueError(
                f"{where}: row {number} ({crystal.id!r}) has target_id {target!r}, which is no id of the test split. "
                "Sample again with this data set's test split."
            )
        own.append(places.setdefault(rows[target], len(places)))
    return list(places), own


@dataclass(frozen=True)
class Matches:
    """Matches between predictions and targets.

    own: displacement of each prediction to its own target, NaN without match; nearest: smallest displacement of each
    target to any prediction of the same reduced composition, NaN without match; failures: class of failure, by row.
    """

    own: Float[np.ndarray, " predictions"]
    nearest: Float[np.ndarray, " targets"]
    failures: dict[int, str]


def match_targets(
    predictions: CrystalList,
    targets: CrystalList,
    own: Sequence[int],
    *,
    work: Path,
    key: str,
    workers: int,
    timeout: float,
    tolerances: Tolerances = CSP,
) -> Matches:
    """Returns the root mean square displacements between predictions and targets, normalised by (V/n)^(1/3).

    own: index of the target each prediction was made for. Beside its own, every target is compared with the other
    predictions of its reduced composition, for METRe (arXiv:2509.12178). Pairs of different composition cannot match
    and are not compared; neither are rows without usable geometry.
    """
    by_counts: dict[Any, list[int]] = {}
    for index in np.flatnonzero(targets.usable).tolist():
        by_counts.setdefault(reduced_counts(targets[index].atomic_numbers), []).append(index)
    pairs = [
        (row, index)
        for row in np.flatnonzero(predictions.usable).tolist()
        for index in by_counts.get(reduced_counts(predictions[row].atomic_numbers), ())
    ]
    items = [(arrays(predictions[row]), arrays(targets[index])) for row, index in pairs]
    results = map_resumably(
        functools.partial(rms_distance, tolerances=tolerances),
        items,
        work=work,
        key=key,
        workers=workers,
        timeout=timeout,
        label="match",
        initializer=warm_up,
    )
    matched = Matches(np.full(len(predictions), np.nan), np.full(len(targets), np.nan), {})
    for (row, index), result in zip(pairs, results, strict=True):
        if isinstance(result, Failure):
            matched.failures[row] = _failure_class(result)
        elif result is not None:
            matched.nearest[index] = np.fmin(matched.nearest[index], result)
            if own[row] == index:
                matched.own[row] = result
    return matched


@dataclass(frozen=True)
class PredictionVerdicts:
    """Verdicts on each prediction: validity of it and of its target, its matches, whether it is its target's first."""

    validity: Validity
    target_valid: Flags
    matches: Matches
    first: Flags


def score_prediction(predictions: Predictions, settings: MetricConfig, *, work: Path, key: str) -> Scores:
    """Returns every metric of predicted structures; the denominator is the number of targets asked for.

    The match rate is that of each target's first prediction; where there are several, the best of them counts in the
    metrics that say so. `work` keeps finished comparisons of inputs `key`.
    """
    sample, targets = predictions.sample, predictions.targets
    prints, references = predictions.fingerprints, predictions.references
    rules, validity = settings.recipe.prediction, settings.recipe.validity
    matches = match_targets(
        sample,
        targets,
        predictions.own,
        work=work,
        key=key,
        workers=settings.workers,
        timeout=settings.match_timeout,
        tolerances=rules.tolerances,
    )
    own = np.asarray(predictions.own, dtype=int)
    first = np.zeros(len(sample), dtype=bool)
    first[np.unique(own, return_index=True)[1]] = True
    found = PredictionVerdicts(
        validity.judge(sample, None if prints is None else prints.failed),
        validity.judge(targets, None if references is None else references.failed).both[own],
        matches,
        first,
    )
    several = max(Counter(predictions.own).values(), default=0)
    best = _best_of(predictions, rules, found)
    # A target without a match counts with the largest displacement that a match can have.
    off = np.nan_to_num(matches.nearest, nan=rules.tolerances.stol)
    metrics = _metrics(found, best, several) | {"crmse": Bootstrap(off, np.mean, reason="nothing was asked for")}
    return Scores(
        _verdicts(found),
        estimate_all(metrics, seed=settings.seed, resamples=settings.resamples),
        _funnel(predictions, found),
        _failures(sample, matches),
        {
            "samples_per_target": several,
            "crystalnn_success_required": prints is not None and validity.needs_fingerprint,
        },
        len(targets),
        _outcomes(targets, best, matches),
    )


def _verdicts(found: PredictionVerdicts) -> Columns:
    validity, matches = found.validity, found.matches
    matched = np.isfinite(matches.own)
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    flags |= {"target_valid": found.target_valid, "first": found.first, "matched": matched}
    columns: Columns = {name: (pa.bool_(), values.tolist()) for name, values in flags.items()}
    distances = [float(value) if there else None for value, there in zip(matches.own, matched, strict=True)]
    columns["rms_dist"] = (pa.float64(), distances)
    columns["match_status"] = (pa.string(), [matches.failures.get(row, "ok") for row in range(len(matched))])
    return columns


def _best_of(predictions: Predictions, rules: PredictionRules, found: PredictionVerdicts) -> dict[str, np.ndarray]:
    """Returns the smallest displacement to each target, infinite without match, by the suffix of the metrics' names."""
    everything = np.ones(len(predictions.sample), dtype=bool)
    filters = {
        MatchFilter.BOTH: found.validity.both & found.target_valid,
        MatchFilter.PREDICTION: found.validity.both,
        MatchFilter.NEITHER: everything,
    }
    counted = {
        "": found.first & filters[rules.first],
        "_all": found.first,
        "_best": filters[rules.best],
        "_best_all": everything,
    }
    n = len(predictions.targets)
    return {
        suffix: _best(np.where(chosen, found.matches.own, np.nan), predictions.own, n)
        for suffix, chosen in counted.items()
    }


def _metrics(found: PredictionVerdicts, best: Mapping[str, np.ndarray], several: int) -> Measured:
    validity, nearest = found.validity, found.matches.nearest
    n, n_targets = len(validity.both), len(nearest)
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    metrics: Measured = {name: rate(int(values.sum()), n) for name, values in flags.items()}
    for suffix, displacements in best.items():
        if "best" in suffix and several <= 1:
            metrics |= dict.fromkeys((f"match_rate{suffix}", f"rms_dist{suffix}"), missing(ONE))
            continue
        matched = displacements[np.isfinite(displacements)]
        metrics[f"match_rate{suffix}"] = rate(len(matched), n_targets)
        metrics[f"rms_dist{suffix}"] = Bootstrap(matched, np.mean, reason="no target is matched")
    metrics["metre"] = rate(int(np.isfinite(nearest).sum()), n_targets)
    return metrics


def _best(distances: np.ndarray, own: Sequence[int], n_targets: int) -> np.ndarray:
    best = np.full(n_targets, np.inf)
    np.minimum.at(best, np.asarray(own, dtype=int), np.where(np.isfinite(distances), distances, np.inf))
    return best


def _funnel(predictions: Predictions, found: PredictionVerdicts) -> list[tuple[str, int]]:
    steps = {
        "parsed": predictions.sample.usable,
        "valid": found.validity.both,
        "target valid": found.target_valid,
        "matched": np.isfinite(found.matches.own),
    }
    return count_survivors(len(predictions.sample), steps)


def _outcomes(targets: CrystalList, best: Mapping[str, np.ndarray], matches: Matches) -> dict[str, Any]:
    """Returns which targets are matched, for paired tests."""
    matched = {f"match_rate{suffix}": np.isfinite(values) for suffix, values in best.items()}
    return pack_outcomes([target.id for target in targets], matched | {"metre": np.isfinite(matches.nearest)})


def _failures(sample: Sequence[Crystal], matches: Matches) -> Counter[str]:
    failures = Counter(f"sample: {crystal.status}" for crystal in sample if not crystal.ok)
    failures.update(f"match: {kind}" for kind in matches.failures.values())
    return failures


def _failure_class(failure: Failure) -> str:
    """Returns the class under which a failed comparison is counted."""
    return "degenerate" if NotComparableError.__name__ in failure.message else failure.kind
