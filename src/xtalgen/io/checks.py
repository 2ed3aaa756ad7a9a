"""The checks that every crystal passes, in any format: elements, cell, coordinates, range.

Readers convert text to numbers with these functions and pass them to `make_crystal`, which alone decides whether a row
is "ok".
"""

import math
import operator
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import MAX_ATOMIC_NUMBER, Crystal
from xtalgen.io.entries import CrystalError
from xtalgen.structure.elements import ALL_SYMBOLS
from xtalgen.structure.geometry import MIN_VOLUME
from xtalgen.structure.lattice import lattice_from_parameters, wrap

SMALLEST_SPACING = 0.01  # Å between opposite faces of the cell, the bound of pymatgen's CIF reader
LARGEST_COORDINATE = 1e9  # fractional; beyond it, double precision does not resolve positions within the cell
SYNTHETIC = 100  # atomic number from which elements occur in no crystal
ISOTOPES = {"D": 1, "T": 1}
NUMBERS = {symbol: number for number, symbol in enumerate(ALL_SYMBOLS, start=1)} | ISOTOPES
# A symbol with its charge or number behind it, as in Fe3+, O-2, Na+, Fe1.
DECORATED = re.compile(r"([A-Za-z]{1,3})[\d.]*[+-]*[\d.]*[+-]*")


def make_crystal(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Any, numbers: Sequence[int] | np.ndarray, **info: Any
) -> Crystal:
    """Returns the crystal, without an id, once it has passed all checks; coordinates are wrapped into [0, 1).

    `info` with the value None is left out. Raises CrystalError with status bad_lattice, unknown_element or unparsable.
    """
    check_lattice(lattice)
    numbers = check_numbers(np.asarray(numbers))
    frac_coords = np.asarray(frac_coords, dtype=np.float64)
    if len(numbers) == 0:
        raise CrystalError("unparsable", "there are no atoms")
    if frac_coords.shape != (len(numbers), 3):
        raise CrystalError("unparsable", f"{len(numbers)} atoms have coordinates of shape {frac_coords.shape}")
    check_coordinates(frac_coords)
    kept = {key: value for key, value in info.items() if value is not None}
    return Crystal("", "ok", np.asarray(lattice, dtype=np.float64), wrap(frac_coords), numbers, kept)


def check_lattice(lattice: Float[np.ndarray, "3 3"]) -> None:
    """Raises CrystalError when row vectors (Å) make no cell: not finite, flat, thinner than 0.01 Å, below 0.1 Å³."""
    a, b, c = np.asarray(lattice, dtype=np.float64).tolist()  # numbers: NumPy's calls take longer than the arithmetic
    if not all(map(math.isfinite, (*a, *b, *c))):
        raise CrystalError("bad_lattice", "the cell holds a number that is not finite")
    faces = _cross(b, c), _cross(c, a), _cross(a, b)
    volume = abs(sum(map(operator.mul, a, faces[0])))
    if not volume >= MIN_VOLUME:
        raise CrystalError("bad_lattice", f"the cell has a volume of {volume:.3g} Å³, less than {MIN_VOLUME} Å³")
    # Opposite faces are the volume over the area of the face apart.
    spacing = volume / max(math.hypot(*face) for face in faces)
    if not spacing >= SMALLEST_SPACING:
        raise CrystalError("bad_lattice", f"the cell is {spacing:.3g} Å thin, less than {SMALLEST_SPACING} Å")


def _cross(u: Sequence[float], v: Sequence[float]) -> tuple[float, float, float]:
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


def check_coordinates(frac_coords: Float[np.ndarray, "atoms 3"]) -> None:
    """Raises CrystalError when a fractional coordinate is not finite or beyond 1e9."""
    usable = np.abs(frac_coords) <= LARGEST_COORDINATE  # false for NaN, too
    if not usable.all():
        atom = int(np.flatnonzero(~usable.all(axis=1))[0])
        raise CrystalError("unparsable", f"atom {atom + 1} has a coordinate that is not a finite number below 1e9")


def make_lattice(lengths: Any, angles: Any) -> Float[np.ndarray, "3 3"]:
    """Returns the cell of three lengths (Å) and angles (degrees), as row vectors in the canonical orientation.

    Raises CrystalError for impossible parameters: a length that is not positive, an angle outside 0 to 180 degrees, or
    three incompatible angles.
    """
    a, b, c = (float(length) for length in lengths)
    alpha, beta, gamma = (float(angle) for angle in angles)
    if not all(map(math.isfinite, (a, b, c, alpha, beta, gamma))):
        raise CrystalError("bad_lattice", "a cell parameter is not a finite number")
    if min(a, b, c) <= 0:
        raise CrystalError("bad_lattice", f"lengths {[a, b, c]} Å are not all positive")
    if min(alpha, beta, gamma) <= 0 or max(alpha, beta, gamma) >= 180:
        raise CrystalError("bad_lattice", f"angles {[alpha, beta, gamma]}° do not all lie between 0 and 180")
    total = alpha + beta + gamma
    if total >= 360 or 2 * max(alpha, beta, gamma) >= total:
        raise CrystalError("bad_lattice", f"no cell has the angles {[alpha, beta, gamma]}°")
    return lattice_from_parameters(np.array([a, b, c]), np.array([alpha, beta, gamma]))


def check_periodic(pbc: Sequence[bool]) -> None:
    """Raises CrystalError unless a structure is periodic along all three axes."""
    if not all(pbc):
        axes = ", ".join(axis for axis, periodic in zip("abc", pbc, strict=False) if not periodic)
        raise CrystalError("bad_lattice", f"not a crystal: not periodic along {axes} (pbc)")


def check_numbers(numbers: np.ndarray) -> np.ndarray:
    """Returns atomic numbers as uint8. Raises CrystalError for unknown elements."""
    numbers = np.asarray(numbers)
    if numbers.dtype == np.uint8 and numbers.size and numbers.min() >= 1 and numbers.max() <= MAX_ATOMIC_NUMBER:
        return numbers
    values = numbers.astype(np.float64)
    known = np.isfinite(values) & (values == np.round(values)) & (values >= 1) & (values <= MAX_ATOMIC_NUMBER)
    if not known.all():
        raise CrystalError("unknown_element", f"no element has atomic number {values[~known][0]:g}")
    return values.astype(np.uint8)


def is_ambiguous(symbol: str) -> bool:
    """Whether a symbol in capitals may be one element or two: CO, HO, SI."""
    return len(symbol) == 2 and symbol.isupper() and all(letter in NUMBERS for letter in symbol)


def atomic_number(symbol: str) -> int:
    """Returns the atomic number of an element's symbol in any case, optionally followed by a charge or number.

    D and T are hydrogen. Raises CrystalError with status unknown_element.
    """
    match = DECORATED.fullmatch(symbol.strip())
    number = NUMBERS.get(match[1].capitalize()) if match else None
    # CN is cyanide, not copernicium.
    if match is None or number is None or (number >= SYNTHETIC and is_ambiguous(match[1])):
        raise CrystalError("unknown_element", f"{symbol!r} is not an element")
    return number
