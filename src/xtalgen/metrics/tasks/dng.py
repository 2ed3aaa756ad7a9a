"""Scores of de novo generation: of a run's samples, or of structures that a user brings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal
from xtalgen.metrics import distances
from xtalgen.metrics.choices import Among, Denominator, Geometry
from xtalgen.metrics.novelty import NOT_VALID, Matching, framework_novel, judge_likeness, unique_within
from xtalgen.metrics.protocols import Recipe
from xtalgen.metrics.statistics.intervals import Estimate, bootstrap, missing, rate
from xtalgen.metrics.symmetry import space_groups, symmetry_metrics
from xtalgen.metrics.types import Columns, Flags, Inputs, MetricConfig, Scores, count_survivors
from xtalgen.metrics.uniqueness import MatchVerdict
from xtalgen.metrics.validity import Validity, judge
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.thermodynamics.energy_above_hull import AboveHull, Phase, energies_above_hull, phase_with


@dataclass(frozen=True)
class Verdicts:
    """What was found of each crystal."""

    validity: Validity
    kinds: Sequence[MatchVerdict]
    above: Sequence[AboveHull]
    groups: Sequence[int | None]
    flags: Mapping[str, Flags]


def score_generation(inputs: Inputs, settings: MetricConfig) -> Scores:
    """Returns every metric of generated crystals, each rate over the crystals that the recipe says."""
    recipe, prints = settings.recipe, inputs.fingerprints
    validity = judge(inputs.sample, None if prints is None else prints.chosen & ~prints.ok, recipe.validity)
    asked = validity.both if recipe.only_valid else np.ones(len(inputs.sample), dtype=bool)
    final = final_crystals(inputs.sample, inputs.relaxed)
    compared = inputs.sample if recipe.likeness.geometry is Geometry.SAMPLED else final
    matching = Matching(recipe.likeness.tolerances, settings.workers, settings.match_timeout)
    kinds = judge_likeness(compared, inputs.known, asked, matching)
    above = _above_hull(inputs, settings)
    flags = _new(inputs, validity, kinds, compared, matching) | _stable(inputs, recipe, above, asked)
    if "stable" in flags:
        flags |= _sun(compared, recipe, flags, matching)
    groups = space_groups(final, workers=settings.workers)
    verdicts = Verdicts(validity, kinds, above, groups, flags)
    metrics = _rates(inputs, recipe, flags)
    covered, outcomes = distances.coverage_metrics(inputs, recipe, validity)
    metrics |= covered
    metrics |= distances.distribution_metrics(inputs, settings, validity)
    metrics |= _symmetry(inputs, settings, groups)
    metrics |= _averages(inputs, settings, above)
    return Scores(
        _columns(inputs, verdicts),
        metrics,
        _funnel(inputs, flags, above),
        _failures(inputs, kinds, above),
        {"crystalnn_success_required": prints is not None and recipe.validity.needs_fingerprint},
        None if inputs.references is None else int(inputs.references.ok.sum()),
        outcomes,
    )


def relaxed_well(row: Crystal) -> bool:
    """Whether a row of the relaxed table holds a relaxed structure with an energy."""
    return row.ok and row.info.get("energy") is not None and bool(np.isfinite(row.info["energy"]))


def final_crystals(sample: CrystalList, relaxed: CrystalList | None) -> CrystalList:
    """Returns the crystals that uniqueness is judged on: relaxed where relaxation succeeded, else as sampled."""
    if relaxed is None:
        return sample
    return relaxed.where(np.array([relaxed_well(row) for row in relaxed], dtype=bool), sample)


def _above_hull(inputs: Inputs, settings: MetricConfig) -> list[AboveHull]:
    if inputs.relaxed is None or inputs.hull is None:
        return [AboveHull(None, "no_energy")] * len(inputs.sample)
    if settings.recipe.stability.energies is Geometry.SAMPLED:
        phases = [
            phase_with(before, energy_for_hull(after, "e_initial")) if fine else None
            for before, after, fine in zip(inputs.sample, inputs.relaxed, inputs.sample.usable, strict=True)
        ]
    else:
        phases = relaxed_phases(inputs.relaxed)
    return energies_above_hull(phases, reference_phases(inputs.hull), workers=settings.workers)


def relaxed_phases(relaxed: CrystalList) -> list[Phase | None]:
    """Returns the phase of each relaxed row on the scale of the hull; None where it was not relaxed."""
    return [
        phase_with(row, energy_for_hull(row, "energy")) if fine and relaxed_well(row) else None
        for row, fine in zip(relaxed, relaxed.usable, strict=True)
    ]


def reference_phases(hull: CrystalList) -> list[Phase]:
    """Returns the phases of a hull's reference crystals; those without a geometry or an energy are left out."""
    rows = (row for row, fine in zip(hull, hull.usable, strict=True) if fine and relaxed_well(row))
    return [phase for row in rows if (phase := phase_with(row, row.info["energy"]))]


def energy_for_hull(row: Crystal, name: str) -> float | None:
    """Returns an energy of a relaxed row on the scale of the hull, where that is not the potential's own."""
    return row.info.get(f"hull_{name}", row.info.get(name))


def _new(
    inputs: Inputs, validity: Validity, kinds: Sequence[MatchVerdict], compared: Sequence[Crystal], matching: Matching
) -> dict[str, Flags]:
    unique = np.array([kind.unique for kind in kinds], dtype=bool)
    novel = np.array([kind.novel for kind in kinds], dtype=bool)
    everything = np.ones(len(kinds), dtype=bool)
    as_sampled = compared is inputs.sample and all(kind.status != NOT_VALID for kind in kinds)
    return {
        "struct_valid": validity.structure,
        "comp_valid": validity.composition,
        "valid": validity.both,
        "unique_sampled": unique if as_sampled else unique_within(inputs.sample, everything, matching),
        "unique": unique,
        "novel": novel,
        "unique_novel": unique & novel,
        "framework_novel": framework_novel(compared, inputs.known, kinds, matching),
    }


def _stable(inputs: Inputs, recipe: Recipe, above: Sequence[AboveHull], asked: Flags) -> dict[str, Flags]:
    flags: dict[str, Flags] = {}
    if inputs.relaxed is not None:
        flags["relaxed"] = np.array([relaxed_well(row) for row in inputs.relaxed], dtype=bool)
        converged = np.array([bool(row.info.get("converged")) for row in inputs.relaxed], dtype=bool)
        flags["converged"] = flags["relaxed"] & converged
    if inputs.relaxed is not None and inputs.hull is not None:
        hull = np.array([np.nan if found.value is None else found.value for found in above], dtype=float)
        rules = recipe.stability
        flags["stable"] = asked & (hull <= rules.stable_below + rules.tolerance)
        flags["metastable"] = asked & (hull <= rules.metastable_below + rules.tolerance)
        if rules.disjoint:
            flags["metastable"] &= ~flags["stable"]
    return flags


def _sun(
    compared: Sequence[Crystal], recipe: Recipe, flags: Mapping[str, Flags], matching: Matching
) -> dict[str, Flags]:
    """Returns what is (meta)stable, unique and novel at once, in the recipe's order of asking."""
    compound = np.array([recipe.stability.elements or len(set(_numbers(row))) > 1 for row in compared], dtype=bool)
    found = {}
    for name, stability in (("sun", "stable"), ("msun", "metastable")):
        among = flags[stability] & compound
        within = recipe.stability.unique_among is Among.CLASS
        unique = unique_within(compared, among, matching) if within else flags["unique"]
        found[name] = among & unique & flags["novel"]
    return found


def _numbers(row: Crystal) -> list[int]:
    return [] if row.atomic_numbers is None else row.atomic_numbers.tolist()


def _columns(inputs: Inputs, verdicts: Verdicts) -> Columns:
    """Returns the verdicts by row; null where nothing could be judged."""
    kinds, above = verdicts.kinds, verdicts.above
    columns: Columns = {name: (pa.bool_(), values.tolist()) for name, values in verdicts.flags.items()}
    columns["min_distance"] = (pa.float64(), [float(x) if np.isfinite(x) else None for x in verdicts.validity.distance])
    columns["duplicate_of"] = (pa.string(), [kind.duplicate_of for kind in kinds])
    columns["match_id"] = (pa.string(), [kind.match_id for kind in kinds])
    columns["match_status"] = (pa.string(), [kind.status for kind in kinds])
    columns["spg_num"] = (pa.int64(), list(verdicts.groups))
    if inputs.fingerprints is not None:
        columns["fingerprint_status"] = (pa.string(), list(inputs.fingerprints.status))
    if inputs.relaxed is not None:
        columns["relax_status"] = (pa.string(), [row.status for row in inputs.relaxed])
    if "stable" in verdicts.flags:
        columns["hull_status"] = (pa.string(), [found.status for found in above])
        columns["e_above_hull"] = (pa.float64(), [found.value for found in above])
    return columns


def _rates(inputs: Inputs, recipe: Recipe, flags: Mapping[str, Flags]) -> dict[str, Estimate]:
    n = len(inputs.sample)
    metrics = {name: rate(int(values.sum()), n) for name, values in flags.items() if name != "relaxed"}
    if recipe.validity.rates_of is Denominator.PARSED:
        parsed = sum(crystal.ok for crystal in inputs.sample)
        metrics |= {name: rate(int(flags[name].sum()), parsed) for name in ("struct_valid", "comp_valid", "valid")}
    if inputs.relaxed is None:
        metrics["converged"] = missing("not relaxed", n)
    if "stable" not in flags:
        metrics |= {name: missing(_no_hull(inputs), n) for name in ("stable", "metastable", "sun", "msun")}
    return metrics


def _no_hull(inputs: Inputs) -> str:
    return "not relaxed" if inputs.relaxed is None else "no hull was given"


def _symmetry(inputs: Inputs, settings: MetricConfig, groups: Sequence[int | None]) -> dict[str, Estimate]:
    expected = space_groups(inputs.test, workers=settings.workers)
    return symmetry_metrics(groups, expected, seed=settings.seed, resamples=settings.resamples)


def _averages(inputs: Inputs, settings: MetricConfig, above: Sequence[AboveHull]) -> dict[str, Estimate]:
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
    steps = {"parsed": inputs.sample.usable, "valid": flags["valid"]}
    if inputs.relaxed is not None:
        steps |= {"relaxed": flags["relaxed"], "converged": flags["converged"]}
    if "metastable" in flags:
        steps["hull-evaluable"] = np.array([found.value is not None for found in above], dtype=bool)
    steps |= {"unique": flags["unique"], "novel": flags["novel"]}
    if "metastable" in flags:
        steps["metastable S.U.N."] = flags["stable"] | flags["metastable"]
    return count_survivors(len(inputs.sample), steps)


def _failures(inputs: Inputs, kinds: Sequence[MatchVerdict], above: Sequence[AboveHull]) -> Counter[str]:
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
    failures.update(f"match: {kinds[row].status}" for row in fine if kinds[row].status not in ("ok", NOT_VALID))
    failures.update(f"hull: {found.status}" for found in above if found.status not in ("ok", "no_energy"))
    return failures
