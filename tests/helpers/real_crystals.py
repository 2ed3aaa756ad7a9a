"""Real crystals for tests: a few embedded ones, and MP-20 where it lies beside the repository."""

import csv
import functools
import gzip
from dataclasses import replace
from pathlib import Path

from xtalgen.crystals import Crystal
from xtalgen.datasets.embedded import all_records
from xtalgen.io.structure_files import read_crystal
from xtalgen.structure.standard_cell import standardise
from xtalgen.structure.wyckoff import describe


def crystal(identifier: str, text: str) -> Crystal:
    """Returns the crystal of a CIF or POSCAR text as the data stage would."""
    return replace(standardise(read_crystal(text)), id=identifier)


@functools.cache
def embedded(n: int) -> list[Crystal]:
    """Returns n of the 250 embedded crystals, spread over the library."""
    records = all_records()
    return [crystal(record.id, record.text) for record in records[:: len(records) // n][:n]]


@functools.cache
def described(n: int) -> list[Crystal]:
    """Returns n of the embedded crystals with the column `wyckoff`."""
    found = [replace(one, info={"wyckoff": describe(one)}) for one in embedded(n)]
    return [one for one in found if one.info["wyckoff"]]


def mp_20(folder: Path, n: int, largest: int = 20) -> list[Crystal]:
    """Returns the first n crystals of MP-20's validation split with at most `largest` atoms."""
    found: list[Crystal] = []
    with gzip.open(folder / "mp_20" / "val.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            made = crystal(row["material_id"], row["cif"])
            if made.n_atoms <= largest:
                found.append(made)
            if len(found) == n:
                break
    return found
