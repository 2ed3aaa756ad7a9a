"""Crystals that a user gives: files, pymatgen structures, ASE atoms, our own crystals."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal, to_table, write_table
from xtalgen.io.checks import check_lattice, check_periodic, make_crystal
from xtalgen.io.entries import CrystalError
from xtalgen.stages.import_structures import COLUMNS, check_structure_file, iterate_structures, write_structures

GIVEN = "structures"  # name of a set that does not come from a file


def write_given(structures: Any, out: Path, *, workers: int, column: str | None = None) -> None:
    """Writes the crystals that a user gives to a table; ids count them in order, broken ones have a status.

    structures: a path, or one or more pymatgen structures, ASE atoms, crystals of this package, or paths. column: of a
    CSV, the one that holds the crystals. Raises ValueError when nothing given is a crystal, TypeError for other kinds
    of objects.
    """
    if isinstance(structures, str | Path):
        write_structures(Path(structures), out, workers, column).require_crystals()
        return
    rows = read_given(structures, workers=workers, column=column)
    if not rows:
        raise ValueError("no structures were given. Give at least one.")
    if not any(row.ok for row in rows):
        raise ValueError(f"none of the {len(rows):,} structures is a crystal ({rows[0].info.get('error')}).")
    rows = [replace(row, id=f"{GIVEN}-{index:06d}") for index, row in enumerate(rows)]
    write_table(to_table(rows, COLUMNS), out)


def read_given(structures: Any, *, workers: int, column: str | None = None) -> list[Crystal]:
    """Returns the crystals that a user gives; see `write_given`. Ids are those that they have."""
    given: Iterable[Any] = [structures] if _is_one(structures) else structures
    rows: list[Crystal] = []
    for one in given:
        if isinstance(one, str | Path):
            check_structure_file(Path(one))
            rows += iterate_structures(Path(one), workers, column)
        else:
            rows.append(as_crystal(one, f"{GIVEN}-{len(rows):06d}"))
    return rows


def as_crystal(given: Any, identifier: str) -> Crystal:
    """Returns the crystal of a pymatgen structure, ASE atoms or one of this package's own, which stays as it is.

    One that cannot be used has a status, and `info["error"]` says why. Raises TypeError for other objects.
    """
    if isinstance(given, Crystal):
        info = {"source_name": given.id, "error": None, "warning": None, "energy_given": None} | dict(given.info)
        return replace(given, info=info)
    info = {"source_name": identifier, "error": None, "warning": None, "energy_given": None}
    try:
        return replace(make_crystal(*_arrays(given)), id=identifier, info=info)
    except CrystalError as error:
        return Crystal(identifier, error.status, info={**info, "error": error.message})


def _arrays(given: Any) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Returns lattice (3, 3) in Å, fractional coordinates (n, 3) and atomic numbers of a structure or atoms."""
    if hasattr(given, "lattice") and hasattr(given, "frac_coords"):  # pymatgen
        if not given.is_ordered:
            raise CrystalError("disordered", "sites are partly occupied; give an ordered structure")
        check_periodic(list(given.lattice.pbc))
        # Dummy species have atomic numbers beyond all elements.
        return np.array(given.lattice.matrix), np.array(given.frac_coords), [site.specie.Z for site in given]
    if hasattr(given, "get_scaled_positions"):  # ASE
        check_periodic(given.pbc.tolist())
        lattice = np.array(given.cell)
        check_lattice(lattice)  # before coordinates are divided by it
        return lattice, given.get_scaled_positions(wrap=False), given.get_atomic_numbers().tolist()
    raise TypeError(
        f"a {type(given).__name__} is no crystal. Give pymatgen Structures, ASE Atoms, xtalgen Crystals, or paths."
    )


def _is_one(given: Any) -> bool:
    return (
        isinstance(given, str | Path | Crystal) or hasattr(given, "lattice") or hasattr(given, "get_scaled_positions")
    )
