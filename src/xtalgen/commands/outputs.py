"""Writes crystals in the formats that people open; the suffix of the file decides."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.runtime.atomic import write_text

Facts = Sequence[Mapping[str, Any]]  # what is known of each crystal, by column


def check_output(out: Path) -> None:
    """Raises ValueError, listing the formats, for a suffix that cannot be written, or OSError for a folder.

    Imports and writes nothing.
    """
    if out.suffix.lower() not in FORMATS:
        raise ValueError(f"{out}: unknown suffix; crystals are written as {', '.join(FORMATS)}. Rename the output.")
    if out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder. Give the name of a file.")


def write_crystals(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    """Writes crystals to a file, atomically, in the format of its suffix.

    Formats of structures hold those with a usable geometry; tables (.csv, .parquet) and the page have a row of every
    one. facts: columns of each crystal. The same crystals give the same bytes.
    """
    FORMATS[out.suffix.lower()](crystals, out, facts)


def _write_zip(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    from xtalgen.io.zip_files import write_zip

    texts = _cifs(crystals)
    files = {
        f"{re.sub(r'[^A-Za-z0-9._-]', '_', fact['id'])}-{fact['formula']}.cif": text
        for fact, text in zip(facts, texts, strict=True)
        if text
    }
    write_zip({"crystals.csv": _csv(facts), **files}, out)


def _write_cif(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    texts = zip(facts, _cifs(crystals), strict=True)
    write_text(out, "\n".join(re.sub(r"(?m)^data_.*$", f"data_{fact['id']}", text) for fact, text in texts if text))


def _write_csv(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    texts = zip(facts, _cifs(crystals), strict=True)
    write_text(out, _csv([{**fact, "cif": text} for fact, text in texts]))


def _write_extxyz(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    from ase import Atoms
    from ase.io import write

    from xtalgen.structure.geometry import usable

    frames = []
    for crystal, fact in zip(crystals, facts, strict=True):
        if usable(crystal):
            atoms = Atoms(crystal.atomic_numbers, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
            atoms.info = {name: value for name, value in fact.items() if isinstance(value, str | int | float)}
            frames.append(atoms)
    text = io.StringIO()
    write(text, frames, format="extxyz")
    write_text(out, text.getvalue())


def _write_parquet(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    import pyarrow as pa

    from xtalgen.crystals import GEOMETRY, to_table, write_table

    described = pa.Table.from_pylist([dict(fact) for fact in facts])
    columns = {field.name: field.type for field in described.schema if field.name not in GEOMETRY.names}
    rows = [
        Crystal(row.id, row.status, row.lattice, row.frac_coords, row.atomic_numbers, fact)
        for row, fact in zip(crystals, facts, strict=True)
    ]
    write_table(to_table(rows, columns), out)


def _write_page(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    import tempfile

    from xtalgen.explorer.crystal_sets import Files
    from xtalgen.explorer.projection import UmapConfig
    from xtalgen.stages.explorer import Options, write_explorer

    with tempfile.TemporaryDirectory(prefix="xtalgen-") as folder:
        table = Path(folder) / "crystals.parquet"
        _write_parquet(crystals, table, facts)
        sets = [Files(out.stem, table)]
        write_explorer(sets, [], options=Options(out.stem), umap=UmapConfig(), cache=None, out=out)


def _cifs(crystals: Sequence[Crystal]) -> list[str | None]:
    """Returns the CIF of each crystal, its cell without symmetry; None where there is no usable geometry."""
    from pymatgen.io.cif import CifWriter

    from xtalgen.structure.geometry import usable
    from xtalgen.structure.pymatgen import to_structure

    return [str(CifWriter(to_structure(crystal))) if usable(crystal) else None for crystal in crystals]


def _csv(rows: Facts) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


FORMATS: dict[str, Callable[[Sequence[Crystal], Path, Facts], None]] = {
    ".zip": _write_zip,
    ".cif": _write_cif,
    ".extxyz": _write_extxyz,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".html": _write_page,
}
