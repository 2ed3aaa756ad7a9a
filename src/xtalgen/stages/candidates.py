"""Stage `candidates`: exports the best new crystals of a set as files for further calculations or synthesis."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xtalgen.crystals import ContractError, Crystal, from_table, read_crystals, read_table
from xtalgen.io.writers.archives import write_zip
from xtalgen.metrics.candidates import NEEDED, choose, is_finite
from xtalgen.structure.space_group import space_group

COLUMNS = (
    "rank", "id", "set", "formula", "n_atoms", "spg_num", "e_above_hull", "second_e_above_hull",
    "e_above_hull_uncertainty", "stable", "metastable", "energy", "converged", "nearest_id", "nearest_composition",
    "nearest_structure", "match_id", "source_name", "vasp_error", "file",
)  # fmt: skip


def write_candidates(
    evaluated: Path,
    *,
    count: int,
    out: Path,
    vasp: int = 0,
    name: str = "",
    known: Sequence[Path] = (),
    second: Path | None = None,
    workers: int = 1,
) -> None:
    """Writes the best candidates of an evaluated set to a zip archive.

    It holds `candidates.csv`, `candidates.extxyz` and a CIF of each candidate. The first `vasp` candidates get a folder
    with VASP inputs for a relaxation with the settings of the Materials Project (pymatgen's MPRelaxSet). POTCAR.spec
    names the pseudopotentials; VASP's licence forbids shipping the files. Where MPRelaxSet has no inputs for a crystal,
    the column `vasp_error` says why.

    name: name of the set, written to the CSV. known: tables of known crystals; the nearest one is listed for each
    candidate (`nearest_id`, `nearest_composition`, `nearest_structure`: see `featurizers.similarity`). second: table of
    the stage `second_potential`. The uncertainty of the energy above the hull is half the difference between the two
    potentials' values, the standard error of their mean.

    The CIFs hold the relaxed cells without symmetry (P1), so that no atom is moved to satisfy one. `spg_num` is found
    by moyo with a tolerance of 0.1 Å; `e_above_hull` is in eV/atom, `energy` in eV. Without any candidate the archive
    holds only the CSV's header. The same table gives the same bytes. Raises ContractError when the table was not
    evaluated for novelty and stability (csp sets are not).
    """
    table = read_table(evaluated)
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise ContractError(
            f"{evaluated}: column {missing[0]!r} is missing. Give a dng or own set that was relaxed and evaluated."
        )
    chosen = choose(from_table(table), count)
    more = _more(chosen, known, second, workers)
    files: dict[str, str] = {}
    rows = []
    for rank, crystal in enumerate(chosen, start=1):
        facts, cif = _describe(crystal)
        file = f"{rank:04d}-{re.sub(r'[^A-Za-z0-9._-]', '_', crystal.id)}-{facts['formula']}.cif"
        files[file] = cif
        given = {"rank": rank, "id": crystal.id, "set": name, "file": file}
        inputs, error = _vasp(crystal) if rank <= vasp else ({}, None)
        rows.append({**crystal.info, **facts, **more[crystal.id], **given, "vasp_error": error})
        files |= {f"vasp/{file.removesuffix('.cif')}/{name}": text for name, text in inputs.items()}
    if chosen:
        files["candidates.extxyz"] = _extxyz(chosen, rows)
    write_zip({"candidates.csv": _csv(rows), **files}, out)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _more(
    chosen: Sequence[Crystal], known: Sequence[Path], second: Path | None, workers: int
) -> dict[str, dict[str, Any]]:
    """Returns, by id, the nearest known crystal and the second potential's value of each candidate, where available."""
    found: dict[str, dict[str, Any]] = {crystal.id: {} for crystal in chosen}
    rows = [row for path in known for row in read_crystals(path) if row.ok]
    for crystal, nearest in zip(chosen, _nearest(chosen, rows, workers), strict=True):
        if nearest is not None:
            found[crystal.id] |= {"nearest_id": nearest.id, "nearest_composition": round(nearest.composition, 4)}
            found[crystal.id]["nearest_structure"] = None if nearest.structure is None else round(nearest.structure, 4)
    second_values = (
        {} if second is None else {row.id: row.info.get("second_e_above_hull") for row in read_crystals(second)}
    )
    for crystal in chosen:
        other = second_values.get(crystal.id)
        if is_finite(other):
            apart = abs(crystal.info["e_above_hull"] - other) / 2
            found[crystal.id] |= {"second_e_above_hull": other, "e_above_hull_uncertainty": round(apart, 6)}
    return found


def _nearest(chosen: Sequence[Crystal], rows: Sequence[Crystal], workers: int) -> Sequence[Any]:
    if not chosen or not rows:
        return [None] * len(chosen)
    from xtalgen.featurizers.similarity import nearest_known

    return nearest_known(chosen, rows, workers=workers)


def _describe(crystal: Crystal) -> tuple[dict[str, Any], str]:
    from pymatgen.io.cif import CifWriter

    from xtalgen.structure.pymatgen import to_structure

    structure = to_structure(crystal)
    spg_num = space_group((crystal.lattice, crystal.frac_coords, crystal.atomic_numbers)) or None
    facts = {"formula": structure.composition.reduced_formula, "n_atoms": crystal.n_atoms, "spg_num": spg_num}
    return facts, str(CifWriter(structure))


def _vasp(crystal: Crystal) -> tuple[dict[str, str], str | None]:
    """Returns VASP's input files by name, and the reason where MPRelaxSet cannot make them."""
    import warnings

    from pymatgen.io.vasp.sets import MPRelaxSet

    from xtalgen.structure.pymatgen import to_structure

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing pseudopotential files are expected
        structure = to_structure(crystal)
        known = MPRelaxSet.CONFIG["POTCAR"]
        unknown = sorted(element.symbol for element in structure.composition if element.symbol not in known)
        if unknown:  # pymatgen would raise, or use the bare symbol as the pseudopotential
            return {}, f"MPRelaxSet has no pseudopotential for {', '.join(unknown)}"
        try:
            inputs = MPRelaxSet(structure, sort_structure=True).get_input_set(potcar_spec=True)
        except Exception as error:  # noqa: BLE001 - one crystal's inputs must not end the archive
            return {}, f"{type(error).__name__}: {error}"
        return {name: f"{str(content).rstrip()}\n" for name, content in inputs.items()}, None


def _extxyz(crystals: Sequence[Crystal], rows: Sequence[Mapping[str, Any]]) -> str:
    from ase import Atoms
    from ase.io import write

    found = []
    for crystal, row in zip(crystals, rows, strict=True):
        atoms = Atoms(crystal.atomic_numbers, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
        atoms.info = {name: row[name] for name in ("rank", "id", "formula", "e_above_hull", "spg_num") if row.get(name)}
        found.append(atoms)
    text = io.StringIO()
    write(text, found, format="extxyz")
    return text.getvalue()
