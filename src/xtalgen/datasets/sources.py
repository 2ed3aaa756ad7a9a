"""Files that hold the crystals of a split: CSV with a `cif` column, or JSON of crystals by id, also compressed."""

import csv
import gzip
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtalgen.io.entries import MAX_BYTES

KINDS = (".csv", ".json")
COMPRESSIONS = ("", ".gz", ".zip")
SHARED_FILE = "structures"  # one file for all splits: {split: {id: text}}
REQUIRED = ("material_id", "cif")
LONGEST_CELL = 2**31 - 1


class SourceError(ValueError):
    """A file is wrong as a whole; the message names it, the place and the remedy."""


@dataclass(frozen=True)
class Record:
    """One row of a source: its id, the text of its crystal, and its further columns, unparsed.

    The text is a CIF, a POSCAR or the JSON of a pymatgen structure.
    """

    id: str
    text: str
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """The rows of one split and what identifies their file.

    kind: ".csv", ".json" or "embedded"; sha256: checksum of the file as stored; git_blob_id: of its decompressed
    content; rows_sha256: see `rows_sha256`.
    """

    path: Path
    kind: str
    records: list[Record]
    sha256: str
    git_blob_id: str
    rows_sha256: str


def find_source(place: Path, split: str) -> Path:
    """Returns the file of a split: `place` itself, or the file in the folder `place` that is named after the split.

    Raises SourceError naming what was looked for and what there is.
    """
    if place.is_file():
        return place
    if not place.is_dir():
        raise SourceError(
            f"{place}: there is no such file or folder. Give as `source` a file or a folder that holds one."
        )
    wanted = [f"{stem}{kind}{end}" for stem in (split, SHARED_FILE) for kind in KINDS for end in COMPRESSIONS]
    for name in wanted:
        if (place / name).is_file():
            return place / name
    there = ", ".join(sorted(path.name for path in place.iterdir())) or "nothing"
    raise SourceError(
        f"{place}: no file for the split {split!r}. Looked for {', '.join(wanted[:3])}, {SHARED_FILE}.json.zip and the "
        f"like; the folder holds {there}. Name the file {split}.csv, or give the file itself as `source`."
    )


def find_copy(root: Path, dataset: str, split: str) -> Path | None:
    """Returns the user's copy of a split in the folder of all data sets: `root/DATASET/SPLIT.csv` and the like."""
    try:
        return find_source(root / dataset, split)
    except SourceError:
        return None


def read_source(path: Path, split: str) -> Source:
    """Returns the rows of a file. Raises SourceError when the file is damaged, lacks a column or repeats an id."""
    kind = next((kind for kind in KINDS for end in COMPRESSIONS if path.name.lower().endswith(kind + end)), None)
    if kind is None:
        raise SourceError(
            f"{path}: the name ends neither in .csv nor in .json (.gz, .zip). Rename or convert the file."
        )
    content = _decompress(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8, or fetch it again."
        ) from error
    records = _read_csv(text, path) if kind == ".csv" else _read_json(text, path, split)
    if not records:
        raise SourceError(f"{path}: the split {split!r} is empty. Give a file with at least one crystal.")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Source(path, kind, records, sha256, git_blob_id(content), rows_sha256(records))


def rows_sha256(records: list[Record]) -> str:
    """Returns the sha256 sum of the ids and texts of the rows, in order: the same when other columns differ."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(f"{record.id}\0{record.text}\0".encode())
    return digest.hexdigest()


def git_blob_id(content: bytes) -> str:
    """Returns the id that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _decompress(path: Path) -> bytes:
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as file:
                return _read_bounded(file, path)
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
                if len(names) != 1:
                    raise SourceError(
                        f"{path}: holds {len(names)} files, not one. Zip the one file of the split alone."
                    )
                with archive.open(names[0]) as file:
                    return _read_bounded(file, path)
    except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: cut off or damaged ({error}). Fetch or copy it again.") from error
    return path.read_bytes()


def _read_bounded(file: Any, path: Path) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SourceError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes. Give the unpacked file, or split it.")
    return content


def _read_csv(text: str, path: Path) -> list[Record]:
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[Record] = []
    rows_of_ids: dict[str, int] = {}
    row = 0
    try:
        columns = next(reader, [])
        _check_columns(columns, path)
        for row, cells in enumerate((cells for cells in reader if cells), start=1):
            if len(cells) != len(columns):
                raise SourceError(
                    f"{path}: row {row} has {len(cells)} of {len(columns)} columns, so the file is cut off or damaged "
                    f"there. Fetch or copy it again."
                )
            values = dict(zip(columns, cells, strict=True))
            identifier, cif = (values.pop(name) for name in REQUIRED)
            _check_id(identifier, row, rows_of_ids, path)
            records.append(Record(identifier, cif, values))
    except csv.Error as error:
        raise SourceError(
            f"{path}: cut off or damaged after row {row} ({error}). Fetch or copy it again; a text of several lines "
            f"must be in double quotes."
        ) from error
    return records


def _check_columns(columns: list[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        found = ", ".join(name or "(no name)" for name in columns) or "none"
        raise SourceError(
            f"{path}: no column {missing[0]!r}; the columns are {found}. Name the column of ids material_id and the "
            f"column of CIF texts cif."
        )
    repeated = [name for name in columns if columns.count(name) > 1]
    if repeated:
        raise SourceError(f"{path}: the column {repeated[0]!r} occurs twice. Keep one of them.")


def _check_id(identifier: str, row: int, rows_of_ids: dict[str, int], path: Path) -> None:
    if not identifier:
        raise SourceError(f"{path}: row {row} has no material_id. Give every crystal an id of its own.")
    first = rows_of_ids.setdefault(identifier, row)
    if first != row:
        raise SourceError(
            f"{path}: rows {first} and {row} have the same material_id {identifier!r}. Give every crystal an id of its "
            f"own (rows are counted from 1, without the header)."
        )


def _read_json(text: str, path: Path, split: str) -> list[Record]:
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except json.JSONDecodeError as error:
        raise SourceError(f"{path}: not whole JSON ({error}). Fetch or copy it again.") from error
    if isinstance(content, dict) and content and all(_is_split(value) for value in content.values()):
        if split not in content:
            raise SourceError(f"{path}: no split {split!r}; there are {', '.join(content)}. Ask for one of these.")
        content = content[split]
    if not isinstance(content, dict):
        raise SourceError(f"{path}: not of the form {{id: text}} or {{split: {{id: text}}}}. Convert the file.")
    return [Record(identifier, _text(identifier, crystal, path), {}) for identifier, crystal in content.items()]


def _is_split(value: Any) -> bool:
    return isinstance(value, dict) and "sites" not in value


def _text(identifier: str, crystal: Any, path: Path) -> str:
    if isinstance(crystal, dict):  # a pymatgen structure
        return json.dumps(crystal)
    if not isinstance(crystal, str):
        raise SourceError(
            f"{path}: the entry {identifier!r} is no crystal. Give a CIF or POSCAR text or a pymatgen structure for "
            f"each id."
        )
    return crystal.replace("\\n", "\n")  # the published files contain line breaks as the two characters \ and n


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for row, (key, value) in enumerate(pairs, start=1):
        if key in entries:
            first = list(entries).index(key) + 1
            raise SourceError(
                f"{path}: entries {first} and {row} have the same id {key!r}. Give every crystal an id of its own."
            )
        entries[key] = value
    return entries
