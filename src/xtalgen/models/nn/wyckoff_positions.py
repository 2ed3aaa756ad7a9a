"""Space groups and their Wyckoff positions as affine maps, as the column `wyckoff` of a table tells them.

Nothing here needs a crystallographic library: a group is the closure of its generators, an orbit the distinct images of
its representative.
"""

import re
from fractions import Fraction
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from xtalgen.models.nn.formulas import ORDER

# Place of an atomic number in the order of electronegativity.
ELEMENT_RANK = {number: place for place, number in enumerate(ORDER)}
AXES = "xyz"
TERM = re.compile(r"([+-]?)(\d*)(?:/(\d+))?([xyz]?)")


@cache
def parse_form(text: str) -> tuple[Int[np.ndarray, "3 3"], Float[np.ndarray, "3"], list[int], list[int]]:
    """Returns A, t, rows and axes of coordinates "x,2x,1/4": they are A (x, y, z) + t.

    axes: which of x, y, z are free; rows: the coordinates to read them from, which are the free one plus a constant.
    Raises ValueError for a text of another kind.
    """
    matrix, shift = _parse(text)
    axes = [axis for axis in range(3) if matrix[:, axis].any()]
    rows = []
    for axis in axes:
        unit = (np.arange(3) == axis).astype(int)
        rows.append(next((row for row in range(3) if (matrix[row] == unit).all()), -1))
    if -1 in rows:
        raise ValueError(f"{text!r}: no coordinate gives a free one of x, y, z by itself.")
    return matrix, np.array([float(value) for value in shift]), rows, axes


@cache
def close(generators: str) -> dict[str, tuple[Int[np.ndarray, "3 3"], tuple[Fraction, ...]]]:
    """Returns the group of generators "-x,-y,z;x+1/2,…" modulo lattice translations, by its operations' texts."""
    known = {write_operation(np.eye(3, dtype=int), (0, 0, 0)): (np.eye(3, dtype=int), (Fraction(0),) * 3)}
    basic = [_parse(text) for text in generators.split(";") if text]
    pending = list(known.values())
    while pending:
        rotation, shift = pending.pop()
        for other, further in basic:
            product = other @ rotation
            moved = [
                (sum(int(other[i, j]) * shift[j] for j in range(3)) + further[i]) % 1 for i in range(3)
            ]
            text = write_operation(product, moved)
            if text not in known:
                known[text] = (product, tuple(moved))
                pending.append(known[text])
    return known


def write_operation(rotation: Int[np.ndarray, "3 3"], translation: "Float[np.ndarray, '3'] | list[Fraction]") -> str:
    """Returns an operation as text, "-x,x-y,z+1/3"; translations are fractions of at most 24ths in [0, 1)."""
    parts = []
    for row, value in zip(rotation, translation, strict=True):
        part = ""
        for factor, axis in zip(row, AXES, strict=True):
            if factor:
                part += ("-" if factor < 0 else "+" if part else "") + (str(abs(factor)) if abs(factor) > 1 else "") + axis
        fraction = Fraction(value).limit_denominator(24) % 1
        parts.append(part + (f"+{fraction}" if fraction and part else str(fraction) if not part else ""))
    return ",".join(parts)


@cache
def orbit_forms(
    generators: str, form: str
) -> tuple[Float[np.ndarray, "members 3 3"], Float[np.ndarray, "members 3"]]:
    """Returns A and t of the members of an orbit in a primitive cell, in conventional coordinates.

    Members are the images of the representative A (x, y, z) + t that differ as maps, so that their number is that of
    the Wyckoff position whatever x, y and z are.
    """
    matrix, shift = _parse(form)
    group = close(generators)
    found = {}
    for rotation, translation in group.values():
        moved = [sum(int(rotation[i, j]) * shift[j] for j in range(3)) + translation[i] for i in range(3)]
        found.setdefault(_class_of(rotation @ matrix, moved, group), (rotation @ matrix, moved))
    return (
        np.array([image for image, _ in found.values()], dtype=float),
        np.array([[float(value % 1) for value in moved] for _, moved in found.values()]),
    )


@cache
def primitive_cell(generators: str) -> Float[np.ndarray, "3 3"]:
    """Returns a primitive cell's basis, row vectors in fractions of the conventional cell."""
    centrings = _centrings(generators)
    vectors = [tuple((Fraction(i == j) for j in range(3))) for i in range(3)]
    halves = [
        tuple(value - step for value, step in zip(c, steps, strict=True))
        for c in centrings
        if any(c)
        for steps in np.ndindex(2, 2, 2)
    ]
    vectors = sorted([*halves, *vectors], key=lambda v: (sum(abs(x) for x in v), v), reverse=False)
    for i in range(len(vectors)):
        for j in range(i + 1, len(vectors)):
            for k in range(j + 1, len(vectors)):
                basis = np.array([[float(x) for x in vectors[n]] for n in (i, j, k)])
                volume = np.linalg.det(basis)
                if abs(abs(volume) - 1 / len(centrings)) < 1e-6:
                    return basis if volume > 0 else -basis
    raise ValueError(f"{generators!r}: no primitive cell.")


def n_centrings(generators: str) -> int:
    """Returns how many primitive cells the conventional cell holds."""
    return len(_centrings(generators))


def _centrings(generators: str) -> list[tuple[Fraction, ...]]:
    return [shift for rotation, shift in close(generators).values() if (rotation == np.eye(3)).all()]


def _class_of(matrix: np.ndarray, shift: list[Fraction], group: dict) -> tuple:
    """Returns what equal members of an orbit have in common: the map, and its shift modulo lattice and centring."""
    centrings = [moved for rotation, moved in group.values() if (rotation == np.eye(3)).all()]
    same = min(tuple((value + extra) % 1 for value, extra in zip(shift, c, strict=True)) for c in centrings)
    return tuple(matrix.ravel().tolist()), same


@cache
def _parse(text: str) -> tuple[Int[np.ndarray, "3 3"], tuple[Fraction, ...]]:
    matrix, shift = np.zeros((3, 3), dtype=int), [Fraction(0)] * 3
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError(f"{text!r} are no coordinates such as 'x,2x,1/4'.")
    for row, part in enumerate(parts):
        place = 0
        while place < len(part):
            match = TERM.match(part, place)
            if match is None or match.end() == place:
                raise ValueError(f"{text!r} are no coordinates such as 'x,2x,1/4'.")
            sign, number, below, axis = match.groups()
            value = Fraction(int(number or 1), int(below or 1)) * (-1 if sign == "-" else 1)
            if axis:
                matrix[row, AXES.index(axis)] += int(value)
            else:
                shift[row] += value
            place = match.end()
    return matrix, tuple(shift)
