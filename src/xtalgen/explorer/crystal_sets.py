"""The sets shown by explorer and figures: crystals as sampled and relaxed, verdicts, descriptors, metrics."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table
from xtalgen.explorer.encoding import Geometry, geometry
from xtalgen.metrics.result_file import Evaluation, read_evaluation
from xtalgen.report.learning_curve import read_log

MOST_STEPS = 300  # points per learning curve on the page


@dataclass(frozen=True)
class Files:
    """The files of one set; None where there is none.

    crystals: evaluated crystals, or those of a data set as reference. sample: the same crystals as sampled. embedding:
    descriptors. metrics: JSON of the stage `evaluate`.
    """

    name: str
    crystals: Path
    sample: Path | None = None
    embedding: Path | None = None
    metrics: Path | None = None
    reference: bool = False

    @staticmethod
    def from_arguments(sets: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> "list[Files]":
        """Returns the sets of a command line: a name, then the files in the order above; a dash means no file."""

        def path(text: str) -> Path | None:
            return None if text == "-" else Path(text)

        generated = []
        for name, crystals, sample, embedding, metrics in sets:
            generated.append(Files(name, Path(crystals), path(sample), path(embedding), path(metrics)))
        return generated + [
            Files(name, Path(crystals), None, path(embedding), reference=True)
            for name, crystals, embedding in references
        ]


@dataclass(frozen=True)
class CrystalSet:
    """One set on the page. Where unknown, spg_num is 0 and descriptors are NaN. total: crystals before thinning."""

    name: str
    reference: bool
    rows: list[Crystal]
    final: list[Geometry | None]
    before: list[Geometry | None]
    spg_num: list[int]
    descriptors: np.ndarray
    columns: frozenset[str]
    total: int
    embedding: str | None = None
    evaluation: Evaluation | None = None
    notes: list[str] = field(default_factory=list)

    def describe(self, colour: int) -> dict[str, Any]:
        """Returns the set's entry in the page's header. colour: its index in the palette, -1 for a reference."""
        described: dict[str, Any] = {
            "name": self.name,
            "reference": self.reference,
            "colour": colour,
            "n": self.total,
        }
        if self.evaluation:
            kept = ("value", "low", "high", "n", "reason")
            metrics = self.evaluation.metrics
            described["metrics"] = {name: {key: getattr(value, key) for key in kept} for name, value in metrics.items()}
            described["funnel"] = list(self.evaluation.funnel)
            described["origin"] = self.evaluation.origin
        return described


def load(files: Files) -> CrystalSet:
    """Reads and returns a set. Raises ContractError when a file is not a table or metrics file of the expected kind."""
    table = read_table(files.crystals)
    rows = [_prepared(row, files.reference) for row in from_table(table)]
    samples = {} if files.sample is None else {row.id: row for row in from_table(read_table(files.sample))}
    final = [geometry(row) for row in rows]
    before = [geometry(samples[row.id]) if row.id in samples else None for row in rows]
    embedding, spg_num, descriptors = _embedding(files.embedding, rows)
    evaluation = None if files.metrics is None else read_evaluation(files.metrics)
    crystal_set = CrystalSet(
        name=files.name,
        reference=files.reference,
        rows=rows,
        final=final,
        before=before,
        spg_num=spg_num,
        descriptors=descriptors,
        columns=frozenset(table.column_names),
        total=len(rows),
        embedding=embedding,
        evaluation=evaluation,
    )
    return replace(crystal_set, notes=_notes(crystal_set))


def thin(
    sets: Sequence[CrystalSet], max_crystals: int | None, max_reference: int | None, seed: int
) -> list[CrystalSet]:
    """Returns the sets with at most these numbers of generated and reference crystals, as seeded subsets."""
    thinned = []
    for index, crystal_set in enumerate(sets):
        most = max_reference if crystal_set.reference else max_crystals
        total = sum(len(other.rows) for other in sets if other.reference == crystal_set.reference)
        if most is None or total <= most:
            thinned.append(crystal_set)
            continue
        count = len(crystal_set.rows) * most // total
        chosen = np.sort(np.random.default_rng([seed, index]).choice(len(crystal_set.rows), count, replace=False))
        note = f"{crystal_set.name}: {count:,} of {crystal_set.total:,} crystals are shown, chosen at random."
        thinned.append(_take(crystal_set, chosen.tolist(), note))
    return thinned


def learning_curves(logs: Sequence[tuple[str, Path]]) -> list[dict[str, Any]]:
    """Returns steps and losses of training logs by name, thinned to 300 points each; None for empty logs."""
    curves = []
    for name, path in logs:
        log = read_log(path)
        steps = log["step"]
        chosen = np.unique(np.linspace(0, len(steps) - 1, MOST_STEPS).astype(int)) if len(steps) else np.zeros(0, int)
        validated = np.flatnonzero(np.isfinite(log["val_loss"]))
        chosen = np.union1d(chosen, validated[:: max(1, len(validated) // MOST_STEPS)])
        losses = {key: [_finite(value) for value in log[key][chosen]] for key in ("loss", "val_loss")}
        curves.append({"name": name, "step": [float(step) for step in steps[chosen]], **losses})
    return curves


@functools.cache
def elements() -> dict[str, list[Any]]:
    """Returns the properties of elements, indexed by atomic number; index 0 is not an element.

    Masses in atomic units, covalent radii in Å (Cordero et al. 2008, doi:10.1039/b801115j), Jmol's colours.
    """
    from ase.data import atomic_masses, chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors
    from pymatgen.core import Element

    known = [Element.from_Z(number) for number in range(1, 119)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have none and come last in a formula
        negativity = [float(element.X) if np.isfinite(element.X) else 9.0 for element in known]
    colours = [f"#{bytes(round(255 * part) for part in colour).hex()}" for colour in jmol_colors]
    return {
        "symbol": ["", *chemical_symbols[1:119]],
        "mass": [0.0, *(round(float(mass), 4) for mass in atomic_masses[1:119])],
        "radius": [0.0, *(round(float(radius), 2) for radius in covalent_radii[1:119])],
        "colour": (["#000000", *colours[1:]] + ["#ff1493"] * 119)[:119],
        "electronegativity": [0.0, *negativity],
        "metal": [0, *(int(element.is_metal) for element in known)],
    }


@functools.cache
def space_groups() -> list[str]:
    """Returns the Hermann-Mauguin symbols indexed by space-group number; index 0 is not a group."""
    from pymatgen.symmetry.groups import sg_symbol_from_int_number

    return ["", *(sg_symbol_from_int_number(number) for number in range(1, 231))]


def _embedding(path: Path | None, rows: Sequence[Crystal]) -> tuple[str | None, list[int], np.ndarray]:
    spg_num = [int(row.info.get("spg_num") or 0) for row in rows]
    if path is None:
        return None, spg_num, np.zeros((len(rows), 0))
    table = read_table(path)
    found = {row.id: row.info for row in from_table(table)}
    infos = [found.get(row.id, {}) for row in rows]
    vectors = [info.get("descriptor") for info in infos]
    width = max((len(vector) for vector in vectors if vector), default=0)
    matrix = np.array([vector or [np.nan] * width for vector in vectors], dtype=float).reshape(len(rows), width)
    return read_metadata(table).get("embedding"), [int(info.get("spg_num") or 0) for info in infos], matrix


def _prepared(row: Crystal, reference: bool) -> Crystal:
    """Returns a reference row without its energy above the hull.

    It comes from the data set's own calculations and cannot be compared with the energies of a potential.
    """
    if not reference:
        return row
    return replace(row, info={name: value for name, value in row.info.items() if name != "e_above_hull"})


def _notes(crystal_set: CrystalSet) -> list[str]:
    if not crystal_set.rows:
        return [f"{crystal_set.name}: no crystals."]
    notes = []
    missing = sum(found is None for found in crystal_set.final)
    if missing:
        notes.append(f"{crystal_set.name}: {missing:,} of {crystal_set.total:,} crystals have no geometry to show.")
    if not crystal_set.reference and "valid" not in crystal_set.columns:
        notes.append(f"{crystal_set.name}: not judged: the table has no verdicts.")
    return notes


def _take(crystal_set: CrystalSet, chosen: list[int], note: str) -> CrystalSet:
    pick = lambda values: [values[index] for index in chosen]  # noqa: E731
    return replace(
        crystal_set,
        rows=pick(crystal_set.rows),
        final=pick(crystal_set.final),
        before=pick(crystal_set.before),
        spg_num=pick(crystal_set.spg_num),
        descriptors=crystal_set.descriptors[chosen],
        notes=[*crystal_set.notes, note],
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
