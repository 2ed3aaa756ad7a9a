"""Stage `evaluate`: every metric of one set with its interval and recipe, and the verdicts crystal by crystal."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import ContractError, Crystal, from_table, read_facts, read_table, replace_columns, write_table
from xtalgen.datasets.registry import SEPARATOR
from xtalgen.featurizers.fingerprints import Fingerprints, read_fingerprints
from xtalgen.metrics import validity
from xtalgen.metrics.conditional import Requests, score_requests
from xtalgen.metrics.coverage import cutoffs
from xtalgen.metrics.csp import Predictions, assign_targets, score_prediction
from xtalgen.metrics.distributions import density, num_elems
from xtalgen.metrics.dng import relaxed_well, score_generation
from xtalgen.metrics.infilling import score_guesses
from xtalgen.metrics.names import GENERATION, names_for
from xtalgen.metrics.protocols import describe_choices
from xtalgen.metrics.types import Inputs, Scores, Settings
from xtalgen.runtime.atomic import write_text
from xtalgen.runtime.resume import clear, content_key
from xtalgen.structure.space_group import SYMPREC
from xtalgen.thermodynamics.mp2020 import corrected_for_hull

CONTRACT = "metrics/1"
CORRECTION_TIMEOUT = 20.0  # seconds per crystal
POTENTIAL = ("potential", "potential_version", "potential_sha256")
CARRIED = ("energy", "e_initial", "max_force", "n_steps", "seconds", "rmsd", "volume_ratio", "relax_error")


@dataclass(frozen=True)
class Sources:
    """The files that a set is scored with; None where there is none. Tables are Parquet, training is JSON."""

    sample: Path
    train: Path
    test: Path
    val: Path | None = None
    relaxed: Path | None = None
    hull: Path | None = None
    fingerprints: Path | None = None
    reference_fingerprints: Path | None = None
    training: Path | None = None


def evaluate(
    task: str,
    sources: Sources,
    settings: Settings,
    *,
    out_table: Path,
    out_json: Path,
    name: str | None = None,
    work: Path | None = None,
) -> None:
    """Writes the metrics of a set to `out_json` and its verdicts row by row to `out_table`.

    task: one of `EVERY_TASK`; "own" is a user's structures, scored as dng. name: of the set, by default the
    stem of `out_json`. work: folder for finished structure comparisons, by default beside `out_json`. Crystals that
    failed keep their row and stay in every denominator; a metric that cannot be computed is null with its reason.
    Raises ContractError, naming file and remedy, when files do not fit each other.
    """
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # once per crystal with a noble gas
    wanted = names_for(task)
    name = name or out_json.stem
    work = work or out_json.parent / f"work-{out_json.stem}"
    table = read_table(sources.sample)
    sample = from_table(table)
    train, test = read_table(sources.train), read_table(sources.test)
    relaxed = None if sources.relaxed is None else _aligned(sources.relaxed, sources.sample, sample)
    if relaxed is not None and sources.hull is not None:
        check_potentials(sources.relaxed, sources.hull)
        relaxed = _on_scale_of_hull(relaxed, sample, sources.hull, settings)
    if task == "csp":
        scores = _score_csp(sources, settings, sample, from_table(test), work)
    elif task == "conditional":
        scores = _score_conditional(sources, settings, table, relaxed, from_table(test))
    elif task == "infilling":
        scores = score_guesses(sample)
    else:
        scores = _score_dng(sources, settings, sample, relaxed, (train, test))
    _write_verdicts(table, sample, relaxed, scores, out_table)
    content = {
        "contract": CONTRACT,
        "set": name,
        "task": task,
        "n": len(sample),
        "recipe": _recipe(task, sources, settings, read_facts(test)) | scores.recipe,
        "data": _data(train, test, scores),
        "funnel": [{"step": step, "count": count} for step, count in scores.funnel],
        "failures": dict(sorted(scores.failures.items())),
        "metrics": {metric: scores.metrics[metric].as_json() for metric in wanted},
        "cost": _cost(sources.training, read_facts(table), len(sample)),
        "outcomes": scores.outcomes,
    }
    _write_json(content, out_json)
    clear(work)


def _score_dng(
    sources: Sources,
    settings: Settings,
    sample: list[Crystal],
    relaxed: list[Crystal] | None,
    data: tuple[pa.Table, pa.Table],
) -> Scores:
    dataset = read_facts(data[1]).get("dataset", "")
    train, test = (from_table(split) for split in data)
    splits = {"train": train, "test": test, "val": None if sources.val is None else from_table(read_table(sources.val))}
    ids, test_ids = [crystal.id for crystal in sample], [crystal.id for crystal in test]
    return score_generation(
        Inputs(
            sample=sample,
            relaxed=relaxed,
            hull=None if sources.hull is None else from_table(read_table(sources.hull)),
            train=train,
            test=test,
            known=_known(settings, splits),
            fingerprints=_fingerprints(sources.fingerprints, ids, sources.sample),
            references=_fingerprints(sources.reference_fingerprints, test_ids, sources.test),
            limits=cutoffs(dataset),
        ),
        settings,
    )


def _known(settings: Settings, splits: dict[str, list[Crystal] | None]) -> list[Crystal]:
    """Returns what the recipe compares with for novelty. Raises ContractError when the validation split is missing."""
    named = settings.recipe.likeness.known
    missing = [name for name in named if splits[name] is None]
    if missing:
        raise ContractError(
            f"Recipe {settings.recipe.name!r} asks for novelty against the split {missing[0]!r}: give its table too."
        )
    return [crystal for name in named for crystal in splits[name] or ()]


def _score_csp(sources: Sources, settings: Settings, sample: list[Crystal], test: list[Crystal], work: Path) -> Scores:
    try:
        rows, own = assign_targets(sample, test, str(sources.sample))
    except ValueError as error:
        raise ContractError(str(error)) from error
    references = _fingerprints(sources.reference_fingerprints, [crystal.id for crystal in test], sources.test)
    return score_prediction(
        Predictions(
            sample=sample,
            targets=[test[row] for row in rows],
            own=own,
            fingerprints=_fingerprints(sources.fingerprints, [crystal.id for crystal in sample], sources.sample),
            references=None if references is None else references.take(rows),
        ),
        settings,
        work=work,
        key=content_key(
            sources.sample,
            sources.test,
            tolerances=str(settings.recipe.prediction.tolerances),
            timeout=settings.match_timeout,
        ),
    )


def _score_conditional(
    sources: Sources, settings: Settings, table: pa.Table, relaxed: list[Crystal] | None, test: list[Crystal]
) -> Scores:
    attributes = read_facts(table).get("attributes")
    if attributes is None:
        raise ContractError(f"{sources.sample}: does not say which attributes were asked for. Sample it again.")
    sample = from_table(table)
    try:
        rows, own = assign_targets(sample, test, str(sources.sample))
        requests = Requests(
            sample,
            [test[rows[place]] for place in own],
            attributes.split(","),
            relaxed,
            None if sources.hull is None else from_table(read_table(sources.hull)),
        )
        return score_requests(requests, settings)
    except ValueError as error:
        raise ContractError(str(error)) from error


def check_potentials(relaxed: Path, hull: Path) -> None:
    """Raises ContractError when samples and hull were evaluated with different potentials: such a hull is wrong."""
    found = [read_facts(path) for path in (relaxed, hull)]
    for key in ("potential_sha256", "potential"):
        first, second = (metadata.get(key) for metadata in found)
        if first != second:
            raise ContractError(
                f"{relaxed} has {key} {first!r}, {hull} has {second!r}. Energies of different potentials do not "
                "compare: make both with the same potential."
            )


def _on_scale_of_hull(relaxed: list[Crystal], sample: list[Crystal], hull: Path, settings: Settings) -> list[Crystal]:
    """Returns the relaxed rows, with corrected energies beside their own where the hull is MP's and these are raw."""
    said = read_facts(hull)
    if (said.get("energies"), said.get("energy_scale")) != ("mp2020", "raw"):
        return relaxed
    return corrected_for_hull(relaxed, sample, workers=settings.workers, timeout=CORRECTION_TIMEOUT)


def _aligned(path: Path, sample_path: Path, sample: Sequence[Crystal]) -> list[Crystal]:
    rows = {crystal.id: crystal for crystal in from_table(read_table(path))}
    _check_ids(path, list(rows), sample_path, [crystal.id for crystal in sample])
    return [rows[crystal.id] for crystal in sample]


def _fingerprints(path: Path | None, ids: list[str], crystals: Path) -> Fingerprints | None:
    if path is None:
        return None
    found, fingerprints = read_fingerprints(path)
    _check_ids(path, found, crystals, ids)
    places = {identifier: row for row, identifier in enumerate(found)}
    return fingerprints.take([places[identifier] for identifier in ids])


def _check_ids(path: Path, found: list[str], other: Path, ids: list[str]) -> None:
    if set(found) != set(ids):
        odd = min(set(found) ^ set(ids))
        raise ContractError(
            f"{path} ({len(found)} rows) and {other} ({len(ids)} rows) do not hold the same crystals: {odd!r} stands "
            f"in one only. Make {path} again from {other}."
        )


def _write_verdicts(
    table: pa.Table, sample: list[Crystal], relaxed: list[Crystal] | None, scores: Scores, out: Path
) -> None:
    """Writes the sample's rows with the relaxed geometry where there is one, and every verdict."""
    final = [after if after is not None and relaxed_well(after) else before
             for before, after in zip(sample, relaxed or [None] * len(sample), strict=True)]  # fmt: skip
    usable = [validity.usable(crystal) for crystal in final]
    lists = pa.list_(pa.float64())
    columns: dict[str, Any] = {
        "lattice": (lists, [None if row.lattice is None else row.lattice.ravel() for row in final]),
        "frac_coords": (lists, [None if row.frac_coords is None else row.frac_coords.ravel() for row in final]),
        "formula": (pa.string(), [_formula(row) if fine else None for row, fine in zip(final, usable, strict=True)]),
        "density": (pa.float64(), [density(row) if fine else None for row, fine in zip(final, usable, strict=True)]),
        "num_elems": (pa.int64(), [num_elems(row) if fine else None for row, fine in zip(final, usable, strict=True)]),
    }
    if relaxed is not None:
        for name in CARRIED:
            kind = {"n_steps": pa.int64(), "relax_error": pa.string()}.get(name, pa.float64())
            columns[name] = (kind, [row.info.get(name) for row in relaxed])
    metadata = read_facts(table)
    write_table(replace_columns(table, columns | scores.columns), out, **metadata)


def _formula(crystal: Crystal) -> str:
    from pymatgen.core import Composition, Element

    counts = validity.reduced_counts(crystal.atomic_numbers)
    return Composition({Element.from_Z(number): count for number, count in counts}).reduced_formula


def _recipe(task: str, sources: Sources, settings: Settings, data: dict[str, str]) -> dict[str, Any]:
    """Returns every choice behind the numbers, with the versions of the libraries that made them."""
    common = describe_choices(settings.recipe, task) | {
        "intervals": f"95 %; rates: Wilson; others: percentile bootstrap, {settings.resamples} resamples",
        "seed": settings.seed,
        "match_timeout": settings.match_timeout,
        "versions": {package: version(package) for package in ("smact", "pymatgen", "matminer", "moyopy", "scipy")},
    }
    if task == "conditional":
        common |= {"symprec": SYMPREC}
    if task not in GENERATION:
        return common | _energies(sources) if sources.hull else common
    limits = cutoffs(data.get("dataset", ""))
    return (
        common
        | {
            "coverage": common["coverage"]
            | {"structure_cutoff": limits.structure, "composition_cutoff": limits.composition},
            "symprec": SYMPREC,
        }
        | _energies(sources)
    )


def _energies(sources: Sources) -> dict[str, Any]:
    return {
        "relaxation": _described(
            sources.relaxed, ("potential", "potential_version", "potential_sha256", "fmax", "max_steps")
        ),
        "hull": _described(
            sources.hull, ("potential", "potential_sha256", "energies", "relax_steps", "missing_terminals")
        ),
    }


def _described(path: Path | None, keys: Sequence[str]) -> dict[str, str | None] | None:
    if path is None:
        return None
    found = read_facts(path)
    return {key: found.get(key) for key in keys}


def _data(train: pa.Table, test: pa.Table, scores: Scores) -> dict[str, Any]:
    described = [read_facts(table) for table in (train, test)]
    caveats = [caveat for metadata in described for caveat in metadata.get("caveat", "").split(SEPARATOR) if caveat]
    return {
        "dataset": described[1].get("dataset", "unknown"),
        "published": _published([metadata.get("published", "unknown") for metadata in described]),
        "caveats": list(dict.fromkeys(caveats)),
        "n_train": train.num_rows,
        "n_test": test.num_rows,
        "n_reference": scores.n_reference,
    }


def _published(splits: list[str]) -> str:
    """Returns "yes" when all splits are the published ones, "no" when one is known not to be, else "unknown"."""
    return "no" if "no" in splits else "yes" if set(splits) == {"yes"} else "unknown"


def _cost(training: Path | None, sampled: dict[str, str], n: int) -> dict[str, Any]:
    """Returns what training and sampling took; None where the files do not say."""
    facts: dict[str, Any] = {}
    if training is not None:
        try:
            facts = json.loads(training.read_text())
        except ValueError as error:
            raise ContractError(f"{training}: not readable JSON ({error}). Rerun the train stage.") from error
    seconds, evaluations = _number(sampled.get("seconds")), _number(sampled.get("network_evaluations"))
    return {
        "parameters": facts.get("parameters"),
        "train_seconds": facts.get("seconds"),
        "train_device": facts.get("device"),
        "sample_seconds_per_1000": None if seconds is None or n == 0 else seconds / n * 1000,
        "network_evaluations": None if evaluations is None else int(evaluations),
        "device": sampled.get("device"),
    }


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and np.isfinite(value) else None


def _write_json(content: dict[str, Any], out: Path) -> None:
    write_text(out, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
