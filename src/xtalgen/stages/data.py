"""Stage `data`: reads a published, embedded or user's data set into a table of standard cells, one row per crystal."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal, to_table, write_table
from xtalgen.datasets import registry as datasets
from xtalgen.datasets.embedded import read_embedded
from xtalgen.datasets.registry import group_of
from xtalgen.datasets.sources import Record, Source, SourceError, find_source, read_source, rows_sha256
from xtalgen.io.entries import CrystalError
from xtalgen.io.structure_files import read_crystal
from xtalgen.runtime import parallel
from xtalgen.runtime.download import fetch
from xtalgen.structure.pymatgen import reduced_formula
from xtalgen.structure.standard_cell import standardise

log = logging.getLogger(__name__)

COLUMNS = {
    "formula": pa.string(),  # reduced
    "e_form_per_atom": pa.float64(),  # eV/atom
    "band_gap": pa.float64(),  # eV
    "e_above_hull": pa.float64(),  # eV/atom
    "spg_num": pa.int16(),
    "error": pa.string(),  # why a row is not ok, or which property could not be read
    "warning": pa.string(),  # assumptions of the reader, such as the setting of a space group
}
# Column names of each property in the files of known data sets; the first one present is used.
PROPERTIES = {
    "e_form_per_atom": ("e_form_per_atom", "formation_energy_per_atom"),
    "band_gap": ("band_gap", "ind_gap"),
    "e_above_hull": ("e_above_hull", "energy_above_hull"),
    "spg_num": ("spg_num", "spacegroup.number"),
}
FORMULA = "pretty_formula"  # reduced; grouped data sets are split by it
ABSENT = {"", "nan", "none", "null"}
SPACE_GROUPS = 230
CHUNK = 64  # rows per task: large enough to hide the overhead of a task, small enough to balance the load
ROW_SECONDS = 60.0


def prepare_data(
    dataset: str,
    split: str,
    *,
    source: Path | None,
    out: Path,
    workers: int,
    limit: int | None,
    seed: int,
    downloads: Path,
) -> None:
    """Writes the crystal table of one split to `out`.

    source: a file, or a folder that holds the split's file; None for the embedded or the published file, which is kept
    under `downloads`. limit: take a random subset of this many rows, drawn with `seed`. Rows that cannot be used keep
    their place with a status and an error text. Raises SourceError or DownloadError when there is no usable file.
    """
    read = _read(dataset, split, source, downloads)
    published, caveat = datasets.compare_with_published(
        dataset,
        split,
        n_crystals=len(read.records),
        kind=read.kind,
        git_blob_id=read.git_blob_id,
        rows_sha256=read.rows_sha256,
    )
    records = choose_records(read.records, limit, seed)
    if len(records) < len(read.records):
        subset = f"{dataset} {split}: random {len(records):,} of {len(read.records):,} crystals (seed {seed})"
        caveat = datasets.join_caveats(caveat, subset)
    crystals = parse_records(records, workers=workers, label=f"{dataset} {split}")
    _report(f"{dataset} {split}", crystals, caveat)
    write_table(
        to_table(crystals, COLUMNS),
        out,
        dataset=dataset,
        split=split,
        source=read.path.name,
        source_sha256=read.sha256,
        published=published,
        caveat=caveat,
    )


def choose_records(records: Sequence[Record], limit: int | None, seed: int) -> list[Record]:
    """Returns a random subset of `limit` rows in their order, all rows for None. Raises SourceError below 1."""
    if limit is None:
        return list(records)
    if limit < 1:
        raise SourceError(f"limit: {limit} is below 1. Ask for at least one row, or omit the limit.")
    chosen = np.random.default_rng(seed).permutation(len(records))[:limit]
    return [records[i] for i in sorted(chosen.tolist())]


def parse_records(records: Sequence[Record], *, workers: int, label: str = "parse") -> list[Crystal]:
    """Returns one crystal per row, in order, failures included.

    With several workers, a row that hangs or kills its process fails alone. With one worker the rows are parsed in this
    process without a time limit.
    """
    chunks = [list(records[start : start + CHUNK]) for start in range(0, len(records), CHUNK)]
    timeout = None if workers == 1 else ROW_SECONDS * 2
    crystals: list[Crystal | None] = []
    results = parallel.map_items(parse_chunk, chunks, workers=workers, timeout=timeout, label=f"{label} (by {CHUNK})")
    for chunk, result in zip(chunks, results, strict=True):
        crystals += [None] * len(chunk) if isinstance(result, parallel.Failure) else result
    again = [i for i, crystal in enumerate(crystals) if crystal is None]
    if again:
        timeout = None if workers == 1 else ROW_SECONDS
        items = [records[i] for i in again]
        results = parallel.map_items(parse_record, items, workers=workers, timeout=timeout, label=f"{label} (again)")
        for i, result in zip(again, results, strict=True):
            crystals[i] = _failed(records[i], result) if isinstance(result, parallel.Failure) else result
    return [crystal for crystal in crystals if crystal is not None]


def parse_chunk(records: Sequence[Record]) -> list[Crystal]:
    """Returns `parse_record` of each row: the task of a worker process."""
    return [parse_record(record) for record in records]


def parse_record(record: Record) -> Crystal:
    """Returns the crystal of a row: its standard cell (`standardise`) and the columns of `COLUMNS`.

    Bad content never raises: a text that gives no crystal gets a status and null geometry, a property that is not a
    number becomes null, and the column `error` says why.
    """
    properties, errors = read_properties(record.properties)
    try:
        crystal = _standard_crystal(record.text)
    except CrystalError as error:
        info = {**properties, "error": "; ".join([error.message, *errors])}
        return Crystal(record.id, status=error.status, info=info)
    info = {
        "formula": reduced_formula(crystal.atomic_numbers),
        **properties,
        "error": "; ".join(errors) or None,
        "warning": crystal.info.get("warning"),
    }
    return replace(crystal, id=record.id, info=info)


def _standard_crystal(text: str) -> Crystal:
    crystal = read_crystal(text)
    try:
        return standardise(crystal)
    except ValueError as error:
        raise CrystalError("bad_lattice", str(error)) from error


def read_properties(cells: Mapping[str, str]) -> tuple[dict[str, float | int | None], list[str]]:
    """Returns the properties of a row by name, null where absent or unreadable, and a message per unreadable one."""
    values: dict[str, float | int | None] = {}
    errors = []
    for name, names in PROPERTIES.items():
        column = next((column for column in names if column in cells), None)
        text = "" if column is None else cells[column].strip()
        try:
            values[name] = None if text.lower() in ABSENT else _number(text, whole=name == "spg_num")
        except ValueError as error:
            values[name] = None
            errors.append(f"column {column}: {error}")
    return values, errors


def _number(text: str, *, whole: bool) -> float | int:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if not np.isfinite(number):
        raise ValueError(f"{text!r} is not finite")
    if not whole:
        return number
    if number != int(number) or not 1 <= number <= SPACE_GROUPS:
        raise ValueError(f"{text!r} is no space group from 1 to {SPACE_GROUPS}")
    return int(number)


def _read(dataset: str, split: str, source: Path | None, downloads: Path) -> Source:
    known = datasets.DATA_SETS.get(dataset)
    if known and known.grouped_from:
        return _read_grouped(known, split, source, downloads)
    if source is not None:
        return read_source(find_source(source, split), split)
    if known is None:
        raise SourceError(
            f"{dataset}: no published data set of this name; there are {', '.join(datasets.DATA_SETS)}. For your own "
            f"give --source FILE_OR_FOLDER: a CSV with the columns material_id and cif."
        )
    if known.embedded:
        return read_embedded(split)
    if split not in known.splits:
        raise SourceError(f"{dataset}: no split {split!r}; there are {', '.join(known.splits)}. Ask for one of these.")
    file = downloads / dataset / f"{split}.csv"
    fetch(known.address(split), file, git_blob_id=known.splits[split].git_blob_id)
    return read_source(file, split)


def _read_grouped(known: datasets.DataSet, split: str, source: Path | None, downloads: Path) -> Source:
    """Returns the rows of all splits of the base data set whose formula falls in this split."""
    base = datasets.DATA_SETS[known.grouped_from]
    if split not in base.splits:
        raise SourceError(
            f"{known.name}: no split {split!r}; there are {', '.join(base.splits)}. Ask for one of these."
        )
    parts = [_read(base.name, name, source, downloads) for name in base.splits]
    without = [part.path for part in parts if any(FORMULA not in record.properties for record in part.records)]
    if without:
        raise SourceError(
            f"{without[0]}: no column {FORMULA!r}, by which {known.name} is split. Give the published file."
        )
    kept = [record for part in parts for record in part.records if group_of(record.properties[FORMULA]) == split]
    sha256 = hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()
    return Source(parts[0].path.parent / known.name, parts[0].kind, kept, sha256, "", rows_sha256(kept))


def _failed(record: Record, failure: parallel.Failure) -> Crystal:
    properties, errors = read_properties(record.properties)
    message = f"{failure.kind}: {failure.message}"
    return Crystal(record.id, status="unparsable", info={**properties, "error": "; ".join([message, *errors])})


def _report(name: str, crystals: Sequence[Crystal], caveat: str) -> None:
    broken = [crystal for crystal in crystals if not crystal.ok]
    log.info("%s: %d crystals, %d ok", name, len(crystals), len(crystals) - len(broken))
    if caveat:
        log.info("%s", caveat)
    for crystal in broken[:5]:
        log.warning("%s: %s is %s: %s", name, crystal.id, crystal.status, crystal.info["error"])
    if len(broken) > 5:
        log.warning("%s: and %d more; see the columns status and error", name, len(broken) - 5)
