"""Crystals as text and back (Gruver et al. 2024, arXiv 2402.04379, section 3).

A text has a line of three lengths (Å, one decimal), a line of three angles (whole degrees, cut off), and for every atom
a line with its element and one with its three fractional coordinates (two decimals). Lines are separated by one line
break, words by one space. Nothing else is allowed: a text is exactly one crystal or gets a status.
"""

import re

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.structure.elements import NUMBERS, SYMBOLS
from xtalgen.structure.lattice import lattice_from_parameters, lattice_to_parameters

MASK = "[MASK]"
# Bounds of cells, far beyond those of known crystals.
SHORTEST, LONGEST = 1.0, 99.9  # Å
SMALLEST_ANGLE, LARGEST_ANGLE = 10, 170  # degrees
MOST_ATOMS = 100
# Angles a rounding error below a whole degree count as that degree; plain truncation would turn 90° into 89°.
ANGLE_TOLERANCE = 1e-3

LENGTH = re.compile(r"(?:0|[1-9]\d*)\.\d")
ANGLE = re.compile(r"0|[1-9]\d*")
ELEMENT = re.compile(r"[A-Z][a-z]?")
COORDINATE = re.compile(r"0\.\d\d")


class TextError(ValueError):
    """A text is not a crystal, or a crystal cannot be written as text. status: that of its row."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def write_crystal(crystal: Crystal, shift: Float[np.ndarray, "3"] | None = None, masked: int | None = None) -> str:
    """Returns the text of a crystal that is ok, its atoms in their order.

    shift: added to all fractional coordinates. masked: atomic number whose symbol is replaced by `MASK` in the lines of
    elements only (so that masking C does not change Ca and Cl). Raises TextError when the cell cannot be written, see
    `SHORTEST` and its neighbours, or an element has no symbol here.
    """
    lengths, angles = lattice_to_parameters(np.asarray(crystal.lattice, dtype=np.float64))
    tenths = [f"{length:.1f}" for length in lengths.tolist()]
    degrees = np.floor(angles + ANGLE_TOLERANCE).astype(np.int64).tolist()
    check_cell([float(length) for length in tenths], degrees)
    if crystal.atomic_numbers.max() > len(SYMBOLS):
        raise TextError("unknown_element", f"atomic numbers above {len(SYMBOLS)} have no symbol")
    coords = np.asarray(crystal.frac_coords, dtype=np.float64) + (0.0 if shift is None else shift)
    lines = [" ".join(tenths), " ".join(map(str, degrees))]
    for number, place in zip(crystal.atomic_numbers.tolist(), (coords % 1.0).tolist(), strict=True):
        lines.append(MASK if number == masked else SYMBOLS[number - 1])
        lines.append(" ".join(f"{x:.2f}" for x in place).replace("1.00", "0.00"))
    return "\n".join(lines)


def unwritable(crystal: Crystal) -> str | None:
    """Returns the reason why a crystal that is ok cannot be written as text, None when it can."""
    try:
        write_crystal(crystal)
    except TextError as error:
        return error.status
    return None


def read_crystal_text(text: str, wanted: np.ndarray | None = None) -> Crystal:
    """Returns the crystal of a text, with the text in `info`; one that is not ok has no geometry.

    wanted: atomic numbers that it must have, in any order; the crystal has them in the wanted order, also when it is
    not ok. The status names the first fault in reading order: "unparsable", "bad_lattice" (absurd numbers, or angles
    that make no cell), "unknown_element", "too_large", "no_atoms"; then "wrong_composition".
    """
    try:
        lengths, angles, numbers, coords = _read(text)
        order = np.arange(len(numbers)) if wanted is None else _order(numbers, np.asarray(wanted))
    except TextError as error:
        kept = None if wanted is None else np.asarray(wanted, dtype=np.uint8)
        return Crystal("", error.status, atomic_numbers=kept, info={"text": text})
    lattice = lattice_from_parameters(np.array(lengths), np.array(angles, dtype=np.float64))
    return Crystal("", "ok", lattice, coords[order], numbers[order], {"text": text})


def check_cell(lengths: list[float], angles: list[int]) -> None:
    """Raises TextError with status bad_lattice when lengths (Å) and angles (degrees) are absurd or make no cell."""
    if not all(SHORTEST <= length <= LONGEST for length in lengths):
        raise TextError("bad_lattice", f"a length of {lengths} Å is outside {SHORTEST} to {LONGEST}")
    if not all(SMALLEST_ANGLE <= angle <= LARGEST_ANGLE for angle in angles):
        raise TextError("bad_lattice", f"an angle of {angles}° is outside {SMALLEST_ANGLE} to {LARGEST_ANGLE}")
    low, high = third_angles(angles[0], angles[1])
    if not low <= angles[2] <= high:
        raise TextError("bad_lattice", f"the angles {angles}° make no cell")


def third_angles(alpha: int, beta: int) -> tuple[int, int]:
    """Returns the smallest and the largest whole γ (degrees) with which α and β make a cell of some volume."""
    # Three angles meet at a corner when each is less than the sum of the others and all three sum to less than 360°.
    low = max(SMALLEST_ANGLE, abs(alpha - beta) + 1)
    return low, min(LARGEST_ANGLE, alpha + beta - 1, 359 - alpha - beta)


def _read(text: str) -> tuple[list[float], list[int], np.ndarray, np.ndarray]:
    lines = text.split("\n")
    lengths = [float(word) for word in _words(lines, 0, LENGTH)]
    if not all(SHORTEST <= length <= LONGEST for length in lengths):
        raise TextError("bad_lattice", f"a length of {lengths} Å is outside {SHORTEST} to {LONGEST}")
    angles = [int(word) for word in _words(lines, 1, ANGLE)]
    check_cell(lengths, angles)
    numbers: list[int] = []
    coords = []
    for index in range(2, len(lines), 2):
        if len(numbers) == MOST_ATOMS:
            raise TextError("too_large", f"more than {MOST_ATOMS} atoms")
        if not ELEMENT.fullmatch(lines[index]):
            raise TextError("unparsable", f"line {index + 1} is no element")
        if lines[index] not in NUMBERS:
            raise TextError("unknown_element", f"line {index + 1}: there is no element {lines[index]!r}")
        coords.append([float(word) for word in _words(lines, index + 1, COORDINATE)])
        numbers.append(NUMBERS[lines[index]])
    if not numbers:
        raise TextError("no_atoms", "a cell without atoms")
    return lengths, angles, np.array(numbers, dtype=np.uint8), np.array(coords)


def _words(lines: list[str], index: int, kind: re.Pattern[str]) -> list[str]:
    words = lines[index].split(" ") if index < len(lines) else []
    # Digits of other scripts match \d as well.
    if len(words) != 3 or not all(word.isascii() and kind.fullmatch(word) for word in words):
        raise TextError("unparsable", f"line {index + 1} does not hold three numbers of its kind")
    return words


def _order(numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the indices that put the atoms in the wanted order; atoms of one element keep theirs."""
    if not np.array_equal(np.sort(numbers), np.sort(wanted)):
        raise TextError("wrong_composition", "other atoms than wanted")
    order = np.empty(len(numbers), dtype=np.int64)
    order[np.argsort(wanted, kind="stable")] = np.argsort(numbers, kind="stable")
    return order
