"""Stage `wyckoff`: the space group, the conventional cell and the occupied Wyckoff positions of crystals.

Added to a split's table as the column `wyckoff`, one way of writing each crystal: of the origins and axes that the
Euclidean normaliser of its space group allows, the one with the first letters, then the smallest coordinates. Space
groups, standard cells and normalisers are moyo's, with its tolerance `symmetry.SYMPREC`.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.lattice import lattice_to_parameters
from xtalgen.models.nn.wyckoff_positions import ELEMENT_RANK, close, parse_form, write_operation
from xtalgen.parallel import Failure, map_items
from xtalgen.symmetry import SYMPREC

KIND = pa.struct(
    [
        pa.field("spg_num", pa.int16()),
        pa.field("generators", pa.string()),  # of the space group, "-x,-y,z;x+1/2,…"
        pa.field("cell", pa.list_(pa.float64())),  # conventional: a, b, c in Å, angles in degrees
        pa.field("atomic_numbers", pa.list_(pa.uint8())),  # one per orbit
        pa.field("letters", pa.string()),  # one per orbit
        pa.field("multiplicities", pa.list_(pa.int16())),  # in the conventional cell
        pa.field("forms", pa.list_(pa.string())),  # the representative coordinates of each letter, "x,2x,1/4"
        pa.field("free", pa.list_(pa.float64())),  # the free ones of x, y, z of each orbit, orbit after orbit
    ]
)
COLUMN = "wyckoff"
CHUNK = 64  # crystals per task of a worker
SAME = 1e-3  # fractional: coordinates nearer than this are the same
METRIC = 1e-2  # relative: cells that an operation of the normaliser may change by

log = logging.getLogger(__name__)


def add_wyckoff(table: Path, *, out: Path, workers: int, timeout: float) -> None:
    """Writes the crystal table with the column `wyckoff`, null where a crystal is not ok or has no description.

    timeout: seconds per crystal. Raises ContractError when the table is none.
    """
    read = read_table(table)
    crystals = from_table(read)
    chunks = [crystals[start : start + CHUNK] for start in range(0, len(crystals), CHUNK)]
    found = map_items(describe_chunk, chunks, workers=workers, timeout=timeout * CHUNK, label=f"wyckoff {table.stem}")
    rows: list[dict[str, Any] | None] = []
    for chunk, result in zip(chunks, found, strict=True):
        again = map_items(describe, chunk, workers=1, timeout=timeout, label="wyckoff (again)")
        rows += [None if isinstance(row, Failure) else row for row in again] if isinstance(result, Failure) else result
    missing = sum(crystal.ok and row is None for crystal, row in zip(crystals, rows, strict=True))
    if missing:
        log.warning("%s: no Wyckoff positions for %d of %d crystals", table, missing, len(crystals))
    metadata = {**read_metadata(read), "wyckoff_symprec": str(SYMPREC), "wyckoff_missing": str(missing)}
    write_table(replace_columns(read, {COLUMN: (KIND, rows)}), out, **metadata)


def describe_chunk(crystals: Sequence[Crystal]) -> list[dict[str, Any] | None]:
    """Returns `describe` of each crystal: the task of a worker process."""
    return [describe(crystal) for crystal in crystals]


def describe(crystal: Crystal, symprec: float = SYMPREC) -> dict[str, Any] | None:
    """Returns the value of the column `wyckoff`, None for a crystal that is not ok or that moyo cannot analyse.

    None too where the cell holds several primitive cells within the tolerance. symprec: in Å.
    """
    from moyopy import Cell, MoyoDataset

    if not crystal.ok:
        return None
    logging.getLogger("moyo").setLevel(logging.ERROR)  # it comments on every cell that is not primitive
    parts = (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers)
    try:
        found = MoyoDataset(Cell(*(part.tolist() for part in parts)), symprec=symprec)
        ways = found.normalizer_wyckoff_positions()
    except Exception:  # noqa: BLE001 - moyo raises its own kinds
        return None
    if len(found.prim_std_cell.numbers) != crystal.n_atoms:
        return None
    basis = np.array(found.std_cell.basis)
    best = min(_written(found, ways, basis), key=lambda written: written[0], default=None)
    if best is None:
        return None
    orbits = best[1]
    lengths, angles = lattice_to_parameters(basis)
    return {
        "spg_num": int(found.number),
        "generators": _generators(found.hall_number),
        "cell": [*lengths.tolist(), *angles.tolist()],
        "atomic_numbers": [number for number, _, _ in orbits],
        "letters": "".join(position.letter for _, position, _ in orbits),
        "multiplicities": [position.multiplicity for _, position, _ in orbits],
        "forms": [position.coordinates for _, position, _ in orbits],
        "free": [value for _, _, free in orbits for value in free],
    }


def _written(found: Any, ways: Any, basis: Float[np.ndarray, "3 3"]) -> Iterator[tuple[Any, list[Any]]]:
    """Yields the orbits of a crystal as (atomic number, position, free coordinates), sorted, in every allowed way.

    Before each stands the key to choose by.
    """
    coords, numbers = np.array(found.std_cell.positions), np.array(found.std_cell.numbers)
    rotations, translations = _operations(found.hall_number)
    orbits = _orbits(rotations, translations, coords, numbers)
    polar = np.flatnonzero((rotations == np.eye(3)[None]).all(axis=2).all(axis=0))
    for change, letters in ways.coset_representatives:
        for kept in ways.stabilizer:
            linear = np.array(change.linear) @ np.array(kept.linear)
            if not _same_cell(basis, linear):
                continue
            # x → P⁻¹(x - p), first by the operation that keeps the letters, then by the one that changes them.
            inner = np.linalg.solve(np.array(kept.linear), (coords - np.array(kept.origin_shift)).T).T
            moved = np.linalg.solve(np.array(change.linear), (inner - np.array(change.origin_shift)).T).T
            first = min(((ELEMENT_RANK[numbers[o[0]]], letters[o[0]].letter) for o in orbits), default=None)
            for shift in _origins(orbits, numbers, letters, moved, polar, first):
                sites = [_site(numbers[o[0]], letters[o[0]], (moved - shift)[o]) for o in orbits]
                if any(site is None for site in sites):
                    break
                sites.sort(key=lambda site: (ELEMENT_RANK[site[0]], site[1].letter, site[2]))
                rounded = tuple(tuple(round(value, 3) for value in site[2]) for site in sites)
                yield (tuple(site[1].letter for site in sites), rounded), sites


def _origins(
    orbits: Sequence[Int[np.ndarray, " members"]],
    numbers: Int[np.ndarray, " atoms"],
    letters: Sequence[Any],
    coords: Float[np.ndarray, "atoms 3"],
    polar: Int[np.ndarray, " axes"],
    first: tuple[int, str],
) -> list[Float[np.ndarray, "3"]]:
    """Returns the shifts of the origin to try: along polar axes, where it is free, to an orbit that may stand first."""
    if len(polar) == 0:
        return [np.zeros(3)]
    shifts = []
    for orbit in orbits:
        if (ELEMENT_RANK[numbers[orbit[0]]], letters[orbit[0]].letter) == first:
            shift = np.zeros(3)
            shift[polar] = coords[orbit[0]][polar]
            shifts.append(shift)
    return shifts


def _site(number: int, position: Any, coords: Float[np.ndarray, "members 3"]) -> tuple[int, Any, list[float]] | None:
    """Returns an orbit with the smallest free coordinates of its members that have the form of its representative."""
    matrix, shift, rows, axes = parse_form(position.coordinates)
    free = coords[:, rows] - shift[rows]
    away = free @ matrix[:, axes].T + shift - coords
    fits = (np.abs(away - np.round(away)) < SAME).all(axis=1)
    if not fits.any():
        return None
    values = free[fits] % 1.0
    values[values > 1.0 - SAME] = 0.0
    return int(number), position, min(values.tolist(), key=lambda row: [round(value, 3) for value in row])


def _orbits(
    rotations: Int[np.ndarray, "operations 3 3"],
    translations: Float[np.ndarray, "operations 3"],
    coords: Float[np.ndarray, "atoms 3"],
    numbers: Int[np.ndarray, " atoms"],
) -> list[Int[np.ndarray, " members"]]:
    """Returns which atoms of the conventional cell the space group makes equal."""
    left, orbits = np.ones(len(coords), dtype=bool), []
    for atom in range(len(coords)):
        if left[atom]:
            images = rotations @ coords[atom] + translations
            away = images[:, None] - coords[None]
            near = (np.abs(away - np.round(away)).max(axis=-1) < SAME).any(axis=0)
            members = np.flatnonzero(near & (numbers == numbers[atom]))
            left[members] = False
            orbits.append(members)
    return orbits


def _same_cell(basis: Float[np.ndarray, "3 3"], linear: Float[np.ndarray, "3 3"]) -> bool:
    metric = basis @ basis.T
    return bool(np.abs(linear.T @ metric @ linear - metric).max() < METRIC * np.abs(metric).max())


@cache
def _operations(hall_number: int) -> tuple[Int[np.ndarray, "operations 3 3"], Float[np.ndarray, "operations 3"]]:
    from moyopy import HallSymbolEntry, Setting, operations_from_number

    number = HallSymbolEntry(hall_number).number
    operations = operations_from_number(number, setting=Setting.hall_number(hall_number))
    return np.array(operations.rotations), np.array(operations.translations)


@cache
def _generators(hall_number: int) -> str:
    """Returns operations whose products are the space group, modulo lattice translations."""
    every = list(zip(*_operations(hall_number), strict=True))
    chosen: list[str] = []
    known = close("")
    for rotation, translation in itertools.chain(every):
        text = write_operation(rotation, translation)
        if text not in known:
            chosen.append(text)
            known = close(";".join(chosen))
    return ";".join(chosen)
