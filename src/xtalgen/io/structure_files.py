"""The formats a user's structures may have: split a file into entries, parse an entry into a crystal.

Splitting is cheap and raises ValueError when the file as a whole is wrong; parsing is done entry by entry, maybe in
worker processes, and returns a crystal with a status whatever the entry holds.
"""

import csv
import gzip
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.entries import STRUCTURE_SUFFIXES as SUFFIXES
from xtalgen.io.entries import BrokenError, Entry, explain_suffix
from xtalgen.io.npz import parse_arrays, read_arrays
from xtalgen.structure.lattice import lattice_from_parameters

NAME_KEYS = ("name", "id", "material_id", "label", "structure_id")
# Guards against archives that unpack to far more than they weigh.
MAX_BYTES = 2 * 1024**3
MAX_MEMBER_BYTES = 16 * 1024**2
MIN_VOLUME = 0.1  # Å³; CDVAE (Xie et al. 2022) builds no crystal below it


class NotTextError(ValueError):
    """Bytes that are no text in any encoding."""


def read_entries(path: Path) -> list[Entry]:
    """Returns the entries of a file in its order. Raises ValueError, naming the remedy, when the file is wrong."""
    suffix = next((suffix for suffix in reversed(SUFFIXES) if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ValueError(explain_suffix(path, SUFFIXES))
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: larger than {MAX_BYTES} bytes. Split it into several files.")
    raw = _unzip(path) if suffix == ".json.gz" else path.read_bytes()
    if not raw.strip():
        raise ValueError(f"{path} is empty. Put crystals into it.")
    try:
        entries = list(_READERS[suffix](raw, path))
    except NotTextError as error:
        raise ValueError(f"{path}: {error} Write it again.") from error
    if not entries:
        raise ValueError(f"{path}: no crystal found. Check that it is a {suffix} file that holds some.")
    return entries


def parse_entry(entry: Entry) -> Crystal:
    """Returns the crystal of an entry, with an empty id; a broken one has a status and `info["error"]`."""
    info = {"source_name": entry.name, "error": None, "energy_given": _number(entry.energy)}
    try:
        lattice, frac_coords, numbers, found = _PARSERS[entry.kind](entry.content)
        _check(lattice, frac_coords, numbers)
    except BrokenError as error:
        return Crystal(id="", status=error.status, info={**info, "error": str(error)})
    except Exception as error:  # noqa: BLE001 - a broken crystal is data, whatever a parser raises
        return Crystal(id="", status="unparsable", info={**info, "error": f"{type(error).__name__}: {error}"})
    return Crystal(
        id="",
        lattice=lattice,
        frac_coords=_wrap(frac_coords),
        atomic_numbers=numbers.astype(np.uint8),
        info={**info, **{key: value for key, value in found.items() if value is not None}},
    )


_Parsed = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


def _check(lattice: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray) -> None:
    if not np.isfinite(lattice).all():
        raise BrokenError("bad_lattice", "the lattice has entries that are no finite numbers")
    volume = abs(np.linalg.det(lattice))
    if volume < MIN_VOLUME:
        raise BrokenError("bad_lattice", f"the cell has a volume of {volume:.3g} Å³, less than {MIN_VOLUME} Å³")
    if len(numbers) == 0:
        raise BrokenError("unparsable", "there are no atoms")
    if frac_coords.shape != (len(numbers), 3):
        raise BrokenError("unparsable", f"{len(numbers)} atoms have coordinates of shape {frac_coords.shape}")
    if not np.isfinite(frac_coords).all():
        atom = int(np.flatnonzero(~np.isfinite(frac_coords).all(axis=1))[0])
        raise BrokenError("unparsable", f"atom {atom + 1} has a coordinate that is no finite number")


def _wrap(frac_coords: np.ndarray) -> np.ndarray:
    from xtalgen.structure.pymatgen import wrap

    return wrap(frac_coords)


def _atomic_number(symbol: str) -> int:
    from pymatgen.core import Element

    # Deuterium and tritium are hydrogen to pymatgen.
    if not Element.is_valid_symbol(symbol):
        raise BrokenError("unknown_element", f"{symbol!r} is no element")
    return Element(symbol).Z


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _named(values: Mapping[str, Any]) -> str | None:
    return next((str(values[key]) for key in NAME_KEYS if values.get(key) not in (None, "")), None)


def _text(raw: bytes) -> str:
    """Returns bytes as text, in Latin-1 where nothing else fits. Raises NotTextError where that does not either."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) and len(raw) % 2 == 0:
        return raw.decode("utf-16", errors="replace")
    if b"\0" in raw:
        raise NotTextError("holds NUL bytes, so it is no text.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # old CIFs carry authors' names so


# --- CIF ---------------------------------------------------------------------------------------------------------


def _read_cif(raw: bytes, path: Path) -> Iterator[Entry]:
    yield from _cif_entries(_text(raw), path.name)


def _cif_entries(text: str, name: str) -> list[Entry]:
    """Returns one entry per data block that describes a crystal; blocks of mere publication data are left out."""
    blocks = _split_blocks(text)
    crystals = [
        (label, block) for label, block in blocks if re.search(r"^\s*_(cell_length|atom_site)", block, re.MULTILINE)
    ]
    blocks = crystals or blocks or [("", text)]
    return [_cif_entry(f"{name}:{label}" if len(blocks) > 1 else name, block) for label, block in blocks]


def _cif_entry(name: str, block: str) -> Entry:
    if len(block) > MAX_MEMBER_BYTES:
        return Entry(name, "broken", f"longer than {MAX_MEMBER_BYTES} characters")
    return Entry(name, "cif", block)


def _split_blocks(text: str) -> list[tuple[str, str]]:
    blocks: list[tuple[str, list[str]]] = []
    in_text_field = False
    for line in text.splitlines():
        if line.startswith(";"):
            in_text_field = not in_text_field
        elif not in_text_field and line[:5].lower() == "data_":
            blocks.append((line[5:].strip(), []))
        if blocks:
            blocks[-1][1].append(line)
    return [(label, "\n".join(lines) + "\n") for label, lines in blocks]


def _parse_cif(text: str) -> _Parsed:
    import warnings

    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parser = CifParser.from_str(text)
        block = next(iter(parser.as_dict().values()), {})
        expected = _cif_elements(block)
        _check_cif_cell(block)
        try:
            structure = parser.parse_structures(primitive=False)[0]
        except ValueError as error:
            # pymatgen says what is wrong in a warning, and only that something is in the error.
            reasons = [line for one in caught for line in str(one.message).splitlines()[1:]]
            raise BrokenError("unparsable", "; ".join(dict.fromkeys(reasons)) or str(error)) from error
    if not structure.is_ordered:
        raise BrokenError("disordered", "sites are partly occupied; give an ordered structure")
    numbers = np.array([site.specie.Z for site in structure])
    # pymatgen drops or replaces symbols that it does not know ("OH", "Vac"), with no more than a warning.
    if set(numbers.tolist()) != expected:
        raise BrokenError("unparsable", "the elements of the CIF's sites and of the structure read from them differ")
    return np.array(structure.lattice.matrix), np.array(structure.frac_coords), numbers, {}


def _check_cif_cell(block: Mapping[str, Any]) -> None:
    """Raises BrokenError when a block's six cell parameters make no cell; pymatgen judges blocks that give fewer."""
    from pymatgen.io.cif import str2float

    keys = [f"_cell_length_{name}" for name in "abc"] + [f"_cell_angle_{name}" for name in ("alpha", "beta", "gamma")]
    if all(key in block for key in keys):
        try:
            values = np.array([str2float(block[key]) for key in keys])
        except ValueError as error:
            raise BrokenError("bad_lattice", f"a cell parameter is no number: {error}") from error
        _check(lattice_from_parameters(values[:3], values[3:]), np.zeros((1, 3)), np.ones(1))


def _cif_elements(block: Mapping[str, Any]) -> set[int]:
    """Returns the atomic numbers of a block's sites. Raises BrokenError on a symbol that is no element."""
    symbols = block.get("_atom_site_type_symbol") or block.get("_atom_site_label")
    if not symbols:
        raise BrokenError("unparsable", "there are no _atom_site_ entries")
    found = set()
    for symbol in [symbols] if isinstance(symbols, str) else symbols:
        letters = re.match(r"[A-Za-z]*", symbol).group()
        found.add(_atomic_number(letters.capitalize() or symbol))
    return found


def _read_zip(raw: bytes, path: Path) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter for versions that zipfile cannot read
        raise ValueError(f"{path}: not a readable zip archive ({error}). Pack the CIFs again.") from error
    members = [member for member in archive.infolist() if _is_cif(member)]
    # zipfile never reads more of a member than the archive says that it holds, so the sum need not be found out.
    if sum(min(member.file_size, MAX_MEMBER_BYTES) for member in members) > MAX_BYTES:
        raise ValueError(f"{path}: unpacks to more than {MAX_BYTES} bytes. Split it into several files.")
    for member in members:
        if member.file_size > MAX_MEMBER_BYTES:
            yield Entry(member.filename, "broken", f"unpacks to more than {MAX_MEMBER_BYTES} bytes")
            continue
        try:
            yield from _cif_entries(_text(archive.read(member)), member.filename)
        except Exception as error:  # noqa: BLE001 - encrypted, truncated, no text, or of an unknown compression
            yield Entry(member.filename, "broken", f"{type(error).__name__}: {error}")


def _is_cif(member: zipfile.ZipInfo) -> bool:
    hidden = member.filename.startswith("__MACOSX/") or Path(member.filename).name.startswith(".")
    return not (member.is_dir() or hidden) and member.filename.lower().endswith(".cif")


def _read_csv(raw: bytes, path: Path) -> Iterator[Entry]:
    csv.field_size_limit(MAX_MEMBER_BYTES)
    rows = csv.DictReader(io.StringIO(_text(raw), newline=""), strict=True)
    columns = {(name or "").strip().lower(): name for name in rows.fieldnames or []}
    if "cif" not in columns:
        raise ValueError(f"{path}: no column `cif`; there are {', '.join(columns)}. Name the column of the CIFs `cif`.")
    index = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            # Where a quote is left open the rest of the file is one field: what follows cannot be told apart.
            yield Entry(f"row {index}", "broken", f"line {rows.line_num}: {error}")
            return
        lowered = {(name or "").strip().lower(): value for name, value in row.items() if isinstance(name, str)}
        name = _named(lowered) or f"row {index}"
        if (lowered.get("cif") or "").strip():
            yield Entry(name, "cif", lowered["cif"], lowered.get("energy"))
        else:
            yield Entry(name, "broken", "the cell `cif` is empty")
        index += 1


# --- xyz ---------------------------------------------------------------------------------------------------------


def _read_xyz(raw: bytes, path: Path) -> Iterator[Entry]:
    lines = _text(raw).splitlines()
    place, frame = 0, 0
    while place < len(lines):
        if not lines[place].strip():
            place += 1
            continue
        if lines[place].strip().isdigit():
            size = int(lines[place])
            block = lines[place : place + size + 2]
            place += size + 2
            yield Entry(f"frame {frame}", "xyz", "\n".join(block) + "\n")
        elif frame == 0:
            raise ValueError(f"{path}: line {place + 1} is no number of atoms. Give an (ext)xyz file.")
        else:
            stray = place
            while place < len(lines) and not lines[place].strip().isdigit():
                place += 1
            yield Entry(f"frame {frame}", "broken", f"line {stray + 1} of the file is no number of atoms")
        frame += 1


def _parse_xyz(text: str) -> _Parsed:
    from ase.io import read

    lines = text.splitlines()
    if len(lines) - 2 < int(lines[0]):
        raise BrokenError("unparsable", f"cut off: {max(0, len(lines) - 2)} of {int(lines[0])} atoms are there")
    if not re.search(r"\blattice\s*=", lines[1], re.IGNORECASE):
        raise BrokenError("bad_lattice", 'no Lattice="…" in the frame\'s second line; a crystal needs a cell')
    try:
        atoms = read(io.StringIO(text), format="extxyz", index=0)
    except KeyError as error:
        raise BrokenError("unknown_element", f"{error.args[0]!r} is no element") from error
    if (atoms.numbers < 1).any():
        raise BrokenError("unknown_element", "'X' is no element")
    lattice = np.array(atoms.cell)
    _check(lattice, np.zeros((len(atoms), 3)), atoms.numbers)
    energy = (atoms.calc.results if atoms.calc else {}).get("energy", atoms.info.get("energy"))
    found = {"energy_given": _number(energy), "source_name": _named(atoms.info)}
    return lattice, atoms.get_scaled_positions(wrap=False), atoms.numbers, found


# --- pymatgen JSON -----------------------------------------------------------------------------------------------


def _unzip(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: not a readable gzip file ({error}). Pack it again.") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: unpacks to more than {MAX_BYTES} bytes. Split it into several files.")
    return content


def _read_json(raw: bytes, path: Path) -> Iterator[Entry]:
    try:
        content = json.loads(_text(raw))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not readable JSON ({error}). Write it again.") from error
    if isinstance(content, list):
        items = [(f"item {index}", item) for index, item in enumerate(content)]
    elif isinstance(content, dict) and not _structure_of(content):
        items = list(content.items())
    elif isinstance(content, dict):
        items = [(path.name, content)]
    else:
        raise ValueError(f"{path}: neither a pymatgen Structure nor a list or dictionary of them.")
    for name, item in items:
        structure = _structure_of(item)
        named = (_named(item) if isinstance(item, dict) else None) or name
        if structure:
            yield Entry(named, "json", structure, item.get("energy"))
        else:
            yield Entry(named, "broken", "no pymatgen Structure: `lattice` and `sites` are missing")


def _structure_of(item: Any) -> dict[str, Any] | None:
    if not isinstance(item, dict):
        return None
    inner = item.get("structure", item)
    return inner if isinstance(inner, dict) and {"lattice", "sites"} <= inner.keys() else None


def _parse_json(structure: Mapping[str, Any]) -> _Parsed:
    """Parses the dictionary of a pymatgen Structure by hand: pymatgen would import classes that the file names."""
    cell = structure["lattice"]
    if "matrix" in cell:
        lattice = np.array(cell["matrix"], dtype=np.float64).reshape(3, 3)
    else:
        lengths, angles = ([float(cell[key]) for key in keys] for keys in (("a", "b", "c"), ("alpha", "beta", "gamma")))
        lattice = lattice_from_parameters(np.array(lengths), np.array(angles))
    _check(lattice, np.zeros((1, 3)), np.ones(1))
    numbers, frac_coords = [], []
    for site in structure["sites"]:
        species = site["species"]
        if len(species) != 1 or not math.isclose(species[0].get("occu", 1), 1):
            raise BrokenError("disordered", "sites are partly occupied; give an ordered structure")
        numbers.append(_atomic_number(species[0]["element"]))
        frac_coords.append(site["abc"] if "abc" in site else np.linalg.solve(lattice.T, site["xyz"]))
    return lattice, np.array(frac_coords, dtype=np.float64).reshape(-1, 3), np.array(numbers, dtype=int), {}


def _parse_broken(message: str) -> _Parsed:
    raise BrokenError("unparsable", message)


_READERS: dict[str, Callable[[bytes, Path], Iterator[Entry]]] = {
    ".extxyz": _read_xyz,
    ".xyz": _read_xyz,
    ".cif": _read_cif,
    ".zip": _read_zip,
    ".csv": _read_csv,
    ".json": _read_json,
    ".json.gz": _read_json,
    ".npz": read_arrays,
}
_PARSERS: dict[str, Callable[[Any], _Parsed]] = {
    "cif": _parse_cif,
    "xyz": _parse_xyz,
    "json": _parse_json,
    "arrays": parse_arrays,
    "broken": _parse_broken,
}
