"""Stage `bonds`: the neighbours that CDVAE's encoder sees, added to a split's table as the column `bonds`.

Neighbours are those of CrystalNN as pure geometry (Pan et al. 2021; CDVAE's settings: no distance cut-off, no weight
for electronegativity, no correction for pores): Voronoi cells and the solid angles of their faces. Here the cells are
cut from the nearest atoms alone wherever these provably bound them, which gives pymatgen's bonds several times faster.
"""

import itertools
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int
from scipy.spatial import Voronoi

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.parallel import Failure, map_items
from xtalgen.resume import clear, content_key, map_resumably

COLUMNS = {"bonds": pa.list_(pa.int16()), "bonds_source": pa.string()}
CUTOFF = 7.0  # Å: atoms that CrystalNN cuts a cell from, and the reach of the fallback
FEW = 48  # atoms cut a first cell; enough for nine atoms of ten in MP-20
NEIGHBOURS = 20  # of the fallback
SAME_PLACE = 1e-4  # Å²: atoms nearer than this are the same to the fallback
CHUNK = 16  # crystals per task of a worker
CORNERS = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]], dtype=np.float64)

log = logging.getLogger(__name__)


def add_bonds(table: Path, *, out: Path, work: Path, workers: int, timeout: float) -> None:
    """Writes the crystal table with the columns `bonds` and `bonds_source`.

    bonds: numbers i, j, a, b, c of one bond after the other: atom i is bonded to atom j in the cell shifted by
    (a, b, c), i ≤ j, each bond once; null where the crystal is not ok. bonds_source: "crystal_nn", or "radius" where
    CrystalNN has no answer or none within `timeout` seconds: then every atom is bonded to its 20 nearest within 7 Å.
    Finished parts survive a kill in `work`. Raises ContractError when the table is none.
    """
    read = read_table(table)
    crystals = from_table(read)
    usable = [crystal for crystal in crystals if crystal.ok]
    chunks = [usable[start : start + CHUNK] for start in range(0, len(usable), CHUNK)]
    found = map_resumably(
        bonds_of_chunk,
        chunks,
        work=work,
        key=content_key(table, few=FEW, cutoff=CUTOFF),
        workers=workers,
        timeout=timeout * CHUNK,
        label=f"bonds of {table.stem} (by {CHUNK})",
    )
    answers = iter(
        answer
        for chunk, result in zip(chunks, found, strict=True)
        for answer in (_one_by_one(chunk, timeout) if isinstance(result, Failure) else result)
    )
    rows = [next(answers) if crystal.ok else (None, None) for crystal in crystals]
    fallen = sum(source == "radius" for _, source in rows)
    if fallen:
        log.warning("%s: no CrystalNN bonds for %d of %d crystals; radius graph instead", table, fallen, len(usable))
    columns = {name: (kind, [row[place] for row in rows]) for place, (name, kind) in enumerate(COLUMNS.items())}
    write_table(replace_columns(read, columns), out, **{**read_metadata(read), "bonds_fallbacks": str(fallen)})
    clear(work)


def bonds_of_chunk(crystals: Sequence[Crystal]) -> list[tuple[list[int], str]]:
    """Returns bonds and their source for each crystal: the task of a worker process."""
    return [bonds_of(crystal) for crystal in crystals]


def bonds_of(crystal: Crystal) -> tuple[list[int], str]:
    """Returns the numbers of the column `bonds`, and where they are from: "crystal_nn" or "radius"."""
    try:
        bonds = crystal_nn_bonds(crystal.lattice, crystal.frac_coords)
    except (ValueError, RuntimeError, MemoryError):  # Qhull's errors are ValueErrors or RuntimeErrors
        return _fallback(crystal)
    return [number for bond in bonds for number in bond], "crystal_nn"


def crystal_nn_bonds(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "atoms 3"]
) -> list[tuple[int, int, int, int, int]]:
    """Returns the bonds (i, j, a, b, c) that pymatgen's StructureGraph holds with CrystalNN, sorted.

    An atom's own neighbours are the faces of its Voronoi cell down to the weight (solid angle over that of the largest
    face, to three decimals) after which the quarter circle above the weights has its largest slice. i and j are bonded
    when either has the other. Raises RuntimeError when a cell stays open, ValueError when Qhull fails.
    """
    bonds = set()
    for i, surroundings in enumerate(_surroundings(lattice, frac_coords, CUTOFF)):
        numbers, cells, others, angles = _cell(lattice, frac_coords, i, surroundings)
        for k in others[_chosen(angles)]:
            bonds.add(_canonical(i, int(numbers[k]), cells[k]))
    return sorted(bonds)


def radius_bonds(
    lattice: Float[np.ndarray, "3 3"], frac_coords: Float[np.ndarray, "atoms 3"]
) -> list[tuple[int, int, int, int, int]]:
    """Returns as bonds the 20 nearest atoms within 7 Å of every atom, sorted."""
    bonds = set()
    for i, (vectors, numbers, cells) in enumerate(_surroundings(lattice, frac_coords, CUTOFF)):
        near = np.flatnonzero((vectors**2).sum(axis=1) > SAME_PLACE)[:NEIGHBOURS]
        bonds |= {_canonical(i, int(numbers[k]), cells[k]) for k in near}
    return sorted(bonds)


Surroundings = tuple[np.ndarray, np.ndarray, np.ndarray]


def _surroundings(lattice: np.ndarray, frac_coords: np.ndarray, cutoff: float) -> list[Surroundings]:
    """Returns for each atom the atoms around it, itself first: vectors (Å) by growing length, numbers, cells."""
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.ceil(cutoff / heights).astype(int) + 1
    cells = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
    cart = frac_coords @ lattice
    places = (cart + (cells @ lattice)[:, None]).reshape(-1, 3)
    numbers, cells = np.tile(np.arange(len(cart)), len(cells)), np.repeat(cells, len(cart), axis=0)
    found = []
    for centre in cart:
        vectors = places - centre
        squares = (vectors**2).sum(axis=1)
        near = np.flatnonzero(squares <= cutoff**2)
        near = near[np.argsort(squares[near], kind="stable")]
        found.append((vectors[near], numbers[near], cells[near]))
    return found


def _cell(
    lattice: np.ndarray, frac_coords: np.ndarray, atom: int, around: Surroundings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns numbers and cells of the atoms around one, and its faces: atoms behind them and solid angles.

    While the cell stays open the surroundings are widened as pymatgen does it.
    """
    vectors, numbers, cells = around
    if len(vectors) > FEW:
        faces = _faces(vectors[:FEW])
        # A vertex at distance r knows all atoms within 2 r: no atom farther away can cut the cell.
        if faces is not None and 2 * faces[2] <= np.linalg.norm(vectors[FEW]):
            return numbers, cells, faces[0], faces[1]
    faces, cutoff = _faces(vectors), CUTOFF
    widest = float(np.linalg.norm(CORNERS @ lattice, axis=1).max()) + 0.01
    while faces is None:
        if cutoff >= widest:
            raise RuntimeError(f"the Voronoi cell of atom {atom} is open")
        cutoff = min(2 * cutoff, widest + 0.001)
        vectors, numbers, cells = _surroundings(lattice, frac_coords, cutoff)[atom]
        faces = _faces(vectors)
    return numbers, cells, faces[0], faces[1]


def _faces(
    vectors: Float[np.ndarray, "points 3"],
) -> tuple[Int[np.ndarray, " faces"], Float[np.ndarray, " faces"], float] | None:
    """Returns the faces of the Voronoi cell of the first point, which lies at 0, or None when it is open.

    Faces as the points behind them and their solid angles (van Oosterom and Strackee 1983), and the distance of the
    farthest vertex.
    """
    if len(vectors) < 5:
        return None
    diagram = Voronoi(vectors)
    mine = np.flatnonzero((diagram.ridge_points == 0).any(axis=1))
    rings = [diagram.ridge_vertices[face] for face in mine]
    if any(-1 in ring for ring in rings):
        return None
    fans = np.array([(ring[0], ring[k], ring[k + 1]) for ring in rings for k in range(1, len(ring) - 1)])
    a, b, c = (diagram.vertices[fans[:, corner]] for corner in range(3))
    lengths = [np.linalg.norm(corner, axis=1) for corner in (a, b, c)]
    volume = np.abs((a * np.cross(b, c)).sum(axis=1))
    rest = lengths[0] * lengths[1] * lengths[2]
    for left, right, length in ((a, b, lengths[2]), (a, c, lengths[1]), (b, c, lengths[0])):
        rest = rest + length * (left * right).sum(axis=1)
    owner = np.repeat(np.arange(len(rings)), [len(ring) - 2 for ring in rings])
    angles = np.bincount(owner, 2 * np.arctan2(volume, rest), minlength=len(rings))
    farthest = max(float(length.max()) for length in lengths)
    return diagram.ridge_points[mine].sum(axis=1), angles, farthest


# The weight of a face is rounded as pymatgen rounds it: NumPy's round differs in the last digit.
def _chosen(angles: Float[np.ndarray, " faces"]) -> Bool[np.ndarray, " faces"]:
    """Returns which faces CrystalNN takes for neighbours."""
    weights = np.array([round(angle, 3) for angle in (angles / angles.max()).tolist()])
    steps = [*sorted({weight for weight in weights.tolist() if weight > 0}, reverse=True), 0.0]
    areas = [_quarter_circle(step) for step in steps]
    slices = [upper - lower for upper, lower in itertools.pairwise(areas)]
    return weights >= steps[int(np.argmax(slices))]


def _quarter_circle(width: float) -> float:
    """Returns the area under the unit circle between 0 and width."""
    if width == 1:
        return math.pi / 4
    height = math.sqrt(1 - width**2)
    return (width * height + math.atan(width / height)) / 2


def _canonical(i: int, j: int, cell: np.ndarray) -> tuple[int, int, int, int, int]:
    """Returns a bond as it stands in the table: i ≤ j, and of an atom's bond to itself the later of both cells."""
    shift = (int(cell[0]), int(cell[1]), int(cell[2]))
    if j < i or (i == j and shift < (0, 0, 0)):
        i, j, shift = j, i, (-shift[0], -shift[1], -shift[2])
    return i, j, *shift


def _one_by_one(crystals: Sequence[Crystal], timeout: float) -> list[tuple[list[int], str]]:
    """Returns the bonds of a chunk that failed as a whole; only the crystals that fail alone fall back."""
    results = map_items(bonds_of, crystals, workers=1, timeout=timeout, label="bonds (again)")
    return [
        _fallback(crystal) if isinstance(result, Failure) else result
        for crystal, result in zip(crystals, results, strict=True)
    ]


def _fallback(crystal: Crystal) -> tuple[list[int], str]:
    bonds = radius_bonds(crystal.lattice, crystal.frac_coords)
    return [number for bond in bonds for number in bond], "radius"
