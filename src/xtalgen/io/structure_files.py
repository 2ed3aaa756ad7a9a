"""The one list of formats: splits a file into entries, parses an entry or a text into a crystal.

Files are read as streams, so that the entries of a large one need not be in memory together; the formats with a `limit`
cannot be. Splitting is cheap and raises ValueError when the file as a whole is wrong; parsing is done per entry,
possibly in worker processes, and always returns a crystal with a status. A format is a function from the stream of a
file to its entries in `FORMATS`, and a function from the content of an entry to a crystal in `PARSERS`.
"""

import csv
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedIOBase, TextIOBase
from itertools import chain, islice
from pathlib import Path
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.io.cif import read_block_of_cif, read_cif, read_plain_cif
from xtalgen.io.cif_syntax import has_text_fields, iterate_blocks
from xtalgen.io.entries import MAX_BYTES as MAX_ARRAY_BYTES
from xtalgen.io.entries import CrystalError, Entry, explain_suffix, find_name
from xtalgen.io.extxyz import read_frame, split_frames
from xtalgen.io.npz import parse_arrays, read_arrays
from xtalgen.io.poscar import read_poscar, split_poscar
from xtalgen.io.pymatgen_json import read_json, read_structure, split_json, split_json_lines
from xtalgen.io.streams import NotTextError, decoded, opened, text_stream
from xtalgen.io.tensors import read_tensors
from xtalgen.structure.standard_cell import sort_atoms

# Guards against archives that expand excessively.
MAX_BYTES = 16 * 1024**3
MAX_WHOLE_BYTES = 512 * 1024**2  # of a file that is read as a whole, which takes some eight times as much memory
MAX_MEMBER_BYTES = 16 * 1024**2
COLUMN = "cif"  # of a CSV: the text of a CIF, a POSCAR or a pymatgen structure's JSON or Python form


@dataclass(frozen=True)
class Format:
    """How the files of a suffix are split: stream (of text, or of bytes if binary) and name of the file → entries.

    member: whether such files are read inside a zip archive, too; alone: only where it holds no other such files.
    limit: largest number of bytes of a format that is read as a whole; instead says what to do with more. newline:
    where lines end, as `open` takes it.
    """

    split: Callable[[Any, str], Iterable[Entry]]
    binary: bool = False
    member: bool = False
    alone: bool = False
    limit: int | None = None
    instead: str = "Split it into several files"
    newline: str | None = "\n"


def read_entries(path: Path, column: str = COLUMN) -> list[Entry]:
    """Returns the entries of a file in its order; see `iterate_entries`."""
    return list(iterate_entries(path, column))


def iterate_entries(path: Path, column: str = COLUMN) -> Iterator[Entry]:
    """Yields the entries of a file in its order. Raises ValueError, naming the remedy, when the file is wrong.

    column: of a CSV, the one that holds the crystals.
    """
    suffix = check_suffix(path)
    chosen = FORMATS[suffix.removesuffix(".gz")]
    limit = min(MAX_BYTES, chosen.limit or MAX_BYTES)
    if path.stat().st_size > limit:
        why = f" ({suffix} is read as a whole)" if limit < MAX_BYTES else ""
        raise ValueError(f"{path}: larger than {limit} bytes{why}. {chosen.instead}.")
    split: Callable[[Any, str], Iterable[Entry]] = chosen.split
    if chosen.split is _split_csv:
        split = partial(_split_csv, column=column)
    none = True
    with opened(path, limit, chosen.instead) as (raw, encoding):
        try:
            stream = raw if chosen.binary else text_stream(raw, encoding, chosen.newline)
            for entry in split(stream, path.name):
                none = False
                yield entry
        except NotTextError as error:
            raise ValueError(f"{path}: {error} Write it again.") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    if none:
        raise ValueError(f"{path}: no crystal found. Check that it is a {suffix} file that holds some.")


def check_suffix(path: Path) -> str:
    """Returns the suffix of a structure file, such as ".json.gz". Raises ValueError for an unknown suffix."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ValueError(explain_suffix(path, (*FORMATS, "and text files with .gz behind")))
    return suffix


def parse_entry(entry: Entry) -> Crystal:
    """Returns the crystal of an entry, with an empty id; a broken one has a status and `info["error"]`.

    `info` has the keys source_name, error, warning (assumptions) and energy_given.
    """
    info = {"source_name": entry.name, "error": None, "warning": entry.warning, "energy_given": _number(entry.energy)}
    try:
        crystal = PARSERS[entry.kind](entry.content)
    except CrystalError as error:
        return Crystal(id="", status=error.status, info={**info, "error": str(error)})
    except Exception as error:  # noqa: BLE001 - a broken crystal is data, whatever a parser raises
        return Crystal(id="", status="unparsable", info={**info, "error": f"{type(error).__name__}: {error}"})
    warning = "; ".join(filter(None, (entry.warning, crystal.info.get("warning")))) or None
    return replace(crystal, info={**info, **crystal.info, "warning": warning})


def read_crystal(text: str) -> Crystal:
    """Returns the crystal that a text describes, without an id: CIF, POSCAR or a pymatgen structure as JSON.

    The cell is that of the text; atoms are ordered by electronegativity, then as in the text. Assumptions are listed in
    `info["warning"]`. Raises CrystalError with status unparsable, disordered, unknown_element or bad_lattice.
    """
    if not text.strip():
        raise CrystalError("unparsable", "there is no text for this crystal")
    if "_cell_" in text or "_atom_site" in text or "_cell." in text or text.lstrip().lower().startswith("data_"):
        return read_cif(text)
    crystal = read_json(text) if text.lstrip().startswith("{") else read_poscar(text)
    order = sort_atoms(crystal.atomic_numbers)
    return replace(crystal, frac_coords=crystal.frac_coords[order], atomic_numbers=crystal.atomic_numbers[order])


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _split_cif(stream: TextIOBase, name: str) -> Iterator[Entry]:
    """Yields one entry per data block that describes a crystal; a block's label counts where there are several."""
    fields = has_text_fields(stream)
    stream.seek(0)
    blocks = iterate_blocks((line.rstrip("\n") for line in stream), fields)
    first = list(islice(blocks, 2))
    for label, block in chain(first, blocks):
        yield _cif_entry(f"{name}:{label}" if len(first) > 1 else name, block)


def _cif_entry(name: str, block: str) -> Entry:
    if len(block) > MAX_MEMBER_BYTES:
        return Entry(name, "broken", f"longer than {MAX_MEMBER_BYTES} characters")
    return Entry(name, "cif", block)


def _read_block(text: str) -> Crystal:
    return read_plain_cif(text) or read_block_of_cif(text)


def _split_npz(stream: BufferedIOBase, name: str) -> Iterator[Entry]:
    return read_arrays(stream.read(), name)


def _split_tensors(stream: BufferedIOBase, name: str) -> Iterable[Entry]:
    return read_tensors(stream.read(), name)


def _split_zip(stream: BufferedIOBase, name: str) -> Iterator[Entry]:
    del name
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter for versions that zipfile cannot read
        raise ValueError(f"not a readable zip archive ({error}). Pack the CIFs again.") from error
    members = [(member, found) for member in archive.infolist() if (found := _member_format(member))]
    if not all(found.alone for _, found in members):
        # JSON beside CIFs says something about them; alone it holds the crystals.
        members = [(member, found) for member, found in members if not found.alone]
    # zipfile never reads more of a member than its stated size, so the stated sizes suffice.
    if sum(min(member.file_size, MAX_MEMBER_BYTES) for member, _ in members) > MAX_BYTES:
        raise ValueError(f"unpacks to more than {MAX_BYTES} bytes. Split it into several files.")
    for member, found in members:
        if member.file_size > MAX_MEMBER_BYTES:
            yield Entry(member.filename, "broken", f"unpacks to more than {MAX_MEMBER_BYTES} bytes")
            continue
        try:
            text = io.StringIO(decoded(archive.read(member)), newline=found.newline)
            entries = list(found.split(text, member.filename))
        except Exception as error:  # noqa: BLE001 - encrypted, truncated, no text, or of an unknown compression
            yield Entry(member.filename, "broken", f"{type(error).__name__}: {error}")
            continue
        # Frames are counted separately in each member.
        yield from (_within(entry, member.filename) for entry in entries)


def _within(entry: Entry, member: str) -> Entry:
    return entry if entry.name.startswith(member) else replace(entry, name=f"{member}:{entry.name}")


def _member_format(member: zipfile.ZipInfo) -> Format | None:
    hidden = member.filename.startswith("__MACOSX/") or Path(member.filename).name.startswith(".")
    if member.is_dir() or hidden:
        return None
    found = FORMATS.get(Path(member.filename).suffix.lower())
    return found if found and found.member else None


def _split_csv(stream: TextIOBase, name: str, column: str = COLUMN) -> Iterator[Entry]:
    del name
    wanted = column.strip().lower()
    csv.field_size_limit(MAX_MEMBER_BYTES)
    rows = csv.DictReader(stream, strict=True)
    columns = [(head or "").strip() for head in rows.fieldnames or []]
    if [head.lower() for head in columns].count(wanted) != 1:
        there = ", ".join(repr(head) if head else "'' (no name)" for head in columns)
        twice = "several columns" if wanted in map(str.lower, columns) else "no column"
        raise ValueError(f"{twice} `{column}`; there are {there}. Name the column of the CIFs `{column}`.")
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
        name = find_name(lowered) or f"row {index}"
        yield from _split_cell(lowered.get(wanted) or "", name, lowered.get("energy"), column)
        index += 1


def _split_cell(cell: str, name: str, energy: Any, column: str) -> list[Entry]:
    """Returns the entries of a cell of a CSV: one, or one per data block of a CIF."""
    if not cell.strip():
        return [Entry(name, "broken", f"the cell `{column}` is empty")]
    if cell.lower().count("data_") > 1:
        entries = list(_split_cif(io.StringIO(cell, newline=None), name))
        if len(entries) > 1:
            return [replace(entry, energy=energy) for entry in entries]
    return [Entry(name, "text", cell, energy)]


def _parse_broken(message: str) -> Crystal:
    raise CrystalError("unparsable", message)


def _parse_text(text: str) -> Crystal:
    return read_crystal(text.replace("\\n", "\n") if "\n" not in text else text)


FORMATS: dict[str, Format] = {
    ".extxyz": Format(split_frames, member=True),
    ".xyz": Format(split_frames, member=True),
    ".cif": Format(_split_cif, member=True, newline=None),
    ".zip": Format(_split_zip, binary=True),
    ".csv": Format(_split_csv, newline=""),
    ".json": Format(
        split_json, member=True, alone=True, limit=MAX_WHOLE_BYTES, instead="Write one structure per line (.jsonl)"
    ),
    ".jsonl": Format(split_json_lines),
    ".npz": Format(_split_npz, binary=True, limit=MAX_ARRAY_BYTES),
    ".pt": Format(_split_tensors, binary=True, limit=MAX_ARRAY_BYTES),
    ".vasp": Format(split_poscar, member=True, limit=MAX_WHOLE_BYTES),
    ".poscar": Format(split_poscar, member=True, limit=MAX_WHOLE_BYTES),
}
SUFFIXES = (*FORMATS, *(f"{suffix}.gz" for suffix, found in FORMATS.items() if not found.binary))
PARSERS: dict[str, Callable[[Any], Crystal]] = {
    "extxyz": read_frame,
    "cif": _read_block,
    "text": _parse_text,
    "json": read_structure,
    "arrays": parse_arrays,
    "poscar": read_poscar,
    "broken": _parse_broken,
}
