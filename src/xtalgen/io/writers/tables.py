"""Tables: CSV, Parquet and JSON lines, our own and those of benchmarks. A row without a crystal keeps its place."""

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa

from xtalgen.crystals import Crystal, to_table
from xtalgen.io.shards import ROWS, write_batches
from xtalgen.io.writers.encoding import energy_of, name_of
from xtalgen.runtime.atomic import unfinished

COLUMNS = {"source_name": pa.string(), "error": pa.string(), "warning": pa.string(), "energy_given": pa.float64()}


def write_parquet(rows: Iterable[tuple[Crystal, None]], out: Path) -> None:
    """Writes a crystal table of this program: lattice, fractional coordinates and atomic numbers to the last digit."""
    remaining = iter(rows)
    batches = iter(lambda: [crystal for crystal, _ in islice(remaining, ROWS)], [])
    write_batches((to_table(batch, COLUMNS) for batch in batches), out)


def write_csv(rows: Iterable[tuple[Crystal, str | None]], out: Path) -> None:
    """Writes a CSV with `material_id` and `cif`, as in CDVAE's data sets, energy (eV), status and error."""
    lines = ([name_of(row), cif or "", energy_of(row), row.status, row.info.get("error")] for row, cif in rows)
    _write_lines(["material_id", "cif", "energy", "status", "error"], lines, out)


def write_lemat(rows: Iterable[tuple[Crystal, str | None]], out: Path) -> None:
    """Writes the CSV that LeMat-GenBench reads (`run_benchmarks.py --csv`): the JSON of pymatgen in `structure`.

    LeMat-GenBench skips rows without a structure.
    """
    _write_lines(["material_id", "structure"], ([name_of(row), text or ""] for row, text in rows), out)


def write_atombench(rows: Iterable[tuple[Crystal, tuple[str, str]]], out: Path) -> None:
    """Writes the CSV of AtomBench, `id,target,prediction`: POSCARs with their line ends written as backslash and n.

    A target without a prediction has an empty one.
    """
    lines = ([name_of(row), *(text.replace("\n", "\\n") for text in texts)] for row, texts in rows)
    _write_lines(["id", "target", "prediction"], lines, out)


def write_jsonl(rows: Iterable[tuple[Crystal, dict[str, Any] | None]], out: Path) -> None:
    """Writes a record per line: material_id, structure (pymatgen), energy (eV), status, error."""
    _write_records(
        (
            {
                "material_id": name_of(row),
                "structure": structure,
                "energy": energy_of(row),
                "status": row.status,
                "error": row.info.get("error"),
            }
            for row, structure in rows
        ),
        out,
    )


def write_matbench(rows: Iterable[tuple[Crystal, dict[str, Any] | None]], out: Path) -> None:
    """Writes the relaxed structures that matbench-discovery reads: lines of material_id and structure (pymatgen).

    A row without a crystal has the structure null, which it takes for a failed relaxation.
    """
    _write_records(({"material_id": name_of(row), "structure": structure} for row, structure in rows), out)


def _write_lines(head: Sequence[str], lines: Iterable[Sequence[Any]], out: Path) -> None:
    with _text(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(lines)


def _write_records(records: Iterable[dict[str, Any]], out: Path) -> None:
    with _text(out) as file:
        file.writelines(f"{json.dumps(record)}\n" for record in records)


@contextlib.contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """Yields a text file, packed with gzip where its name ends so; the same content gives the same bytes."""
    with unfinished(path) as part, part.open("wb") as plain, contextlib.ExitStack() as stack:
        if path.name.lower().endswith(".gz"):
            packed = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0))
            yield stack.enter_context(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
        else:
            yield stack.enter_context(io.TextIOWrapper(plain, encoding="utf-8", newline=""))
