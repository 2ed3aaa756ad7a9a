"""Scores of de novo generation: of a run's samples, or of structures that a user brings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal
from xtalgen.fingerprints import Fingerprints
from xtalgen.metrics.coverage import Cutoffs, coverage
from xtalgen.metrics.distributions import density, num_elems, wasserstein
from xtalgen.metrics.intervals import RESAMPLES, Estimate, bootstrap, missing, rate
from xtalgen.metrics.magpie import magpie_features
from xtalgen.metrics.stability import AboveHull, Phase, energies_above_hull
from xtalgen.metrics.uniqueness import Kind, unique_and_novel
from xtalgen.metrics.validity import Validity, judge, reduced_counts, usable

Columns = dict[str, tuple[pa.DataType, Sequence[Any]]]


@dataclass(frozen=True)
class Settings:
    """How to score. Energies in eV/atom; match_timeout: seconds of wall time for one structure comparison."""

    stable_below: float = 0.0
    metastable_below: float = 0.1
    match_timeout: float = 60.0
    n_wasserstein: int = 1000
    resamples: int = RESAMPLES
    workers: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Scores:
    """Verdicts by row, metrics, counts after each step, counts of failures by class, further facts of the recipe."""

    columns: Columns
    metrics: dict[str, Estimate]
    funnel: list[tuple[str, int]]
    failures: Counter[str]
    recipe: dict[str, Any] = field(default_factory=dict)
    n_reference: int | None = None


@dataclass(frozen=True)
class Inputs:
    """Everything that generated crystals are scored with; lists of crystals and fingerprints in the sample's order."""

    sample: Sequence[Crystal]
    relaxed: Sequence[Crystal] | None
    hull: Sequence[Crystal] | None
    train: Sequence[Crystal]
    test: Sequence[Crystal]
    fingerprints: Fingerprints | None
    references: Fingerprints | None
    limits: Cutoffs


def score_generation(inputs: Inputs, settings: Settings) -> Scores:
    """Returns every metric of generated crystals. Each rate has the number of crystals asked for as denominator."""
    prints = inputs.fingerprints
    validity = judge(inputs.sample, None if prints is None else prints.chosen & ~prints.ok)
    final = _final(inputs.sample, inputs.relaxed)
    kinds = unique_and_novel(final, inputs.train, workers=settings.workers, timeout=settings.match_timeout)
    above = _above_hull(inputs, settings)
    columns = _verdicts(inputs, settings, validity, kinds, above)
    flags = {name: np.array(columns[name][1], dtype=bool) for name in columns if columns[name][0] == pa.bool_()}
    metrics = _rates(inputs, flags)
    metrics |= _coverage(inputs)
    metrics |= _distances(inputs, settings, validity)
    metrics |= _averages(inputs, settings, above)
    references = inputs.references
    return Scores(
        columns,
        metrics,
        _funnel(inputs, flags, above),
        _failures(inputs, kinds, above),
        {"crystalnn_success_required": prints is not None},
        None if references is None else int(references.ok.sum()),
    )


def relaxed_well(row: Crystal) -> bool:
    """Whether a row of the relaxed table holds a relaxed structure with an energy."""
    return row.ok and row.info.get("energy") is not None and bool(np.isfinite(row.info["energy"]))


def _final(sample: Sequence[Crystal], relaxed: Sequence[Crystal] | None) -> list[Crystal]:
    """Returns the crystals that uniqueness is judged on: relaxed where relaxation succeeded, else as sampled."""
    if relaxed is None:
        return list(sample)
    return [after if relaxed_well(after) else before for before, after in zip(sample, relaxed, strict=True)]


def _above_hull(inputs: Inputs, settings: Settings) -> list[AboveHull]:
    if inputs.relaxed is None or inputs.hull is None:
        return [AboveHull(None, "no_energy")] * len(inputs.sample)
    phases = [_phase(row) if relaxed_well(row) and usable(row) else None for row in inputs.relaxed]
    references = [_phase(row) for row in inputs.hull if relaxed_well(row)]
    return energies_above_hull(phases, references, workers=settings.workers)


def _phase(row: Crystal) -> Phase:
    return Phase(reduced_counts(row.atomic_numbers), row.info["energy"] / row.n_atoms)


def _verdicts(
    inputs: Inputs, settings: Settings, validity: Validity, kinds: Sequence[Kind], above: Sequence[AboveHull]
) -> Columns:
    """Returns the verdicts by row; null where nothing could be judged."""
    hull = np.array([np.nan if found.value is None else found.value for found in above], dtype=float)
    unique = np.array([kind.unique for kind in kinds], dtype=bool)
    novel = np.array([kind.novel for kind in kinds], dtype=bool)
    stable, metastable = hull <= settings.stable_below, hull <= settings.metastable_below
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    flags |= {"unique": unique, "novel": novel, "unique_novel": unique & novel}
    columns: Columns = {name: (pa.bool_(), values.tolist()) for name, values in flags.items()}
    columns["duplicate_of"] = (pa.string(), [kind.duplicate_of for kind in kinds])
    columns["match_id"] = (pa.string(), [kind.match_id for kind in kinds])
    columns["match_status"] = (pa.string(), [kind.status for kind in kinds])
    if inputs.relaxed is not None:
        converged = [relaxed_well(row) and bool(row.info.get("converged")) for row in inputs.relaxed]
        columns["relax_status"] = (pa.string(), [row.status for row in inputs.relaxed])
        columns["relaxed"] = (pa.bool_(), [relaxed_well(row) for row in inputs.relaxed])
        columns["converged"] = (pa.bool_(), converged)
    if inputs.relaxed is not None and inputs.hull is not None:
        columns["hull_status"] = (pa.string(), [found.status for found in above])
        columns["e_above_hull"] = (pa.float64(), [found.value for found in above])
        flags = {"stable": stable, "metastable": metastable}
        flags |= {"sun": stable & unique & novel, "msun": metastable & unique & novel}
        columns |= {name: (pa.bool_(), values.tolist()) for name, values in flags.items()}
    return columns


def _rates(inputs: Inputs, flags: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
    n = len(inputs.sample)
    metrics = {name: rate(int(values.sum()), n) for name, values in flags.items() if name != "relaxed"}
    if inputs.relaxed is None:
        metrics["converged"] = missing("not relaxed", n)
    if inputs.relaxed is None or inputs.hull is None:
        metrics |= {name: missing(_no_hull(inputs), n) for name in ("stable", "metastable", "sun", "msun")}
    return metrics


def _no_hull(inputs: Inputs) -> str:
    return "not relaxed" if inputs.relaxed is None else "no hull was given"


def _coverage(inputs: Inputs) -> dict[str, Estimate]:
    """Returns recall over references with fingerprint, precision over all crystals asked for (CDVAE's denominators)."""
    generated, references = inputs.fingerprints, inputs.references
    if generated is None or references is None:
        return dict.fromkeys(("cov_recall", "cov_precision"), missing("no fingerprints were given"))
    if not references.ok.any():
        return dict.fromkeys(("cov_recall", "cov_precision"), missing("no test crystal has a fingerprint"))
    train = [reduced_counts(crystal.atomic_numbers) for crystal in inputs.train if usable(crystal)]
    features = magpie_features(train) if train else references.composition[references.ok]
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    # A feature that is the same in all of the training split has no scale; CDVAE's scaler divides by 1 then.
    scale = np.where(deviation > 1e-12, deviation, 1.0)
    sets = [
        (found.structure[found.ok], (found.composition[found.ok] - mean) / scale) for found in (generated, references)
    ]
    covered = coverage(sets[0], sets[1], inputs.limits)
    return {
        "cov_recall": rate(int(covered.references.sum()), len(covered.references)),
        "cov_precision": rate(int(covered.generated.sum()), int(generated.chosen.sum())),
    }


def _distances(inputs: Inputs, settings: Settings, validity: Validity) -> dict[str, Estimate]:
    valid = [crystal for crystal, chosen in zip(inputs.sample, validity.both, strict=True) if chosen]
    test = [crystal for crystal in inputs.test if usable(crystal)]
    return {
        name: wasserstein(
            np.array([prop(crystal) for crystal in valid], dtype=float),
            np.array([prop(crystal) for crystal in test], dtype=float),
            at_most=settings.n_wasserstein,
            seed=settings.seed,
            resamples=settings.resamples,
        )
        for name, prop in (("wdist_density", density), ("wdist_num_elems", num_elems))
    }


def _averages(inputs: Inputs, settings: Settings, above: Sequence[AboveHull]) -> dict[str, Estimate]:
    options = {"seed": settings.seed, "resamples": settings.resamples}
    rmsd = [row.info.get("rmsd") for row in inputs.relaxed or () if relaxed_well(row)]
    no_rmsd = "not relaxed" if inputs.relaxed is None else "no crystal was relaxed"
    no_hull = _no_hull(inputs) if inputs.hull is None or inputs.relaxed is None else "no crystal has a hull energy"
    return {
        "rmsd": bootstrap(_present(rmsd), np.mean, reason=no_rmsd, **options),
        "e_above_hull_median": bootstrap(
            _present([found.value for found in above]), np.median, reason=no_hull, **options
        ),
    }


def _present(values: Sequence[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None and np.isfinite(value)], dtype=float)


def _funnel(inputs: Inputs, flags: Mapping[str, np.ndarray], above: Sequence[AboveHull]) -> list[tuple[str, int]]:
    """Returns how many crystals are left after each step: those that passed it and every step before."""
    steps = {"parsed": np.array([usable(crystal) for crystal in inputs.sample], dtype=bool), "valid": flags["valid"]}
    if inputs.relaxed is not None:
        steps |= {"relaxed": flags["relaxed"], "converged": flags["converged"]}
    if "metastable" in flags:
        steps["hull-evaluable"] = np.array([found.value is not None for found in above], dtype=bool)
    steps |= {"unique": flags["unique"], "novel": flags["novel"]}
    if "metastable" in flags:
        steps["metastable S.U.N."] = flags["metastable"]
    left, funnel = np.ones(len(inputs.sample), dtype=bool), [("sampled", len(inputs.sample))]
    for name, passed in steps.items():
        left = left & passed
        funnel.append((name, int(left.sum())))
    return funnel


def _failures(inputs: Inputs, kinds: Sequence[Kind], above: Sequence[AboveHull]) -> Counter[str]:
    """Returns how many crystals failed, by stage and class; a crystal counts at every stage it fails at."""
    failures = Counter(f"sample: {crystal.status}" for crystal in inputs.sample if not crystal.ok)
    fine = [row for row, crystal in enumerate(inputs.sample) if crystal.ok]
    if inputs.fingerprints is not None:
        statuses = (inputs.fingerprints.status[row] for row in fine)
        failures.update(f"fingerprint: {status}" for status in statuses if status not in ("ok", "not_chosen"))
    if inputs.relaxed is not None:
        rows = [inputs.relaxed[row] for row in fine]
        failures.update(f"relax: {row.status}" for row in rows if not row.ok)
        failures.update("relax: not_converged" for row in rows if relaxed_well(row) and not row.info.get("converged"))
    failures.update(f"match: {kinds[row].status}" for row in fine if kinds[row].status != "ok")
    failures.update(f"hull: {found.status}" for found in above if found.status not in ("ok", "no_energy"))
    return failures
