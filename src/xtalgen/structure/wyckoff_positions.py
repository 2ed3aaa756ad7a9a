"""Space groups and their Wyckoff positions as affine maps, from the column `wyckoff` of a table.

No crystallographic library is needed: a group is the closure of its generators, an orbit the set of images of its
representative.
"""

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from xtalgen.structure.elements import ORDER

COLUMN = "wyckoff"  # of a table of crystals
# Rank of an atomic number in the order of electronegativity.
ELEMENT_RANK = {number: place for place, number in enumerate(ORDER)}
AXES = "xyz"
Translation = tuple[Fraction, ...]
Operation = tuple[np.ndarray, Translation]  # an integer matrix (3, 3) and a translation
TERM = re.compile(r"([+-]?)(\d*)(?:/(\d+))?([xyz]?)")


@cache
def parse_form(text: str) -> tuple[Int[np.ndarray, "3 3"], Float[np.ndarray, "3"], list[int], list[int]]:
    """Returns A, t, rows and axes of coordinates "x,2x,1/4": they are A (x, y, z) + t.

    The axes are the free ones of x, y, z; the rows are the coordinates that equal a free one plus a constant. Raises
    ValueError for any other text.
    """
    matrix, shift = _parse(text)
    axes = [axis for axis in range(3) if matrix[:, axis].any()]
    rows = []
    for axis in axes:
        unit = (np.arange(3) == axis).astype(int)
        rows.append(next((row for row in range(3) if (matrix[row] == unit).all()), -1))
    if -1 in rows:
        raise ValueError(f"{text!r}: no coordinate is a free one of x, y, z by itself.")
    return matrix, np.array([float(value) for value in shift]), rows, axes


@cache
def close(generators: str) -> dict[str, Operation]:
    """Returns the group of generators "-x,-y,z;x+1/2,…" modulo lattice translations, by its operations' texts."""
    identity: Operation = (np.eye(3, dtype=int), (Fraction(0),) * 3)
    known = {write_operation(*identity): identity}
    basic = [_parse(text) for text in generators.split(";") if text]
    pending = list(known.values())
    while pending:
        operation = pending.pop()
        for generator in basic:
            product = _apply(generator, *operation)
            text = write_operation(*product)
            if text not in known:
                known[text] = product
                pending.append(product)
    return known


def write_operation(rotation: Int[np.ndarray, "3 3"], translation: Iterable[float | Fraction]) -> str:
    """Returns an operation as text, "-x,x-y,z+1/3"; translations are fractions of at most 24ths in [0, 1)."""
    parts = []
    for row, value in zip(rotation.tolist(), translation, strict=True):
        part = ""
        for factor, axis in zip(row, AXES, strict=True):
            if factor:
                sign = "-" if factor < 0 else "+" if part else ""
                part += f"{sign}{abs(factor) if abs(factor) > 1 else ''}{axis}"
        fraction = Fraction(value).limit_denominator(24) % 1
        parts.append(f"{part}+{fraction}" if fraction and part else part or str(fraction))
    return ",".join(parts)


@cache
def orbit_forms(generators: str, form: str) -> tuple[Float[np.ndarray, "members 3 3"], Float[np.ndarray, "members 3"]]:
    """Returns A and t of the members of an orbit in a primitive cell, in conventional coordinates.

    Members are the images of the representative A (x, y, z) + t that differ as maps, so that their number is that of
    the Wyckoff position for any x, y and z.
    """
    centrings = _centrings(generators)
    found: dict[tuple[bytes, Translation], Operation] = {}
    for operation in close(generators).values():
        matrix, shift = _apply(operation, *_parse(form))
        copies = [tuple((value + extra) % 1 for value, extra in zip(shift, one, strict=True)) for one in centrings]
        found.setdefault((matrix.tobytes(), min(copies)), (matrix, shift))
    matrices, shifts = zip(*found.values(), strict=True)
    return np.array(matrices, dtype=float), np.array(shifts, dtype=float)


@cache
def primitive_cell(generators: str) -> Float[np.ndarray, "3 3"]:
    """Returns a primitive cell's basis, row vectors in fractions of the conventional cell.

    Raises ValueError when the generators' translations span no such cell.
    """
    centrings = _centrings(generators)
    axes = [tuple(Fraction(i == j) for j in range(3)) for i in range(3)]
    copies = [
        tuple(value - step for value, step in zip(centring, steps, strict=True))
        for centring in centrings
        if any(centring)
        for steps in np.ndindex(2, 2, 2)
    ]
    shortest_first = sorted([*axes, *copies], key=lambda vector: (sum(map(abs, vector)), vector))
    for vectors in combinations(shortest_first, 3):
        basis = np.array(vectors, dtype=float)
        volume = np.linalg.det(basis)
        if abs(abs(volume) - 1 / len(centrings)) < 1e-6:
            return basis if volume > 0 else -basis
    raise ValueError(f"{generators!r}: no primitive cell.")


def n_centrings(generators: str) -> int:
    """Returns the number of primitive cells in the conventional cell."""
    return len(_centrings(generators))


def _centrings(generators: str) -> list[Translation]:
    return [shift for rotation, shift in close(generators).values() if (rotation == np.eye(3)).all()]


def _apply(operation: Operation, matrix: Int[np.ndarray, "3 3"], shift: Translation) -> Operation:
    """Returns the operation after the map matrix (x, y, z) + shift; the translation in [0, 1)."""
    rotation, translation = operation
    turned = [sum(factor * value for factor, value in zip(row, shift, strict=True)) for row in rotation.tolist()]
    moved = tuple((value + further) % 1 for value, further in zip(turned, translation, strict=True))
    return rotation @ matrix, moved


@cache
def _parse(text: str) -> Operation:
    matrix, shift = np.zeros((3, 3), dtype=int), [Fraction(0)] * 3
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError(f"{text!r} are not coordinates such as 'x,2x,1/4'.")
    for row, part in enumerate(parts):
        place = 0
        while place < len(part):
            match = TERM.match(part, place)
            if match is None or match.end() == place:
                raise ValueError(f"{text!r} are not coordinates such as 'x,2x,1/4'.")
            sign, number, below, axis = match.groups()
            value = Fraction(int(number or 1), int(below or 1)) * (-1 if sign == "-" else 1)
            if axis:
                matrix[row, AXES.index(axis)] += int(value)
            else:
                shift[row] += value
            place = match.end()
    return matrix, tuple(shift)
