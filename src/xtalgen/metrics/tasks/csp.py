"""Scores of crystal structure prediction: does a structure predicted for a composition match the true one?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import Fingerprints
from xtalgen.metrics.choices import MatchFilter
from xtalgen.metrics.statistics.comparisons import pack_outcomes
from xtalgen.metrics.statistics.intervals import Estimate, bootstrap, missing, rate
from xtalgen.metrics.types import Columns, Flags, MetricConfig, Scores, count_survivors
from xtalgen.metrics.validity import Validity, judge
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.matcher import Matches, match_targets

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
class PredictionVerdicts:
    """What was found of each prediction: its validity, its target's, its matches, whether it is its target's first."""

    validity: Validity
    target_valid: Flags
    matches: Matches
    first: Flags


def score_prediction(predictions: Predictions, settings: MetricConfig, *, work: Path, key: str) -> Scores:
    """Returns every metric of predicted structures; the denominator is the number of targets asked for.

    The match rate is that of each target's first prediction; where there are several, the best of them counts in the
    metrics that say so. `work` keeps finished comparisons of inputs `key`.
    """
    sample, targets, rules = predictions.sample, predictions.targets, settings.recipe.validity
    validity = judge(sample, _failed(predictions.fingerprints), rules)
    target_valid = judge(targets, _failed(predictions.references), rules).both
    matches = match_targets(
        sample,
        targets,
        predictions.own,
        work=work,
        key=key,
        workers=settings.workers,
        timeout=settings.match_timeout,
        tolerances=settings.recipe.prediction.tolerances,
    )
    counts = Counter(predictions.own)
    own = np.asarray(predictions.own, dtype=int)
    first = np.zeros(len(sample), dtype=bool)
    first[np.unique(own, return_index=True)[1]] = True
    found = PredictionVerdicts(validity, target_valid[own], matches, first)
    several = max(counts.values(), default=0)
    best = _best_of(predictions, settings, found)
    return Scores(
        _verdicts(found),
        _metrics(predictions, settings, found, best, several),
        _funnel(predictions, found),
        _failures(sample, matches),
        {
            "samples_per_target": several,
            "crystalnn_success_required": predictions.fingerprints is not None and rules.needs_fingerprint,
        },
        len(targets),
        pack_outcomes(
            [target.id for target in targets],
            {f"match_rate{suffix}": np.isfinite(values) for suffix, values in best.items()}
            | {"metre": np.isfinite(matches.nearest)},
        ),
    )


def _failed(fingerprints: Fingerprints | None) -> np.ndarray | None:
    return None if fingerprints is None else fingerprints.chosen & ~fingerprints.ok


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


def _best_of(predictions: Predictions, settings: MetricConfig, found: PredictionVerdicts) -> dict[str, np.ndarray]:
    """Returns the smallest displacement to each target, infinite without match, by the suffix of the metrics' names."""
    rules = settings.recipe.prediction
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


def _metrics(
    predictions: Predictions,
    settings: MetricConfig,
    found: PredictionVerdicts,
    best: dict[str, np.ndarray],
    several: int,
) -> dict[str, Estimate]:
    n, n_targets, validity = len(predictions.sample), len(predictions.targets), found.validity
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    metrics = {name: rate(int(values.sum()), n) for name, values in flags.items()}
    options: dict[str, Any] = {"seed": settings.seed, "resamples": settings.resamples}
    for suffix, displacements in best.items():
        if "best" in suffix and several <= 1:
            metrics |= dict.fromkeys((f"match_rate{suffix}", f"rms_dist{suffix}"), missing(ONE))
            continue
        matched = displacements[np.isfinite(displacements)]
        metrics[f"match_rate{suffix}"] = rate(len(matched), n_targets)
        metrics[f"rms_dist{suffix}"] = bootstrap(matched, np.mean, reason="no target is matched", **options)
    nearest = found.matches.nearest
    metrics["metre"] = rate(int(np.isfinite(nearest).sum()), n_targets)
    stol = settings.recipe.prediction.tolerances.stol
    penalised = np.where(np.isfinite(nearest), nearest, stol)
    metrics["crmse"] = bootstrap(penalised, np.mean, reason="nothing was asked for", **options)
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


def _failures(sample: Sequence[Crystal], matches: Matches) -> Counter[str]:
    failures = Counter(f"sample: {crystal.status}" for crystal in sample if not crystal.ok)
    failures.update(f"match: {kind}" for kind in matches.failures.values())
    return failures
