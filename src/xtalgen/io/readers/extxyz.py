"""Extended XYZ: frames of atoms with a cell, as ASE, libAtoms and most potentials write them.

A frame is a line with the number of atoms, a line of key=value pairs, and a line per atom. Only what makes the crystal
is read: `Lattice`, `pbc`, `Properties`, `energy` and a name. Other keys and columns may hold anything.
"""

import re
from collections.abc import Iterator
from io import TextIOBase
from itertools import islice

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import atomic_number, check_lattice, check_numbers, check_periodic, make_crystal
from xtalgen.io.entries import CrystalError, Entry, find_name, finite_number

PAIR = re.compile(
    r"(?P<key>\"[^\"]*\"|[^\s=\"']+)\s*=\s*"
    r"(?:\"(?P<double>(?:[^\"\\]|\\.)*)\"|'(?P<single>[^']*)'|\{(?P<braces>[^}]*)\}|(?P<brackets>\[.*?\](?=\s|$))"
    r"|(?P<bare>\S*))"
)
DEFAULT_PROPERTIES = "species:S:1:pos:R:3"
SPECIES = ("species", "symbols", "element", "elements")
NUMBERS = ("z", "numbers", "atomic_numbers")
POSITIONS = ("pos", "positions")
MOST_LINES = 2**63 - 1  # that `islice` counts to
FALSE = ("f", "false", "0")


def split_frames(stream: TextIOBase, name: str) -> Iterator[Entry]:
    """Yields the frames of a file. Raises ValueError where it does not begin with a number of atoms."""
    del name  # frames have numbers
    lines = enumerate((line for piece in stream for line in piece.splitlines()), start=1)
    frame, stray = 0, 0
    for number, line in lines:
        if line.strip().isdigit():
            if stray:
                yield _broken(frame, stray)
                frame, stray = frame + 1, 0
            rest = islice(lines, min(int(line) + 1, MOST_LINES))
            yield Entry(f"frame {frame}", "extxyz", "\n".join([line, *(following for _, following in rest)]) + "\n")
            frame += 1
        elif line.strip() and frame == 0:
            raise ValueError(f"line {number} is not a number of atoms. Give an (ext)xyz file.")
        elif line.strip() and not stray:
            stray = number
    if stray:
        yield _broken(frame, stray)


def _broken(frame: int, line: int) -> Entry:
    return Entry(f"frame {frame}", "broken", f"line {line} of the file is not a number of atoms")


def read_frame(text: str) -> Crystal:
    """Returns the crystal of a frame; its name and energy stand in `info`. Raises CrystalError."""
    lines = text.splitlines()
    if not lines or not lines[0].strip().isdigit():
        raise CrystalError("unparsable", "the first line is not a number of atoms")
    size = int(lines[0])
    if len(lines) - 2 < size:
        raise CrystalError("unparsable", f"cut off: {max(0, len(lines) - 2)} of {size} atoms are there")
    pairs = read_pairs(lines[1])
    try:
        return _read_atoms(lines[2 : size + 2], pairs)
    except CrystalError as error:
        error.name = find_name(pairs)
        raise


def _read_atoms(lines: list[str], pairs: dict[str, str]) -> Crystal:
    lattice = _read_lattice(pairs)
    check_periodic(_read_pbc(pairs))
    columns, width = _read_properties(pairs.get("properties", DEFAULT_PROPERTIES))
    rows = [line.split() for line in lines]
    short = next((index for index, row in enumerate(rows) if len(row) < width), None)
    if short is not None:
        raise CrystalError("unparsable", f"atom {short + 1} has {len(rows[short])} of {width} columns")
    positions = _read_positions(rows, columns)
    numbers = _read_numbers(rows, columns)
    frac_coords = np.linalg.solve(lattice.T, positions.T).T
    return make_crystal(
        lattice, frac_coords, numbers, source_name=find_name(pairs), energy_given=finite_number(pairs.get("energy"))
    )


def read_pairs(line: str) -> dict[str, str]:
    """Returns the key=value pairs of a frame's second line: keys in lower case, values as text without quotes."""
    pairs: dict[str, str] = {}
    for match in PAIR.finditer(line):
        kind = match.lastgroup or "bare"
        value = match[kind]
        pairs.setdefault(match["key"].strip('"').lower(), re.sub(r"\\(.)", r"\1", value) if kind == "double" else value)
    return pairs


def _read_lattice(pairs: dict[str, str]) -> np.ndarray:
    if "lattice" not in pairs:
        raise CrystalError("bad_lattice", 'no Lattice="…" in the frame\'s second line; a crystal needs a cell')
    try:
        values = [float(word) for word in re.sub(r"[\[\](){},;]", " ", pairs["lattice"]).split()]
    except ValueError as error:
        raise CrystalError("bad_lattice", f"Lattice cannot be read: {error}") from error
    if len(values) != 9:
        raise CrystalError("bad_lattice", f"Lattice has {len(values)} numbers, not 9")
    lattice = np.array(values).reshape(3, 3)
    check_lattice(lattice)
    return lattice


def _read_pbc(pairs: dict[str, str]) -> list[bool]:
    words = re.sub(r"[\[\](){},;]", " ", pairs.get("pbc", "T T T")).split()
    return [word.lower() not in FALSE for word in (words * 3 if len(words) == 1 else words)]


def _read_properties(text: str) -> tuple[dict[str, slice], int]:
    """Returns the columns of each property and how many columns those needed here reach to."""
    parts = text.split(":")
    if len(parts) % 3 or not all(part.isdigit() for part in parts[2::3]):
        raise CrystalError("unparsable", f"Properties={text} is not made of name:kind:columns")
    columns: dict[str, slice] = {}
    start = 0
    for name, width in zip(parts[0::3], map(int, parts[2::3]), strict=True):
        columns[name.lower()] = slice(start, start + width)
        start += width
    needed = [columns[name].stop for name in (*SPECIES, *NUMBERS, *POSITIONS) if name in columns]
    return columns, max(needed, default=0)


def _read_positions(rows: list[list[str]], columns: dict[str, slice]) -> np.ndarray:
    where = next((columns[name] for name in POSITIONS if name in columns), None)
    if where is None or where.stop - where.start != 3:
        raise CrystalError("unparsable", "Properties names no column pos of three numbers")
    try:
        positions = np.array([[float(word) for word in row[where]] for row in rows]).reshape(-1, 3)
    except ValueError as error:
        raise CrystalError("unparsable", f"a position cannot be read: {error}") from error
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if bad.size:
        raise CrystalError("unparsable", f"atom {bad[0] + 1} has a coordinate that is not a finite number")
    return positions


def _read_numbers(rows: list[list[str]], columns: dict[str, slice]) -> np.ndarray:
    where = next((columns[name] for name in (*SPECIES, *NUMBERS) if name in columns), None)
    if where is None:
        raise CrystalError("unparsable", "Properties names neither species nor Z")
    words = [row[where.start] for row in rows]
    if all(word.lstrip("+-").isdigit() for word in words):
        return check_numbers(np.array([int(word) for word in words]))
    return np.array([atomic_number(word) for word in words])
