"""Space group, conventional cell and occupied Wyckoff positions of crystals: the column `wyckoff`.

The choices of origin and axes in the Euclidean normaliser of a space group give several descriptions of the same
crystal. The column holds the one with the lexicographically first letters, then the smallest coordinates. A crystal and
its mirror image may have the same description. Space groups, standard cells and normalisers are moyo's, with the
tolerance `space_group.SYMPREC`. The cost is about 4 ms per crystal of MP-20 on one core, three quarters of it moyo's
normaliser.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from xtalgen.crystals import Crystal
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.structure.space_group import SYMPREC
from xtalgen.structure.wyckoff_positions import ELEMENT_RANK, close, parse_form, write_operation

KIND = pa.struct(
    [
        pa.field("spg_num", pa.int16()),
        pa.field("generators", pa.string()),  # of the space group, "-x,-y,z;x+1/2,…"
        pa.field("cell", pa.list_(pa.float64())),  # conventional: a, b, c in Å, angles in degrees
        pa.field("atomic_numbers", pa.list_(pa.uint8())),  # one per orbit
        pa.field("letters", pa.string()),  # one per orbit
        pa.field("multiplicities", pa.list_(pa.int16())),  # in the conventional cell
        pa.field("forms", pa.list_(pa.string())),  # the representative coordinates of each letter, "x,2x,1/4"
        pa.field("free", pa.list_(pa.float64())),  # the free ones of x, y, z of each orbit, orbit after orbit
    ]
)
CHUNK = 64  # crystals per task of a worker
SAME = 1e-3  # fractional: closer coordinates are equal
DECIMALS = 3  # of compared coordinates, so that the choice is insensitive to rounding errors
PARTS = 48  # translations of groups and normalisers are multiples of this fraction of a lattice vector

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Site:
    """An orbit of atoms. form: the representative coordinates of its Wyckoff position; free: those of x, y, z in it."""

    atomic_number: int
    letter: str
    multiplicity: int
    form: str
    free: tuple[float, ...]

    @cached_property
    def order(self) -> tuple[int, str, tuple[float, ...]]:
        """The sort key of sites: element, letter, coordinates."""
        return ELEMENT_RANK[self.atomic_number], self.letter, _rounded(self.free)


@dataclass(frozen=True)
class Setting:
    """One description of a crystal: its conventional cell, row vectors in Å, and its sites in order."""

    basis: Float[np.ndarray, "3 3"]
    sites: tuple[Site, ...]

    @cached_property
    def order(self) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
        """The key of the smallest description: letters, then coordinates."""
        return tuple(site.letter for site in self.sites), tuple(site.order[-1] for site in self.sites)


@dataclass(frozen=True)
class Standard:
    """A crystal in moyo's standard cell. orbits: symmetry-equivalent atoms; polar: axes of free origin."""

    hall_number: int
    basis: Float[np.ndarray, "3 3"]
    coords: Float[np.ndarray, "atoms 3"]
    atomic_numbers: Int[np.ndarray, " atoms"]

    @cached_property
    def orbits(self) -> list[Int[np.ndarray, " members"]]:
        """The atoms of each orbit."""
        rotations, translations = _operations(self.hall_number)
        left, orbits = np.ones(len(self.coords), dtype=bool), []
        for atom in range(len(self.coords)):
            if left[atom]:
                images = rotations @ self.coords[atom] + translations
                near = _alike(images[:, None] - self.coords[None]).any(axis=0)
                members = np.flatnonzero(near & (self.atomic_numbers == self.atomic_numbers[atom]))
                left[members] = False
                orbits.append(members)
        return orbits

    @cached_property
    def polar(self) -> Int[np.ndarray, " axes"]:
        """The axes that every operation keeps: the group does not fix the origin along them."""
        rotations, _ = _operations(self.hall_number)
        return np.flatnonzero((rotations == np.eye(3)).all(axis=(0, 1)))


def describe_chunk(crystals: Sequence[Crystal]) -> list[dict[str, Any] | None]:
    """Returns `describe` of each crystal: the task of a worker process."""
    return [describe(crystal) for crystal in crystals]


def describe(crystal: Crystal, symprec: float = SYMPREC) -> dict[str, Any] | None:
    """Returns the value of the column `wyckoff`, None for a crystal that is not ok or that moyo cannot analyse.

    None too where the cell holds several primitive cells within the tolerance. symprec: in Å.
    """
    from moyopy import Cell, MoyoDataset

    if not crystal.ok:
        return None
    logging.getLogger("moyo").setLevel(logging.ERROR)  # it warns about every cell that is not primitive
    parts = (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers)
    try:
        found = MoyoDataset(Cell(*(part.tolist() for part in parts)), symprec=symprec)
        normaliser = found.normalizer_wyckoff_positions()
    except Exception:  # noqa: BLE001 - moyo raises its own kinds
        return None
    if len(found.prim_std_cell.numbers) != crystal.n_atoms:
        return None
    cell = found.std_cell
    standard = Standard(found.hall_number, np.array(cell.basis), np.array(cell.positions), np.array(cell.numbers))
    setting = min(_settings(standard, normaliser), key=lambda one: one.order, default=None)
    if setting is None:
        return None
    lengths, angles = lattice_to_parameters(setting.basis)
    return {
        "spg_num": int(found.number),
        "generators": _generators(found.hall_number),
        "cell": [*lengths.tolist(), *angles.tolist()],
        "atomic_numbers": [site.atomic_number for site in setting.sites],
        "letters": "".join(site.letter for site in setting.sites),
        "multiplicities": [site.multiplicity for site in setting.sites],
        "forms": [site.form for site in setting.sites],
        "free": [value for site in setting.sites for value in site.free],
    }


def _settings(standard: Standard, normaliser: Any) -> Iterator[Setting]:
    """Yields every allowed description: operations of the normaliser times origins along polar axes.

    An operation x → P x + p of the normaliser first keeps the letter of every atom, then changes letters. The new
    coordinates refer to a cell whose axes are the old ones times P⁻¹. The cells agree only to moyo's tolerance: nearly
    equal a and b may be swapped.
    """
    keeping = _distinct(normaliser.stabilizer, standard.hall_number)
    for changing, positions in normaliser.coset_representatives:
        for kept in keeping:
            basis = np.linalg.solve((np.array(changing.linear) @ np.array(kept.linear)).T, standard.basis)
            coords = _moved(changing, _moved(kept, standard.coords))
            for origin in _origins(standard, positions, coords):
                sites = _sites(standard, positions, coords - origin)
                if sites is not None:
                    yield Setting(basis, sites)


def _distinct(operations: Sequence[Any], hall_number: int) -> list[Any]:
    """Returns the operations of a normaliser modulo those of the space group, which give the same description.

    This shortens the search considerably.
    """
    rotations, translations = _operations(hall_number)
    chosen: list[Any] = []
    known: set[bytes] = set()
    for operation in operations:
        whole = np.round(PARTS * _moved(operation, translations)).astype(np.int64) % PARTS
        products = (np.array(operation.linear) @ rotations).reshape(-1, 9)
        same = {row.tobytes() for row in np.concatenate([products, whole], axis=1)}
        if same.isdisjoint(known):
            chosen.append(operation)
            known |= same
    return chosen


def _moved(operation: Any, coords: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    return coords @ np.array(operation.linear).T + np.array(operation.origin_shift)


def _origins(
    standard: Standard, positions: Sequence[Any], coords: Float[np.ndarray, "atoms 3"]
) -> Float[np.ndarray, "origins 3"]:
    """Returns the origins to try: along polar axes, at each atom of the orbits that may come first."""
    if len(standard.polar) == 0:
        return np.zeros((1, 3))
    places = [
        (ELEMENT_RANK[number], position.letter)
        for number, position in zip(standard.atomic_numbers.tolist(), positions, strict=True)
    ]
    first = min(places)
    members = [atom for atom, place in enumerate(places) if place == first]
    origins = np.zeros((len(members), 3))
    origins[:, standard.polar] = coords[members][:, standard.polar] % 1.0
    _, kept = np.unique(origins.round(6), axis=0, return_index=True)
    return origins[np.sort(kept)]


def _sites(
    standard: Standard, positions: Sequence[Any], coords: Float[np.ndarray, "atoms 3"]
) -> tuple[Site, ...] | None:
    """Returns the sites in order; None where atoms are not on their expected positions."""
    sites = []
    for members in standard.orbits:
        position = positions[members[0]]
        free = _free(position.coordinates, coords[members])
        if free is None or len(members) != position.multiplicity:
            return None
        number = int(standard.atomic_numbers[members[0]])
        sites.append(Site(number, position.letter, position.multiplicity, position.coordinates, free))
    return tuple(sorted(sites, key=lambda site: site.order))


def _free(form: str, coords: Float[np.ndarray, "members 3"]) -> tuple[float, ...] | None:
    """Returns the smallest free coordinates among members of an orbit that have its representative's form."""
    matrix, shift, rows, axes = parse_form(form)
    free = coords[:, rows] - shift[rows]
    fits = _alike(free @ matrix[:, axes].T + shift - coords)
    values = free[fits] % 1.0
    values[values > 1.0 - SAME] = 0.0
    return min(map(tuple, values.tolist()), key=_rounded, default=None)


def _alike(differences: Float[np.ndarray, "*shape 3"]) -> np.ndarray:
    return (np.abs(differences - np.round(differences)) < SAME).all(axis=-1)


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, DECIMALS) for value in values)


@cache
def _operations(hall_number: int) -> tuple[Int[np.ndarray, "operations 3 3"], Float[np.ndarray, "operations 3"]]:
    from moyopy import HallSymbolEntry, Setting, operations_from_number

    number = HallSymbolEntry(hall_number).number
    operations = operations_from_number(number, setting=Setting.hall_number(hall_number))
    return np.array(operations.rotations), np.array(operations.translations)


@cache
def _generators(hall_number: int) -> str:
    """Returns operations whose products are the space group, modulo lattice translations."""
    chosen: list[str] = []
    known = close("")
    for rotation, translation in zip(*_operations(hall_number), strict=True):
        text = write_operation(rotation, translation)
        if text not in known:
            chosen.append(text)
            known = close(";".join(chosen))
    return ";".join(chosen)
