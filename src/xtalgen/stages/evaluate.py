"""Stage `evaluate`: every metric of one set with its interval and recipe, and the verdicts crystal by crystal."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import ContractError, Crystal, from_table, read_facts, read_table, replace_columns, write_table
from xtalgen.datasets.registry import SEPARATOR
from xtalgen.featurizers.fingerprints import Fingerprints, read_fingerprints
from xtalgen.metrics import validity
from xtalgen.metrics.coverage import cutoffs
from xtalgen.metrics.distributions import density, num_elems
from xtalgen.metrics.protocols import Recipe
from xtalgen.metrics.result_file import Evaluation, write_evaluation
from xtalgen.metrics.tasks import EVERY_TASK, GENERATION
from xtalgen.metrics.tasks.conditional import Requests, score_requests
from xtalgen.metrics.tasks.csp import Predictions, assign_targets, score_prediction
from xtalgen.metrics.tasks.dng import final_crystals, score_generation
from xtalgen.metrics.tasks.infilling import score_guesses
from xtalgen.metrics.types import Inputs, MetricConfig, Scores
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.runtime.resume import clear, content_key
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.space_group import SYMPREC
from xtalgen.thermodynamics.mp2020 import correction, warm_up

NO_DATA_SET = "none"  # in the metrics file, as the data set that crystals are compared with
CORRECTION_TIMEOUT = 20.0  # seconds per crystal
CARRIED = ("energy", "e_initial", "max_force", "n_steps", "seconds", "rmsd", "volume_ratio", "relax_error")
OF_RELAXATION = ("potential", "potential_version", "potential_sha256", "fmax", "max_steps")
OF_HULL = ("potential", "potential_sha256", "energies", "relax_steps", "missing_terminals")


@dataclass(frozen=True)
class Sources:
    """The files that a set is scored with; None where there is none. Tables are Parquet, training is JSON.

    train, test: without them, generated crystals are scored by what needs no data set.
    """

    sample: Path
    train: Path | None = None
    test: Path | None = None
    val: Path | None = None
    relaxed: Path | None = None
    hull: Path | None = None
    fingerprints: Path | None = None
    reference_fingerprints: Path | None = None
    training: Path | None = None


@dataclass(frozen=True)
class Tables:
    """The content of the crystal tables of `Sources`, each file read once.

    table: the sample's, with all its columns; train, test: empty without a data set; relaxed: in the order of the
    sample; facts: the metadata of each file, by its name in `Sources`.
    """

    table: pa.Table
    sample: CrystalList
    train: CrystalList
    test: CrystalList
    val: CrystalList | None
    relaxed: CrystalList | None
    hull: CrystalList | None
    facts: Mapping[str, Mapping[str, str]]


def evaluate(
    task: str,
    sources: Sources,
    settings: MetricConfig,
    *,
    out_table: Path,
    out_json: Path,
    name: str | None = None,
    work: Path | None = None,
) -> None:
    """Writes the metrics of a set to `out_json` and its verdicts row by row to `out_table`.

    task: one of `metrics.tasks.EVERY_TASK`; "own" is a user's structures, scored as dng. name: of the set, by
    default the stem of `out_json`. work: folder for finished structure comparisons, by default beside `out_json`.
    Crystals that failed keep their row and stay in every denominator; a metric that cannot be computed is null with its
    reason. Raises ContractError, naming file and remedy, when files do not fit each other; ValueError for another task.
    """
    if task not in EVERY_TASK:
        raise ValueError(f"no task {task!r}; there are {', '.join(EVERY_TASK)}")
    warnings.filterwarnings("ignore", message="No Pauling electronegativity")  # once per crystal with a noble gas
    work = work or out_json.parent / f"work-{out_json.stem}"
    tables = read_sources(sources)
    if tables.relaxed is not None and _hull_has_corrections(tables.facts):
        tables = replace(tables, relaxed=correct_for_hull(tables.relaxed, tables.sample, workers=settings.workers))
    scores = _score(task, sources, tables, settings, work)
    _write_verdicts(tables, scores.columns, out_table)
    evaluation = Evaluation(
        set=name or out_json.stem,
        task=task,
        n=len(tables.sample),
        recipe=_describe_recipe(settings.describe(task), task, tables.facts) | scores.recipe,
        data=_describe_data(tables, scores.n_reference),
        funnel=tuple(scores.funnel),
        failures=scores.failures,
        metrics=scores.metrics,
        cost=_cost(sources.training, tables.facts["sample"], len(tables.sample)),
        outcomes=scores.outcomes,
    )
    write_evaluation(evaluation, out_json)
    clear(work)


def correct_for_hull(relaxed: CrystalList, sample: CrystalList, *, workers: int) -> CrystalList:
    """Returns the relaxed rows with corrected energies in `info` for the hull: `hull_energy` and `hull_e_initial`, eV.

    The first is of the relaxed geometry, the second of the sampled one; null where there is no energy, or no correction
    within `CORRECTION_TIMEOUT` (oxidation states are guessed, which can take long).
    """
    wanted = [
        (index, name, row, energy)
        for index, (after, before) in enumerate(zip(relaxed, sample, strict=True))
        for name, row in (("energy", after), ("e_initial", before))
        if row.ok and (energy := after.info.get(name)) is not None
    ]
    rows = [row for _, _, row, _ in wanted]
    found = map_items(
        correction,
        rows,
        workers=workers,
        timeout=CORRECTION_TIMEOUT,
        label="MP2020 corrections",
        initializer=warm_up,
    )
    energies: list[dict[str, float | None]] = [{"hull_energy": None, "hull_e_initial": None} for _ in relaxed]
    for (index, name, _, energy), each in zip(wanted, found, strict=True):
        energies[index][f"hull_{name}"] = None if isinstance(each, Failure) else energy + each
    return CrystalList(replace(row, info={**row.info, **more}) for row, more in zip(relaxed, energies, strict=True))


def read_sources(sources: Sources) -> Tables:
    """Returns the crystal tables of a set. Raises ContractError, naming file and remedy, when they do not fit."""
    files = {name: getattr(sources, name) for name in ("sample", "train", "test", "val", "relaxed", "hull")}
    read = {name: read_table(path) for name, path in files.items() if path is not None}
    facts = {name: read_facts(table) for name, table in read.items()}
    if sources.relaxed is not None and sources.hull is not None:
        check_potentials(sources.relaxed, facts["relaxed"], sources.hull, facts["hull"])
    crystals: dict[str, Any] = {name: CrystalList(from_table(table)) for name, table in read.items()}
    if sources.relaxed is not None:
        rows = {crystal.id: crystal for crystal in crystals["relaxed"]}
        ids = [crystal.id for crystal in crystals["sample"]]
        _check_ids(sources.relaxed, list(rows), sources.sample, ids)
        crystals["relaxed"] = CrystalList(rows[identifier] for identifier in ids)
    named: dict[str, Any] = {name: crystals.get(name) for name in files}
    named |= {name: CrystalList([]) for name in ("train", "test") if named[name] is None}
    return Tables(table=read["sample"], facts=facts, **named)


def _score(task: str, sources: Sources, tables: Tables, settings: MetricConfig, work: Path) -> Scores:
    if task == "infilling":
        return score_guesses(tables.sample)
    if task in GENERATION:
        known = None if sources.train is None else _known(tables, settings.recipe)
        return score_generation(_inputs(sources, tables, known), settings)
    if sources.test is None:
        raise ContractError(f"{sources.sample}: predictions are scored against a test split. Give its table too.")
    try:
        rows, own = assign_targets(tables.sample, tables.test, str(sources.sample))
        if task == "conditional":
            return score_requests(_requests(sources, tables, [rows[place] for place in own]), settings)
    except ValueError as error:
        raise ContractError(str(error)) from error
    key = content_key(
        sources.sample,
        sources.test,
        tolerances=str(settings.recipe.prediction.tolerances),
        timeout=settings.match_timeout,
    )
    references = _fingerprints(sources.reference_fingerprints, tables.test, sources.test)
    predictions = Predictions(
        sample=tables.sample,
        targets=tables.test.take(rows),
        own=own,
        fingerprints=_fingerprints(sources.fingerprints, tables.sample, sources.sample),
        references=None if references is None else references.take(rows),
    )
    return score_prediction(predictions, settings, work=work, key=key)


def _inputs(sources: Sources, tables: Tables, known: CrystalList | None) -> Inputs:
    return Inputs(
        sample=tables.sample,
        relaxed=tables.relaxed,
        hull=tables.hull,
        train=tables.train,
        test=tables.test,
        known=known,
        fingerprints=_fingerprints(sources.fingerprints, tables.sample, sources.sample),
        references=_fingerprints(sources.reference_fingerprints, tables.test, sources.test),
        limits=cutoffs(tables.facts.get("test", {}).get("dataset", "")),
    )


def _known(tables: Tables, recipe: Recipe) -> CrystalList:
    """Returns what the recipe compares with for novelty. Raises ContractError when the validation split is missing."""
    splits, named = {"train": tables.train, "val": tables.val, "test": tables.test}, recipe.likeness.known
    missing = [name for name in named if splits[name] is None]
    if missing:
        raise ContractError(
            f"Recipe {recipe.name!r} asks for novelty against the split {missing[0]!r}: give its table too."
        )
    return CrystalList.join([split for name in named if (split := splits[name]) is not None])


def _requests(sources: Sources, tables: Tables, targets: Sequence[int]) -> Requests:
    attributes = tables.facts["sample"].get("attributes")
    if attributes is None:
        raise ContractError(f"{sources.sample}: does not say which attributes were asked for. Sample it again.")
    asked = [tables.test[row] for row in targets]
    return Requests(tables.sample, asked, attributes.split(","), tables.relaxed, tables.hull)


def check_potentials(relaxed: Path, own: Mapping[str, str], hull: Path, others: Mapping[str, str]) -> None:
    """Raises ContractError when samples and hull were evaluated with different potentials: such a hull is wrong.

    own, others: the metadata of the tables `relaxed` and `hull`.
    """
    for key in ("potential_sha256", "potential"):
        if own.get(key) != others.get(key):
            raise ContractError(
                f"{relaxed} has {key} {own.get(key)!r}, {hull} has {others.get(key)!r}. Energies of different "
                "potentials cannot be compared: compute both with the same potential."
            )


def _hull_has_corrections(facts: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether the hull consists of the Materials Project's corrected energies and the relaxed rows have raw ones."""
    found = facts.get("hull", {})
    return "relaxed" in facts and (found.get("energies"), found.get("energy_scale")) == ("mp2020", "raw")


def _fingerprints(path: Path | None, crystals: Sequence[Crystal], table: Path | None) -> Fingerprints | None:
    """Returns the fingerprints in the order of the crystals. Raises ContractError when they are of other crystals."""
    if path is None or table is None:
        return None
    ids = [crystal.id for crystal in crystals]
    found, fingerprints = read_fingerprints(path)
    _check_ids(path, found, table, ids)
    places = {identifier: row for row, identifier in enumerate(found)}
    return fingerprints.take([places[identifier] for identifier in ids])


def _check_ids(path: Path, found: Sequence[str], other: Path, ids: Sequence[str]) -> None:
    if set(found) != set(ids):
        odd = min(set(found) ^ set(ids))
        raise ContractError(
            f"{path} ({len(found)} rows) and {other} ({len(ids)} rows) do not hold the same crystals: {odd!r} is "
            f"in one of them only. Make {path} again from {other}."
        )


def _write_verdicts(tables: Tables, verdicts: Mapping[str, Any], out: Path) -> None:
    """Writes the sample's rows with the relaxed geometry where there is one, and every verdict."""
    final = final_crystals(tables.sample, tables.relaxed)
    rows = list(zip(final, final.usable, strict=True))
    lists = pa.list_(pa.float64())
    columns: dict[str, Any] = {
        "lattice": (lists, [None if row.lattice is None else row.lattice.ravel() for row in final]),
        "frac_coords": (lists, [None if row.frac_coords is None else row.frac_coords.ravel() for row in final]),
        "formula": (pa.string(), [_formula(row) if fine else None for row, fine in rows]),
        "density": (pa.float64(), [density(row) if fine else None for row, fine in rows]),
        "num_elems": (pa.int64(), [num_elems(row) if fine else None for row, fine in rows]),
    }
    if tables.relaxed is not None:
        for name in CARRIED:
            kind = {"n_steps": pa.int64(), "relax_error": pa.string()}.get(name, pa.float64())
            columns[name] = (kind, [row.info.get(name) for row in tables.relaxed])
    write_table(replace_columns(tables.table, {**columns, **verdicts}), out, **tables.facts["sample"])


def _formula(crystal: Crystal) -> str:
    from pymatgen.core import Composition, Element

    counts = validity.reduced_counts(crystal.atomic_numbers)
    return Composition({Element.from_Z(number): count for number, count in counts}).reduced_formula


def _describe_recipe(choices: Mapping[str, Any], task: str, facts: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Returns every choice behind the numbers, with the versions of the libraries and the inputs that made them."""
    versions = {package: version(package) for package in ("smact", "pymatgen", "matminer", "moyopy", "scipy")}
    described = {**choices, "versions": versions}
    if task in GENERATION:
        limits = cutoffs(facts.get("test", {}).get("dataset", ""))
        cutoff = {"structure_cutoff": limits.structure, "composition_cutoff": limits.composition}
        described["coverage"] = choices["coverage"] | cutoff
    if task in (*GENERATION, "conditional"):
        described["symprec"] = SYMPREC
    if task in GENERATION or "hull" in facts:
        described["relaxation"] = _chosen(facts.get("relaxed"), OF_RELAXATION)
        described["hull"] = _chosen(facts.get("hull"), OF_HULL)
    return described


def _chosen(facts: Mapping[str, str] | None, keys: Sequence[str]) -> dict[str, str | None] | None:
    return None if facts is None else {key: facts.get(key) for key in keys}


def _describe_data(tables: Tables, n_reference: int | None) -> dict[str, Any]:
    described, own = [tables.facts.get(name, {}) for name in ("train", "test")], tables.facts["sample"]
    caveats = [caveat for facts in (*described, own) for caveat in facts.get("caveat", "").split(SEPARATOR) if caveat]
    released = {"released": json.loads(own["released"])} if "released" in own else {}
    return {
        "dataset": described[1].get("dataset", "unknown" if "test" in tables.facts else NO_DATA_SET),
        "published": _published([facts.get("published", "unknown") for facts in described]),
        "caveats": list(dict.fromkeys(caveats)),
        "n_train": len(tables.train),
        "n_test": len(tables.test),
        "n_reference": n_reference,
        "n_hull": None if tables.hull is None else len(tables.hull),
        **released,
    }


def _published(splits: list[str]) -> str:
    """Returns "yes" when all splits are the published ones, "no" when one is known not to be, else "unknown"."""
    return "no" if "no" in splits else "yes" if set(splits) == {"yes"} else "unknown"


def _cost(training: Path | None, sampled: Mapping[str, str], n: int) -> dict[str, Any]:
    """Returns the cost of training and sampling; None where the files do not say."""
    facts: dict[str, Any] = {}
    if training is not None:
        try:
            facts = json.loads(training.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ContractError(f"{training}: not readable JSON ({error}). Rerun the train stage.") from error
    seconds, evaluations = _number(sampled.get("seconds")), _number(sampled.get("network_evaluations"))
    return {
        "parameters": facts.get("parameters"),
        "train_seconds": facts.get("seconds"),
        "train_device": facts.get("device"),
        **_train_hours(facts),
        "sample_seconds_per_1000": None if seconds is None or n == 0 else seconds / n * 1000,
        "network_evaluations": None if evaluations is None else int(evaluations),
        "device": sampled.get("device"),
    }


def _train_hours(facts: Mapping[str, Any]) -> dict[str, float]:
    """Returns the core-hours or, where the clock was wall time, the GPU-hours of a training; nothing where unknown."""
    hours = facts.get("seconds", 0.0) * (facts.get("processes") or 1) / 3600
    if facts.get("clock") == "wall time":
        return {"train_gpu_hours": hours}
    return {"train_core_hours": hours * facts["threads"]} if facts.get("clock") and "threads" in facts else {}


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and np.isfinite(value) else None
