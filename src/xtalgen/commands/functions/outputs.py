"""Writes crystals in the formats that people open; the suffix of the file decides."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.io.writers.encoding import to_cif
from xtalgen.io.writers.registry import FORMS, USUAL
from xtalgen.io.writers.symmetric_cif import SYMPREC
from xtalgen.runtime.atomic import write_text

Facts = Sequence[Mapping[str, Any]]  # what is known of each crystal, by column


def check_output(out: Path) -> None:
    """Raises ValueError, listing the formats, for a suffix that cannot be written, or OSError for a folder.

    Imports and writes nothing.
    """
    if _suffix(out) is None:
        raise ValueError(f"{out}: unknown suffix; crystals are written as {', '.join(SUFFIXES)}. Rename the output.")
    if out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder. Give the name of a file.")


def write_crystals(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    """Writes crystals to a file, atomically, in the format of its suffix.

    Forms of structures hold the crystals that are ok; tables (.csv, .parquet) and the page have a row for each, with
    all that is known of it (facts: its columns). The same crystals give the same bytes.
    """
    OWN.get(out.suffix.lower(), _write_form)(crystals, out, facts)


def _write_form(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    """Writes crystals in a form of `io.writers`, under their ids, with the energies that relaxation gave."""
    del facts  # these forms hold structures
    form = FORMS[USUAL[str(_suffix(out))]]
    rows = [
        replace(row, info={"source_name": row.id, "energy_given": row.info.get("energy"), "error": row.status})
        for row in crystals
        if row.ok or form.failed
    ]
    form.write(((row, form.encode(row, SYMPREC) if row.ok else None) for row in rows), out)


def _write_csv(crystals: Sequence[Crystal], out: Path, facts: Facts) -> None:
    texts = [to_cif(crystal) if crystal.ok else None for crystal in crystals]
    rows = [{**fact, "cif": cif} for fact, cif in zip(facts, texts, strict=True)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
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

    from xtalgen.commands.functions.exploring import write_page

    with tempfile.TemporaryDirectory(prefix="xtalgen-") as folder:
        table = Path(folder) / "crystals.parquet"
        _write_parquet(crystals, table, facts)
        write_page(table, out)


def _suffix(out: Path) -> str | None:
    """Returns the longest suffix of a file that can be written, such as ".jsonl.gz"; None where there is none."""
    fitting = [suffix for suffix in SUFFIXES if out.name.lower().endswith(suffix)]
    return max(fitting, key=len) if fitting else None


# Tables and the page hold all that is known of each crystal; the other forms are those of `xtalgen convert`.
OWN: dict[str, Callable[[Sequence[Crystal], Path, Facts], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".html": _write_page,
}
SUFFIXES = tuple(sorted({*USUAL, *OWN} - {".csv.gz"}))
