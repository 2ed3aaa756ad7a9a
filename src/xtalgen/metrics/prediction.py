"""Scores of crystal structure prediction: does a structure predicted for a composition match the true one?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal
from xtalgen.fingerprints import Fingerprints
from xtalgen.metrics.generation import Columns, Scores, Settings
from xtalgen.metrics.intervals import Estimate, bootstrap, missing, rate
from xtalgen.metrics.matching import CSP, Matches, match_targets
from xtalgen.metrics.validity import Validity, judge, usable


@dataclass(frozen=True)
class Predictions:
    """Predictions and the targets they were made for.

    own: index of each prediction's target; fingerprints and references: in the order of predictions and targets.
    """

    sample: Sequence[Crystal]
    targets: Sequence[Crystal]
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


def score_prediction(predictions: Predictions, settings: Settings, *, work: Path, key: str) -> Scores:
    """Returns every metric of predicted structures; the denominator is the number of targets asked for.

    With several predictions per target the best counts. `work` keeps finished comparisons of inputs `key`.
    """
    sample, targets = predictions.sample, predictions.targets
    validity = judge(sample, _failed(predictions.fingerprints))
    target_valid = judge(targets, _failed(predictions.references)).both
    matches = match_targets(
        sample,
        targets,
        predictions.own,
        work=work,
        key=key,
        workers=settings.workers,
        timeout=settings.match_timeout,
    )
    counts = Counter(predictions.own)
    recipe = {
        "samples_per_target": max(counts.values(), default=0),
        "crystalnn_success_required": predictions.fingerprints is not None,
    }
    own_valid = np.array([target_valid[place] for place in predictions.own], dtype=bool)
    return Scores(
        _verdicts(validity, matches, own_valid),
        _metrics(predictions, settings, validity, matches, own_valid),
        _funnel(predictions, validity, matches, own_valid),
        _failures(sample, matches),
        recipe,
        len(targets),
    )


def _failed(fingerprints: Fingerprints | None) -> np.ndarray | None:
    return None if fingerprints is None else fingerprints.chosen & ~fingerprints.ok


def _verdicts(validity: Validity, matches: Matches, target_valid: np.ndarray) -> Columns:
    matched = np.isfinite(matches.own)
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    flags |= {"target_valid": target_valid, "matched": matched}
    columns: Columns = {name: (pa.bool_(), values.tolist()) for name, values in flags.items()}
    distances = [float(value) if found else None for value, found in zip(matches.own, matched, strict=True)]
    columns["rms_dist"] = (pa.float64(), distances)
    columns["match_status"] = (pa.string(), [matches.failures.get(row, "ok") for row in range(len(matched))])
    return columns


def _metrics(
    predictions: Predictions, settings: Settings, validity: Validity, matches: Matches, target_valid: np.ndarray
) -> dict[str, Estimate]:
    n, n_targets = len(predictions.sample), len(predictions.targets)
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    metrics = {name: rate(int(values.sum()), n) for name, values in flags.items()}
    options: dict[str, Any] = {"seed": settings.seed, "resamples": settings.resamples}
    for suffix, counted in (("", validity.both & target_valid), ("_all", np.ones(n, dtype=bool))):
        best = _best(np.where(counted, matches.own, np.nan), predictions.own, n_targets)
        found = best[np.isfinite(best)]
        metrics[f"match_rate{suffix}"] = rate(len(found), n_targets)
        metrics[f"rms_dist{suffix}"] = bootstrap(found, np.mean, reason="no target is matched", **options)
    nearest = matches.nearest
    metrics["metre"] = rate(int(np.isfinite(nearest).sum()), n_targets)
    penalised = np.where(np.isfinite(nearest), nearest, CSP.stol)
    crmse = bootstrap(penalised, np.mean, reason="nothing was asked for", **options)
    metrics["crmse"] = crmse if n_targets else missing("nothing was asked for")
    return metrics


def _best(distances: np.ndarray, own: Sequence[int], n_targets: int) -> np.ndarray:
    best = np.full(n_targets, np.inf)
    np.minimum.at(best, np.asarray(own, dtype=int), np.where(np.isfinite(distances), distances, np.inf))
    return best


def _funnel(
    predictions: Predictions, validity: Validity, matches: Matches, target_valid: np.ndarray
) -> list[tuple[str, int]]:
    """Returns how many predictions are left after each step: those that passed it and every step before."""
    parsed = np.array([usable(crystal) for crystal in predictions.sample], dtype=bool)
    steps = {
        "parsed": parsed,
        "valid": validity.both,
        "target valid": target_valid,
        "matched": np.isfinite(matches.own),
    }
    left, funnel = np.ones(len(parsed), dtype=bool), [("sampled", len(parsed))]
    for name, passed in steps.items():
        left = left & passed
        funnel.append((name, int(left.sum())))
    return funnel


def _failures(sample: Sequence[Crystal], matches: Matches) -> Counter[str]:
    failures = Counter(f"sample: {crystal.status}" for crystal in sample if not crystal.ok)
    failures.update(f"match: {kind}" for kind in matches.failures.values())
    return failures
