"""Voronoi cells of a crystal's atoms: the neighbour behind each face, its solid angle and its area.

The cell of an atom at 0 is the set of points x with x.r <= |r|^2 / 2 for the vector r to every other atom. It is found
by cutting a large cube by these planes, the nearest atom first. A plane at the distance |r| / 2 cannot cut a cell whose
farthest corner is nearer than that, so the search ends at the first |r| >= 2 max |corner|. As compiled loops, this is a
hundred times faster than Qhull through SciPy.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
from jaxtyping import Float, Int

from xtalgen.runtime.compiled import compiled

Array = np.ndarray
# The faces of the cell that is being cut: corners (faces, corners, 3), number of corners, index of the atom behind it.
Room = tuple[Array, Array, Array]

CUTOFF = 7.0  # Å: cut-off radius of CrystalNN
FAR = 1000.0  # Å: half the edge of the first cube; a cell that keeps a face of it is open
EDGE = 1e-6  # Å: within this distance of the cut-off, rounding decides whether an atom counts
ON_PLANE = 1e-10  # Å: a vertex within this distance of a plane lies on it
SAME_PLACE = 1e-3  # Å: atoms closer than this coincide
MAX_FACES, MAX_CORNERS = 192, 64
MAX_IMAGES = 1e6  # atoms within reach of an atom; only needles and sheets have more, which would fill the memory
CLOSED, OPEN, DOUBTFUL = 0, 1, 2
CUBE = np.array(
    [
        [[1, -1, -1], [1, 1, -1], [1, 1, 1], [1, -1, 1]],
        [[-1, -1, -1], [-1, -1, 1], [-1, 1, 1], [-1, 1, -1]],
        [[-1, 1, -1], [-1, 1, 1], [1, 1, 1], [1, 1, -1]],
        [[-1, -1, -1], [1, -1, -1], [1, -1, 1], [-1, -1, 1]],
        [[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]],
        [[-1, -1, -1], [-1, 1, -1], [1, 1, -1], [1, -1, -1]],
    ],
    dtype=np.float64,
)  # corners of each face, anticlockwise seen from outside
DIAGONALS = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]], dtype=np.float64)


class TooThinError(ValueError):
    """A lattice is so thin that listing the atoms within reach would exhaust memory."""


@dataclass(frozen=True)
class Cells:
    """The faces of all cells, sorted by atom.

    starts: index of the first face of each atom, then the number of faces; states: per atom CLOSED, OPEN (no cell, no
    faces) or DOUBTFUL (rounding decides which atoms count, or atoms coincide). Per face: number of the atom behind it,
    lattice translation of that atom, the vector to it in Å, solid angle in sr, area in Å².
    """

    starts: Int[np.ndarray, " bounds"]
    states: Int[np.ndarray, " atoms"]
    numbers: Int[np.ndarray, " faces"]
    images: Int[np.ndarray, "faces 3"]
    vectors: Float[np.ndarray, "faces 3"]
    angles: Float[np.ndarray, " faces"]
    areas: Float[np.ndarray, " faces"]


def cells(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "atoms 3"], cutoff: float = CUTOFF
) -> Cells:
    """Returns the Voronoi cells from the atoms within `cutoff` Å, or farther where a cell is open.

    As in CrystalNN (Pan et al. 2021, doi:10.1021/acs.inorgchem.0c02996; pymatgen), the radius doubles up to the longest
    diagonal of the unit cell. Raises ValueError when numbers are not finite or the lattice has no volume, TooThinError
    when a million atoms are within reach.
    """
    lattice, frac_coords, heights = _checked(lattice, frac_coords)
    widest = float(np.linalg.norm(DIAGONALS @ lattice, axis=1).max()) + 0.01
    try:
        return Cells(*_cells(lattice, frac_coords, heights, cutoff, widest))
    except ValueError as error:
        raise TooThinError(*error.args) from error


def surroundings(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "atoms 3"], atom: int, reach: float
) -> tuple[Float[np.ndarray, "found 3"], Int[np.ndarray, " found"], Int[np.ndarray, "found 3"]]:
    """Returns the atoms within `reach` Å of one, by distance, itself first: vectors (Å), numbers, lattice translations.

    Raises ValueError and TooThinError as `cells` does.
    """
    try:
        vectors, around = _surroundings(*_checked(lattice, frac_coords), atom, reach)
    except ValueError as error:
        raise TooThinError(*error.args) from error
    return vectors, around[:, 0], around[:, 1:]


def _checked(lattice: Array, frac_coords: Array) -> tuple[Array, Array, Array]:
    """Returns the arguments of the compiled functions: contiguous arrays, and the heights of the unit cell (Å)."""
    if not (np.isfinite(lattice).all() and np.isfinite(frac_coords).all() and abs(np.linalg.det(lattice)) > 0):
        raise ValueError("lattice or coordinates are not finite, or the lattice has no volume")
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    return np.ascontiguousarray(lattice), np.ascontiguousarray(frac_coords), heights


@compiled
@no_type_check
def _cells(lattice: Array, frac_coords: Array, heights: Array, cutoff: float, widest: float) -> tuple[Array, ...]:
    """Returns the fields of Cells."""
    n_atoms, count = len(frac_coords), 0
    starts, states = np.zeros(n_atoms + 1, dtype=np.int64), np.zeros(n_atoms, dtype=np.int64)
    places, numbers = np.empty((n_atoms * MAX_FACES, 5)), np.empty((n_atoms * MAX_FACES, 4), dtype=np.int64)
    polygons = np.empty((MAX_FACES, MAX_CORNERS, 3))
    room = (polygons, np.empty(MAX_FACES, dtype=np.int64), np.empty(MAX_FACES, dtype=np.int64))
    for atom in range(n_atoms):
        reach = cutoff
        while True:
            vectors, around = _surroundings(lattice, frac_coords, heights, atom, reach)
            state, n_faces = _cell(vectors, reach, room)
            if state != OPEN or reach >= widest:
                break
            reach = min(2 * reach, widest + 0.001)
        states[atom] = state
        for face in range(n_faces):
            if room[1][face] > 0:
                other = room[2][face]
                angle, area = _angle_and_area(
                    polygons[face, : room[1][face]], math.sqrt(_dot(vectors[other], vectors[other]))
                )
                places[count, :3], places[count, 3], places[count, 4] = vectors[other], angle, area
                numbers[count] = around[other]
                count += 1
        starts[atom + 1] = count
    places, numbers = places[:count], numbers[:count]
    split = (
        numbers[:, 0].copy(),
        numbers[:, 1:].copy(),
        places[:, :3].copy(),
        places[:, 3].copy(),
        places[:, 4].copy(),
    )
    return starts, states, *split


@compiled
@no_type_check
def _surroundings(lattice: Array, frac_coords: Array, heights: Array, atom: int, reach: float) -> tuple[Array, Array]:
    """Returns the atoms around one, by distance, itself first: vectors (n, 3), and numbers with translations (n, 4)."""
    images = float(len(frac_coords))
    for axis in range(3):
        images *= 2 * reach / heights[axis] + 2
    if images > MAX_IMAGES:
        raise ValueError("the lattice is too thin: a million images of its atoms are within reach")
    count, vectors, around = 0, np.empty((int(images), 3)), np.empty((int(images), 4), dtype=np.int64)
    centre, moved, vector = np.empty(3), np.empty(3), np.empty(3)
    low, high = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    _place(frac_coords[atom], lattice, centre)
    for number in range(len(frac_coords)):
        for axis in range(3):
            shift = frac_coords[atom, axis] - frac_coords[number, axis]
            low[axis] = math.ceil(shift - reach / heights[axis] - 1e-6)
            high[axis] = math.floor(shift + reach / heights[axis] + 1e-6)
        for a in range(low[0], high[0] + 1):
            for b in range(low[1], high[1] + 1):
                for c in range(low[2], high[2] + 1):
                    moved[0] = frac_coords[number, 0] + a
                    moved[1] = frac_coords[number, 1] + b
                    moved[2] = frac_coords[number, 2] + c
                    _place(moved, lattice, vector)
                    vector -= centre
                    if _dot(vector, vector) > (reach + EDGE) ** 2:
                        continue
                    vectors[count] = vector
                    around[count, 0], around[count, 1], around[count, 2], around[count, 3] = number, a, b, c
                    count += 1
    return _nearest_first(vectors[:count], around[:count])


@compiled
@no_type_check
def _nearest_first(vectors: Array, around: Array) -> tuple[Array, Array]:
    squares, near, names = np.empty(len(vectors)), np.empty_like(vectors), np.empty_like(around)
    for k in range(len(vectors)):
        squares[k] = _dot(vectors[k], vectors[k])
    order = np.argsort(squares)
    for k in range(len(vectors)):
        near[k], names[k] = vectors[order[k]], around[order[k]]
    return near, names


@compiled
@no_type_check
def _cell(vectors: Array, reach: float, room: Room) -> tuple[int, int]:
    """Writes the faces of the cell of the first atom, which is at 0, to `room`; returns its state and their number."""
    polygons, sizes, owners = room
    for face in range(6):
        polygons[face, :4] = FAR * CUBE[face]
        sizes[face], owners[face] = 4, -1
    n_faces, farthest, doubtful = 6, math.sqrt(3.0) * FAR, False
    plane = np.empty(4)
    for other in range(1, len(vectors)):
        distance = math.sqrt(_dot(vectors[other], vectors[other]))
        if distance >= 2 * farthest:
            break
        if distance < SAME_PLACE:
            doubtful = True
            continue
        plane[:3], plane[3] = vectors[other] / distance, distance / 2
        n_faces, changed = _cut(plane, other, n_faces, room)
        if n_faces < 0:
            return DOUBTFUL, 0
        if changed:
            doubtful = doubtful or distance > reach - EDGE
            farthest = _farthest(n_faces, room)
    for face in range(n_faces):
        if owners[face] < 0 and sizes[face] > 0:
            return OPEN, 0
    return (DOUBTFUL if doubtful else CLOSED), n_faces


@compiled
@no_type_check
def _farthest(n_faces: int, room: Room) -> float:
    """Returns the distance of the farthest corner."""
    polygons, sizes, _ = room
    square = 0.0
    for face in range(n_faces):
        for corner in range(sizes[face]):
            square = max(square, _dot(polygons[face, corner], polygons[face, corner]))
    return math.sqrt(square)


@compiled
@no_type_check
def _cut(plane: Array, other: int, n_faces: int, room: Room) -> tuple[int, bool]:
    """Cuts off the part with n.x > d for a plane (n, d); returns the number of faces (-1: too many), and if it cut."""
    polygons, sizes, owners = room
    corners, n_corners, free, changed = np.empty((MAX_FACES, 3)), 0, n_faces, False
    heights, kept = np.empty(MAX_CORNERS), np.empty((MAX_CORNERS, 3))
    for face in range(n_faces):
        highest = -FAR
        for corner in range(sizes[face]):
            heights[corner] = _dot(polygons[face, corner], plane) - plane[3]
            highest = max(highest, heights[corner])
        if highest > ON_PLANE:
            changed = True
            size, leaves = _clip(polygons[face, : sizes[face]], heights, kept)
            if size < 0:
                return -1, True
            # The outline of each cut face leaves the remaining half-space once; that point is a corner of the new face.
            if leaves >= 0:
                corners[n_corners] = kept[leaves]
                n_corners += 1
            polygons[face, :size] = kept[:size]
            sizes[face] = size if size > 2 else 0
        if sizes[face] == 0:
            free = face
    if n_corners < 3:
        return n_faces, changed
    n_faces = max(n_faces, free + 1)
    if n_faces > MAX_FACES or n_corners > MAX_CORNERS:
        return -1, True
    _order(corners[:n_corners], plane[:3])
    polygons[free, :n_corners] = corners[:n_corners]
    sizes[free], owners[free] = n_corners, other
    return n_faces, True


@compiled
@no_type_check
def _clip(polygon: Array, heights: Array, kept: Array) -> tuple[int, int]:
    """Writes the part of a polygon below a plane to `kept`; returns its size (-1: too many) and where it is left.

    Sutherland and Hodgman 1974, doi:10.1145/360767.360802, for one plane; heights: n.x - d of each corner.
    """
    size, leaves = 0, -1
    for corner in range(len(polygon)):
        following = corner + 1 if corner + 1 < len(polygon) else 0
        here, there = heights[corner], heights[following]
        if size + 2 > len(kept):
            return -1, -1
        if here <= ON_PLANE:
            kept[size] = polygon[corner]
            size += 1
        if (here <= ON_PLANE) != (there <= ON_PLANE):
            share = min(max(here / (here - there), 0.0), 1.0)
            kept[size] = polygon[corner] + share * (polygon[following] - polygon[corner])
            leaves = size if here <= ON_PLANE else leaves
            size += 1
    return size, leaves


@compiled
@no_type_check
def _order(corners: Array, normal: Array) -> None:
    """Sorts the corners of a convex polygon anticlockwise about the normal, by their angle at the centre."""
    unit = np.zeros(3)
    unit[np.argmin(np.abs(normal))] = 1.0
    right = np.cross(unit, normal)
    up = np.cross(normal, right)
    middle = np.zeros(3)
    for corner in range(len(corners)):
        middle += corners[corner] / len(corners)
    turns = np.empty(len(corners))
    for corner in range(len(corners)):
        ray = corners[corner] - middle
        turns[corner] = math.atan2(_dot(ray, up), _dot(ray, right))
    order, before = np.argsort(turns), corners.copy()
    for corner in range(len(corners)):
        corners[corner] = before[order[corner]]


@compiled
@no_type_check
def _angle_and_area(polygon: Array, distance: float) -> tuple[float, float]:
    """Returns the solid angle (sr) and the area (Å²) of a face, seen from 0; `distance` is that of the atom behind it.

    Both are sums over the triangles (a, b, c) of a fan. Solid angle (van Oosterom and Strackee 1983,
    doi:10.1109/TBME.1983.325207, eq. 8): tan(omega / 2) = |a.(b x c)| / (abc + c a.b + b a.c + a b.c). The pyramid of a
    triangle has the volume |a.(b x c)| / 6 = area h / 3 with the height h = distance / 2.
    """
    angle, area = 0.0, 0.0
    a = polygon[0]
    length_a = math.sqrt(_dot(a, a))
    for corner in range(1, len(polygon) - 1):
        b, c = polygon[corner], polygon[corner + 1]
        length_b, length_c = math.sqrt(_dot(b, b)), math.sqrt(_dot(c, c))
        volume = abs(_dot(a, np.cross(b, c)))
        rest = length_a * length_b * length_c
        rest += length_c * _dot(a, b) + length_b * _dot(a, c) + length_a * _dot(b, c)
        angle += 2 * math.atan2(volume, rest)
        area += volume / distance
    return angle, area


@compiled
@no_type_check
def _place(frac: Array, lattice: Array, out: Array) -> None:
    # In this order without fused operations: the digits are those of NumPy's product, so of pymatgen's coordinates.
    for axis in range(3):
        out[axis] = frac[0] * lattice[0, axis] + frac[1] * lattice[1, axis] + frac[2] * lattice[2, axis]


@compiled
@no_type_check
def _dot(a: Array, b: Array) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
