"""Tables with a crystal in each row: CSV, and Parquet of other programs or of this one."""

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from io import BufferedIOBase, TextIOBase
from pathlib import Path
from typing import Any

from xtalgen.io.entries import MAX_MEMBER_BYTES, Entry, find_name
from xtalgen.io.readers.cif_syntax import split_cif
from xtalgen.io.readers.optimade import is_optimade

# Columns that hold the crystals, the first one present: of CDVAE's data sets, pandas, LeMat-GenBench, AtomBench. Each
# cell is the text of a CIF, a POSCAR or a pymatgen structure, as JSON or in Python's form.
COLUMNS = (
    "cif", "structure", "lematstructs", "cif_string", "prediction", "relaxed_structure", "final_structure",
    "initial_structure", "poscar",
)  # fmt: skip
LISTED, LONGEST = 30, 50  # columns, and letters of each, that an error names
MAX_HEAD = 1 << 20  # characters of a CSV's first line
ROWS = 512  # of a Parquet file in memory at once


def split_csv(stream: TextIOBase, name: str, column: str | None = None) -> Iterator[Entry]:
    """Yields one entry per row, or per data block of its CIF.

    column: that of the crystals, in any case; None takes the first of `COLUMNS` that is there. Raises ValueError,
    listing the columns, when it is not there or is there several times.
    """
    del name
    csv.field_size_limit(MAX_MEMBER_BYTES)
    rows = csv.DictReader(stream, strict=True)
    wanted, warning = find_column([(head or "").strip() for head in rows.fieldnames or []], column)
    index = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            # After an unclosed quote the rest of the file is one field that cannot be separated.
            yield Entry(f"row {index}", "broken", f"line {rows.line_num}: {error}")
            return
        lowered = {(key or "").strip().lower(): value for key, value in row.items() if isinstance(key, str)}
        for entry in _row_entries(lowered, wanted, f"row {index}"):
            yield replace(entry, warning=warning)
        index += 1


def find_column(columns: Sequence[str], column: str | None) -> tuple[str, str | None]:
    """Returns the column of the crystals in lower case, and a warning where another one may have been meant.

    Raises ValueError, listing the columns, when it is not there or is there several times.
    """
    lowered = [head.lower() for head in columns]
    usual = [name for name in COLUMNS if name in lowered]
    wanted = column.strip().lower() if column else (usual or COLUMNS)[0]
    if lowered.count(wanted) != 1:
        there = ", ".join(repr(head[:LONGEST]) if head else "'' (no name)" for head in columns[:LISTED])
        there += f" and {len(columns) - LISTED:,} more" if len(columns) > LISTED else ""
        number = "several columns" if wanted in lowered else "no column"
        raise ValueError(
            f"{number} `{column or wanted}`; there are {there}. Name the column of the structures `{COLUMNS[0]}` or "
            f"`{COLUMNS[1]}`, or say which it is (--column of xtalgen score)."
        )
    if column or len(usual) == 1:
        return wanted, None
    return wanted, f"there are columns {' and '.join(usual)}: {wanted} was read"


def has_structures(file: Path) -> bool:
    """Whether a CSV or Parquet file has a usual column of structures. Reads its head alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if file.name.lower().endswith(".parquet"):
            columns = pq.read_schema(file).names
            return bool(set(COLUMNS) & set(map(str.lower, columns))) or is_optimade(columns) or "lattice" in columns
        with gzip.open(file, "rt") if file.name.lower().endswith(".gz") else file.open() as stream:
            return bool(set(COLUMNS) & {head.strip().lower() for head in next(csv.reader([stream.readline(MAX_HEAD)]))})
    except (OSError, ValueError, EOFError, StopIteration, csv.Error, pa.ArrowInvalid):
        return True  # the reader says what is wrong


def _row_entries(row: Mapping[str, Any], wanted: str, default: str) -> list[Entry]:
    """Returns the entries of a row: one, or one per data block of a CIF."""
    name, cell, energy = find_name(row) or default, row.get(wanted), row.get("energy")
    if isinstance(cell, dict):
        return [Entry(name, "json", cell, energy)]
    if cell is None or not str(cell).strip():
        return [Entry(name, "broken", f"the cell `{wanted}` is empty")]
    text = str(cell)
    if text.lower().count("data_") > 1:
        entries = list(split_cif(io.StringIO(text, newline=None), name))
        if len(entries) > 1:
            return [replace(entry, energy=energy) for entry in entries]
    return [Entry(name, "text", text, energy)]


def split_parquet(stream: BufferedIOBase, name: str, column: str | None = None) -> Iterator[Entry]:
    """Yields one entry per row of a Parquet file.

    Tables of this program keep status and reason of their rows. Others have the columns of a CSV, where a structure may
    also be a record, or the columns of OPTIMADE (`lattice_vectors`, `species_at_sites`, `cartesian_site_positions`).
    Raises ValueError when it is no Parquet file, or a column is not there.
    """
    del name
    import pyarrow as pa
    import pyarrow.parquet as pq

    from xtalgen.crystals import GEOMETRY

    try:
        file = pq.ParquetFile(stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"not a readable Parquet file ({error}). Write it again.") from error
    columns = file.schema_arrow.names
    if column is None and set(GEOMETRY.names) <= set(columns):
        yield from _own_rows(file)
        return
    flat = column is None and is_optimade(columns)
    wanted, warning = ("", None) if flat else find_column(columns, column)
    index = 0
    for batch in file.iter_batches(ROWS):
        for row in batch.to_pylist():
            lowered = {key.strip().lower(): value for key, value in row.items()}
            label = f"row {index}"
            if flat:
                yield Entry(find_name(row) or label, "json", row, row.get("energy"))
            else:
                yield from (replace(entry, warning=warning) for entry in _row_entries(lowered, wanted, label))
            index += 1


def _own_rows(file: Any) -> Iterator[Entry]:
    """Yields the rows of a crystal table of this program."""
    import pyarrow as pa

    from xtalgen.crystals import from_table

    for batch in file.iter_batches(ROWS):
        for crystal in from_table(pa.Table.from_batches([batch])):
            info = crystal.info
            energy = next((info[key] for key in ("energy_given", "energy") if info.get(key) is not None), None)
            name = str(info.get("source_name") or crystal.id)
            yield Entry(name, "crystal", crystal, energy, info.get("warning"))
