"""Trajectories (.traj) and SQLite databases (.db) of ASE, read for their structures alone.

Neither needs ASE's own reader, which would also restore constraints and calculators, and opens databases for writing.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import check_lattice, check_numbers, check_periodic, make_crystal
from xtalgen.io.entries import CrystalError, Entry, find_name

COLUMNS = "id, numbers, positions, cell, pbc, energy, key_value_pairs"


def split_trajectory(stream: BufferedIOBase, name: str) -> Iterator[Entry]:
    """Yields the frames of an ASE trajectory. Raises ValueError when it is none, such as a pickle of ASE 3.8."""
    del name  # frames have numbers
    from ase.io import ulm

    if stream.read(8) != b"- of Ulm":
        raise ValueError("not an ASE trajectory (those of ASE before 3.9 are pickles). Write it again as .extxyz.")
    stream.seek(0)
    try:
        reader = ulm.Reader(stream)
        n_frames, first = len(reader), reader
    except Exception as error:  # a damaged header may break ASE's reader in any way
        raise ValueError(f"not a readable ASE trajectory ({type(error).__name__}: {error}). Write it again.") from error
    for index in range(n_frames):
        label = f"frame {index}"
        try:
            frame = reader[index]
            info = frame.get("info") or {}
            given = frame.get("calculator")
            # The first frame alone holds what all have in common.
            content = (
                frame.cell,
                frame.positions,
                frame.numbers if "numbers" in frame else first.numbers,
                frame.pbc if "pbc" in frame else first.pbc,
            )
            energy = None if given is None else given.get("energy")
        except Exception as error:  # noqa: BLE001 - as above
            yield Entry(label, "broken", f"{type(error).__name__}: {error}")
            continue
        yield Entry(find_name(info) or label, "atoms", content, energy)


def split_database(stream: BufferedIOBase, name: str) -> Iterator[Entry]:
    """Yields the rows of an ASE database in the order of their ids. It is opened read-only.

    Names are those among the key-value pairs, else `id 7`. Raises ValueError when it is no ASE database.
    """
    del name  # rows have ids
    if stream.read(15) != b"SQLite format 3":
        raise ValueError("not an SQLite database. Write it again with ase.db.connect.")
    path = Path(stream.name).absolute()  # type: ignore[attr-defined]
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute(f"SELECT {COLUMNS} FROM systems ORDER BY id")  # noqa: S608 - a constant
            for row in rows:
                yield _row_entry(row)
        except sqlite3.Error as error:
            raise ValueError(f"not a readable ASE database ({error}). Write it again with ase.db.connect.") from error


def _row_entry(row: tuple[Any, ...]) -> Entry:
    identifier, numbers, positions, cell, pbc, energy, pairs = row
    name = f"id {identifier}"
    try:
        given = json.loads(pairs) if isinstance(pairs, str) else {}
        content = (
            np.frombuffer(cell, "<f8"),
            np.frombuffer(positions, "<f8"),
            np.frombuffer(numbers, "<i4"),
            [bool(pbc & bit) for bit in (1, 2, 4)],
        )
    except (TypeError, ValueError) as error:
        return Entry(name, "broken", f"{type(error).__name__}: {error}")
    return Entry(find_name(given) or name, "atoms", content, energy)


def parse_atoms(content: Any) -> Crystal:
    """Returns the crystal of cell (Å), positions (Å), atomic numbers and periodicity. Raises CrystalError."""
    cell, positions, numbers, pbc = content
    check_periodic([bool(one) for one in np.broadcast_to(np.asarray(pbc), (3,))])
    try:
        lattice = np.array(cell, dtype=np.float64).reshape(3, 3)
        cartesian = np.array(positions, dtype=np.float64).reshape(-1, 3)
    except ValueError as error:
        raise CrystalError("unparsable", f"not the arrays of a structure: {error}") from error
    check_lattice(lattice)
    return make_crystal(lattice, np.linalg.solve(lattice.T, cartesian.T).T, check_numbers(np.asarray(numbers)))
