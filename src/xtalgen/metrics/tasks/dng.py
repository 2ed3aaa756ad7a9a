"""Scores of de novo generation: of a run's samples, or of structures that a user brings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.metrics.choices import Among, Denominator, Geometry
from xtalgen.metrics.novelty import NOT_VALID, Matching, MatchVerdict
from xtalgen.metrics.stability import StabilityRules
from xtalgen.metrics.statistics.comparisons import pack_outcomes
from xtalgen.metrics.statistics.intervals import Bootstrap, Estimate, estimate_all, missing, rate
from xtalgen.metrics.symmetry import space_groups, symmetry_metrics
from xtalgen.metrics.types import Columns, Flags, Inputs, Measured, MetricConfig, Scores, count_survivors
from xtalgen.metrics.validity import Validity
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.thermodynamics.energy_above_hull import AboveHull, energies_above_hull, reference_phases, relaxed_well

# Rates over the crystals that were to be relaxed; all others are over the whole set.
OF_RELAXED = ("converged", "stable", "metastable", "sun", "msun")
# Metrics that compare with a data set.
OF_NOVELTY = ("novel", "unique_novel", "framework_novel", "sun", "msun")
OF_TEST_SPLIT = ("cov_recall", "cov_precision", "wdist_density", "wdist_num_elems", "tvd_space_group")
NO_DATA_SET = "no data set to compare with"


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on each crystal."""

    validity: Validity
    likeness: Sequence[MatchVerdict]
    above: Sequence[AboveHull]
    groups: Sequence[int | None]
    flags: Mapping[str, Flags]


def score_generation(inputs: Inputs, settings: MetricConfig) -> Scores:
    """Returns every metric of generated crystals; the recipe fixes the denominator of each rate."""
    recipe = settings.recipe
    found = _judge(inputs, settings)
    metrics = _rates(inputs, found.flags)
    if recipe.validity.rates_of is Denominator.PARSED:
        metrics |= _rates_of_parsed(inputs, found.flags)
    coverage, covered = recipe.coverage.measure(
        inputs.fingerprints, inputs.references, inputs.train, found.validity.both, inputs.limits
    )
    metrics |= coverage
    metrics |= recipe.distributions.distances(inputs.sample, inputs.test, found.validity)
    metrics |= symmetry_metrics(found.groups, space_groups(inputs.test, workers=settings.workers))
    metrics |= _averages(inputs, found.above)
    if inputs.known is None:
        metrics |= dict.fromkeys((*OF_NOVELTY, *OF_TEST_SPLIT), missing(NO_DATA_SET, len(inputs.sample)))
    prints = inputs.fingerprints
    return Scores(
        _columns(inputs, found),
        estimate_all(metrics, seed=settings.seed, resamples=settings.resamples),
        _funnel(inputs, found),
        _failures(inputs, found),
        {"crystalnn_success_required": prints is not None and recipe.validity.needs_fingerprint},
        None if inputs.references is None else int(inputs.references.ok.sum()),
        _outcomes(inputs, covered),
    )


def final_crystals(sample: CrystalList, relaxed: CrystalList | None) -> CrystalList:
    """Returns the crystals that uniqueness is judged on: relaxed where relaxation succeeded, else as sampled."""
    if relaxed is None:
        return sample
    return relaxed.where(np.array([relaxed_well(row) for row in relaxed], dtype=bool), sample)


def _judge(inputs: Inputs, settings: MetricConfig) -> Verdicts:
    recipe, sample, prints = settings.recipe, inputs.sample, inputs.fingerprints
    validity = recipe.validity.judge(sample, None if prints is None else prints.failed)
    asked = validity.both if recipe.only_valid else np.ones(len(sample), dtype=bool)
    final = final_crystals(sample, inputs.relaxed)
    compared = sample if recipe.likeness.geometry is Geometry.SAMPLED else final
    matching = Matching(recipe.likeness.tolerances, settings.workers, settings.match_timeout)
    likeness = matching.compare(compared, inputs.known or (), asked)
    flags = {"struct_valid": validity.structure, "comp_valid": validity.composition, "valid": validity.both}
    flags |= _new(inputs, compared, likeness, matching)
    flags |= _relaxed(inputs)
    above = [AboveHull(None, "no_energy")] * len(sample)
    if inputs.relaxed is not None and inputs.hull is not None:
        phases = recipe.stability.phases(sample, inputs.relaxed)
        above = energies_above_hull(phases, reference_phases(inputs.hull), workers=settings.workers)
        flags |= recipe.stability.judge(above, asked)
        if inputs.known is not None:
            flags |= _sun(compared, flags, recipe.stability, matching)
    return Verdicts(validity, likeness, above, space_groups(final, workers=settings.workers), flags)


def _new(
    inputs: Inputs, compared: CrystalList, likeness: Sequence[MatchVerdict], matching: Matching
) -> dict[str, Flags]:
    unique = np.array([verdict.unique for verdict in likeness], dtype=bool)
    novel = np.array([verdict.novel for verdict in likeness], dtype=bool)
    as_sampled = compared is inputs.sample and all(verdict.status != NOT_VALID for verdict in likeness)
    everything = np.ones(len(likeness), dtype=bool)
    found = {
        "unique_sampled": unique if as_sampled else matching.unique_within(inputs.sample, everything),
        "unique": unique,
    }
    if inputs.known is None:
        return found
    return found | {
        "novel": novel,
        "unique_novel": unique & novel,
        "framework_novel": matching.framework_novel(compared, inputs.known, novel),
    }


def _relaxed(inputs: Inputs) -> dict[str, Flags]:
    if inputs.relaxed is None:
        return {}
    relaxed = np.array([relaxed_well(row) for row in inputs.relaxed], dtype=bool)
    converged = np.array([bool(row.info.get("converged")) for row in inputs.relaxed], dtype=bool)
    return {"relaxed": relaxed, "converged": relaxed & converged}


def _sun(
    compared: CrystalList, flags: Mapping[str, Flags], rules: StabilityRules, matching: Matching
) -> dict[str, Flags]:
    """Returns what is (meta)stable, unique and novel at once, with the recipe's order of filters."""
    counts, found = rules.count(compared), {}
    for name, stability in (("sun", "stable"), ("msun", "metastable")):
        among = flags[stability] & counts
        within = rules.unique_among is Among.CLASS
        unique = matching.unique_within(compared, among) if within else flags["unique"]
        found[name] = among & unique & flags["novel"]
    return found


def _columns(inputs: Inputs, verdicts: Verdicts) -> Columns:
    """Returns the verdicts by row; null where nothing could be judged."""
    likeness, above = verdicts.likeness, verdicts.above
    columns: Columns = {name: (pa.bool_(), values.tolist()) for name, values in verdicts.flags.items()}
    columns["min_distance"] = (pa.float64(), [float(x) if np.isfinite(x) else None for x in verdicts.validity.distance])
    columns["duplicate_of"] = (pa.string(), [verdict.duplicate_of for verdict in likeness])
    columns["match_id"] = (pa.string(), [verdict.match_id for verdict in likeness])
    columns["match_status"] = (pa.string(), [verdict.status for verdict in likeness])
    columns["spg_num"] = (pa.int64(), list(verdicts.groups))
    if inputs.fingerprints is not None:
        columns["fingerprint_status"] = (pa.string(), list(inputs.fingerprints.status))
    if inputs.relaxed is not None:
        chosen = zip(inputs.relaxed, _chosen(inputs), strict=True)
        columns["relax_status"] = (pa.string(), [row.status if asked else "not_chosen" for row, asked in chosen])
    if "stable" in verdicts.flags:
        columns["hull_status"] = (pa.string(), [found.status for found in above])
        columns["e_above_hull"] = (pa.float64(), [found.value for found in above])
    return columns


def _rates(inputs: Inputs, flags: Mapping[str, Flags]) -> Measured:
    n, chosen = len(inputs.sample), _chosen(inputs)
    metrics: Measured = {name: rate(int(values.sum()), n) for name, values in flags.items() if name != "relaxed"}
    metrics |= {
        name: rate(int((flags[name] & chosen).sum()), int(chosen.sum())) for name in OF_RELAXED if name in flags
    }
    if inputs.relaxed is None:
        metrics["converged"] = missing("not relaxed", n)
    if "stable" not in flags:
        metrics |= {name: missing(_no_hull(inputs), n) for name in ("stable", "metastable", "sun", "msun")}
    return metrics


def _chosen(inputs: Inputs) -> Flags:
    """Returns which crystals were to be relaxed: all, or only the first ones (`relax.max_crystals`)."""
    if inputs.relaxed is None:
        return np.ones(len(inputs.sample), dtype=bool)
    return np.array([row.info.get("relax_asked") is not False for row in inputs.relaxed], dtype=bool)


def _rates_of_parsed(inputs: Inputs, flags: Mapping[str, Flags]) -> dict[str, Estimate]:
    parsed = sum(crystal.ok for crystal in inputs.sample)
    return {name: rate(int(flags[name].sum()), parsed) for name in ("struct_valid", "comp_valid", "valid")}


def _no_hull(inputs: Inputs) -> str:
    return "not relaxed" if inputs.relaxed is None else "no hull was given"


def _averages(inputs: Inputs, above: Sequence[AboveHull]) -> Measured:
    rmsd = [row.info.get("rmsd") for row in inputs.relaxed or () if relaxed_well(row)]
    no_rmsd = "not relaxed" if inputs.relaxed is None else "no crystal was relaxed"
    no_hull = _no_hull(inputs) if inputs.hull is None or inputs.relaxed is None else "no crystal has a hull energy"
    return {
        "rmsd": Bootstrap(_present(rmsd), np.mean, reason=no_rmsd),
        "e_above_hull_median": Bootstrap(_present([found.value for found in above]), np.median, reason=no_hull),
    }


def _present(values: Sequence[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None and np.isfinite(value)], dtype=float)


def _outcomes(inputs: Inputs, covered: Flags) -> dict[str, Any]:
    """Returns which test crystals are covered, for paired tests of the recall."""
    if inputs.references is None or not len(covered):
        return {}
    ids = [inputs.test[int(row)].id for row in np.flatnonzero(inputs.references.ok)]
    return pack_outcomes(ids, {"cov_recall": covered})


def _funnel(inputs: Inputs, found: Verdicts) -> list[tuple[str, int]]:
    flags = found.flags
    steps = {"parsed": inputs.sample.usable, "valid": flags["valid"]}
    if inputs.relaxed is not None:
        if not (chosen := _chosen(inputs)).all():
            steps["chosen for relaxation"] = chosen
        steps |= {"relaxed": flags["relaxed"], "converged": flags["converged"]}
    if "metastable" in flags:
        steps["hull-evaluable"] = np.array([one.value is not None for one in found.above], dtype=bool)
    steps |= {name: flags[name] for name in ("unique", "novel") if name in flags}
    if "msun" in flags:
        steps["metastable S.U.N."] = flags["stable"] | flags["metastable"]
    return count_survivors(len(inputs.sample), steps)


def _failures(inputs: Inputs, found: Verdicts) -> Counter[str]:
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
    matches = (found.likeness[row].status for row in fine)
    failures.update(f"match: {status}" for status in matches if status not in ("ok", NOT_VALID))
    failures.update(f"hull: {one.status}" for one in found.above if one.status not in ("ok", "no_energy"))
    return failures
