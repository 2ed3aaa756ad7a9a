"""The one list of formats: splits a file or folder into entries, parses an entry or a text into a crystal.

Files are read as streams, so that the entries of a large one need not be in memory together; the formats with a `limit`
cannot be. Splitting is cheap and raises ValueError when the file as a whole is wrong; parsing is done per entry,
possibly in worker processes, and always returns a crystal with a status. A format is a function from the stream of a
file to its entries in `FORMATS`, and a function from the content of an entry to a crystal in `PARSERS`.
"""

import gzip
import io
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.io.entries import MAX_BYTES as MAX_ARRAY_BYTES
from xtalgen.io.entries import MAX_MEMBER_BYTES, CrystalError, Entry, explain_suffix, finite_number
from xtalgen.io.readers.ase_files import parse_atoms, split_database, split_trajectory
from xtalgen.io.readers.cif import read_block_of_cif, read_cif, read_plain_cif
from xtalgen.io.readers.cif_syntax import split_cif
from xtalgen.io.readers.extxyz import read_frame, split_frames
from xtalgen.io.readers.npz import parse_arrays, read_arrays
from xtalgen.io.readers.poscar import read_poscar, split_poscar, split_xdatcar
from xtalgen.io.readers.pymatgen_json import read_json, read_structure, split_json, split_json_lines
from xtalgen.io.readers.tables import split_csv, split_parquet
from xtalgen.io.readers.tensors import read_tensors
from xtalgen.io.streams import NotTextError, Position, decoded, opened, text_stream
from xtalgen.structure.standard_cell import sort_atoms

# Guards against archives that expand excessively.
MAX_BYTES = 16 * 1024**3
MAX_WHOLE_BYTES = 512 * 1024**2  # of a file that is read as a whole, which takes some eight times as much memory
PROBE = 2 * 1024**2  # of the beginning of a large file
MAX_POSCAR_BYTES = 64 * 1024**2
# VASP's files have names in place of suffixes: POSCAR, CONTCAR.gz, POSCAR_12, Fe2O3.CONTCAR.
VASP = re.compile(r"(?:^|[._-])(poscar|contcar|xdatcar)(?:[._-][^.]*)?(?:\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Format:
    """How the files of a suffix are split: stream (of text, or of bytes if binary) and name of the file → entries.

    about: what the entries are; named: the name that is kept; energy: the one that is kept, "" for none. member:
    whether such files are read inside a zip archive, too; alone: only where it holds no other such files. limit: number
    of bytes up to which a format is read that is read as a whole; instead says what to do with more. newline: where
    lines end, as `open` takes it. columns: whether a column is to be chosen.
    """

    split: Callable[..., Iterable[Entry]]
    about: str
    named: str
    energy: str = ""
    binary: bool = False
    member: bool = False
    alone: bool = False
    limit: int | None = None
    instead: str = "Split it into several files"
    newline: str | None = "\n"
    columns: bool = False


def read_entries(path: Path, column: str | None = None) -> list[Entry]:
    """Returns the entries of a file in its order; see `iterate_entries`."""
    return list(iterate_entries(path, column))


def iterate_entries(path: Path, column: str | None = None, position: Position | None = None) -> Iterator[Entry]:
    """Yields the entries of a file in its order. Raises ValueError, naming the remedy, when the file is wrong.

    column: of a table, the one that holds the crystals; None takes the usual one. position is told how much of the file
    was read.
    """
    suffix = check_suffix(path)
    chosen = FORMATS[suffix]
    check_column(path, column)
    limit = min(MAX_BYTES, chosen.limit or MAX_BYTES)
    if path.stat().st_size > limit:
        why = f" ({suffix} is read as a whole)" if limit < MAX_BYTES else ""
        raise ValueError(f"{path}: larger than {limit} bytes{why}. {chosen.instead}.")
    split = partial(chosen.split, column=column) if chosen.columns else chosen.split
    none = True
    lines = chosen.limit is None
    if lines and not chosen.binary and path.stat().st_size > PROBE:
        _probe(path, split, chosen.newline)
    with opened(path, limit, chosen.instead, binary=chosen.binary, lines=lines, position=position) as (raw, encoding):
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


def _probe(path: Path, split: Callable[..., Iterable[Entry]], newline: str | None) -> None:
    """Raises the ValueError that a reader raises for the beginning of a large file, before the rest of it is read."""
    with suppress(OSError, EOFError, zlib.error, NotTextError):  # what these are about is told later
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            text = decoded(file.read(PROBE))
        try:
            deque(split(io.StringIO(text, newline=newline), path.name), maxlen=0)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def check_suffix(path: Path) -> str:
    """Returns the suffix of a structure file in `FORMATS`, such as ".json" for x.json.gz, or ".contcar" for CONTCAR.

    Raises ValueError for an unknown suffix.
    """
    suffix = find_suffix(path)
    if suffix is None:
        raise ValueError(explain_suffix(path, (*FORMATS, "POSCAR, CONTCAR, XDATCAR, and text files with .gz behind")))
    return suffix


def check_column(path: Path, column: str | None) -> None:
    """Raises ValueError where a column is asked for of a file that has none."""
    suffix = check_suffix(path)
    if column is not None and not FORMATS[suffix].columns:
        tables = " and ".join(name for name, form in FORMATS.items() if form.columns)
        raise ValueError(
            f"{path}: a {suffix} file has no column `{column}`; {tables} have some. "
            "Leave out --column of xtalgen score."
        )


def find_suffix(path: Path) -> str | None:
    """Returns the suffix of a structure file in `FORMATS`, None for an unknown one."""
    name = path.name.lower()
    packed = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix in FORMATS:
        return None if packed and FORMATS[suffix].binary else suffix
    match = VASP.search(path.name)
    return f".{match[1].lower()}" if match else None


def parse_entry(entry: Entry) -> Crystal:
    """Returns the crystal of an entry, with an empty id; a broken one has a status and `info["error"]`.

    `info` has the keys source_name, error, warning (assumptions) and energy_given.
    """
    energy = finite_number(entry.energy)
    info = {"source_name": entry.name, "error": None, "warning": entry.warning, "energy_given": energy}
    try:
        crystal = PARSERS[entry.kind](entry.content)
    except CrystalError as error:
        name = error.name or entry.name
        return Crystal(id="", status=error.status, info={**info, "source_name": name, "error": str(error)})
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


def _within(entry: Entry, file: str) -> Entry:
    """Returns an entry of one file of several, with the file's name before a name that only counts entries."""
    return entry if entry.name.startswith(file) else replace(entry, name=f"{file}:{entry.name}")


def describe_formats() -> str:
    """Returns the list of formats as a Markdown table."""
    rows = [
        f"| `{suffix}` | {form.about} | {form.named} | {form.energy or 'none'} |" for suffix, form in FORMATS.items()
    ]
    head = "| file | entries | name kept as `source_name` | energy kept as `energy_given` |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


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
        yield from (_within(entry, member.filename) for entry in entries)


def _member_format(member: zipfile.ZipInfo) -> Format | None:
    path = Path(member.filename)
    hidden = member.filename.startswith("__MACOSX/") or path.name.startswith(".")
    suffix = None if member.is_dir() or hidden or path.suffix.lower() == ".gz" else find_suffix(path)
    found = FORMATS[suffix] if suffix else None
    return found if found and found.member else None


def _parse_broken(message: str) -> Crystal:
    raise CrystalError("unparsable", message)


def _parse_text(text: str) -> Crystal:
    return read_crystal(text.replace("\\n", "\n") if "\n" not in text else text)


def _parse_crystal(crystal: Crystal) -> Crystal:
    """Returns the crystal of a row of this program's own tables."""
    if not crystal.ok:
        raise CrystalError(crystal.status, str(crystal.info.get("error") or f"its row says {crystal.status}"))
    return replace(crystal, info={})


RECORD = "`name`, `id`, `material_id`, … of the record"
ENERGY = "`energy` of the record"
FORMATS: dict[str, Format] = {
    ".extxyz": Format(
        split_frames, 'frames; each needs `Lattice="…"` in its second line',
        "`name`, `id`, `material_id`, … of the frame, else `frame 7`", "`energy`", member=True,
    ),
    ".xyz": Format(split_frames, "as `.extxyz`", "as `.extxyz`", "`energy`", member=True),
    ".cif": Format(split_cif, "data blocks that hold a cell or atoms", "file and block", member=True, newline=None),
    ".zip": Format(
        _split_zip, "members that are extxyz, CIF or files of VASP, in the archive's order; others are ignored. An "
        "archive without any holds its crystals as `.json`", "path inside the archive", binary=True,
    ),
    ".csv": Format(
        split_csv, "rows; in a column `cif`, `structure`, `LeMatStructs`, `cif_string` or `prediction`, or the one "
        "asked for, the text of a CIF (each of its blocks is an entry), a POSCAR or a pymatgen structure, as JSON or "
        "as Python prints its dictionary", "column `name`, `id`, `material_id`, …, else `row 7`", "column `energy`",
        newline="", columns=True,
    ),
    ".parquet": Format(
        split_parquet, "rows of a crystal table of xtalgen; else columns as in a `.csv`, where a structure may be a "
        "record, or those of OPTIMADE", "as `.csv`", "column `energy`", binary=True, columns=True,
    ),
    ".json": Format(
        split_json, "pymatgen structures: one, a list or dictionary of them, records with a key `structure`, "
        "`relaxed_structure` or `initial_structure`, `ComputedStructureEntry`s, a pandas frame in any orientation, "
        'also inside a wrapper such as `{"entries": […]}`; the answer of an OPTIMADE server', f"key, or {RECORD}",
        ENERGY, member=True, alone=True, limit=MAX_WHOLE_BYTES, instead="Write one structure per line (.jsonl)",
    ),
    ".jsonl": Format(
        split_json_lines, "lines, a structure or record each, of pymatgen or OPTIMADE", f"{RECORD}, else `line 7`",
        ENERGY,
    ),
    ".npz": Format(
        _split_npz, "the arrays that CDVAE, DiffCSP and FlowMM write: `frac_coords`, `atom_types` (atomic numbers), "
        "`num_atoms`, `lengths` and `angles` (or `lattice`), with an axis of evaluations in front or not",
        "`crystal 7`", binary=True, limit=MAX_ARRAY_BYTES,
    ),
    ".pt": Format(
        _split_tensors, "the same as tensors, as these models save them", "`crystal 7`", binary=True,
        limit=MAX_ARRAY_BYTES,
    ),
    ".traj": Format(
        split_trajectory, "frames of an ASE trajectory", "`name`, `id`, … of `info`, else `frame 7`",
        "that of the calculator", binary=True,
    ),
    ".db": Format(
        split_database, "rows of an ASE database (SQLite), opened read-only",
        "`name`, `id`, … of the key-value pairs, else `id 7`", "that of the row", binary=True,
    ),
    ".vasp": Format(split_poscar, "one POSCAR that names its elements", "file", member=True, limit=MAX_POSCAR_BYTES),
    ".poscar": Format(
        split_poscar, "as `.vasp`; also `POSCAR`, `POSCAR_12`, `Fe2O3.POSCAR`", "file", member=True,
        limit=MAX_POSCAR_BYTES,
    ),
    ".contcar": Format(split_poscar, "as `.vasp`; also `CONTCAR`", "file", member=True, limit=MAX_POSCAR_BYTES),
    ".xdatcar": Format(
        split_xdatcar, "frames of VASP, of a fixed or changing cell; also `XDATCAR`", "`frame 7`", member=True
    ),
}  # fmt: skip
PARSERS: dict[str, Callable[[Any], Crystal]] = {
    "extxyz": read_frame,
    "cif": _read_block,
    "text": _parse_text,
    "json": read_structure,
    "arrays": parse_arrays,
    "atoms": parse_atoms,
    "crystal": _parse_crystal,
    "poscar": read_poscar,
    "broken": _parse_broken,
}
