"""From the text of one crystal to its standard cell, prepared as CDVAE prepares its data (Xie et al. 2022).

Reading a CIF with pymatgen costs milliseconds, because it must be ready for anything. The CIFs of the published data
sets all have one plain layout (space group P 1, fully occupied), which `read_plain_cif` reads some twenty times faster
with the same result; everything else goes to pymatgen.
"""

import functools
import json
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from pymatgen.core import Composition, DummySpecies, Element, Lattice, Structure

from xtalgen.crystals import MAX_ATOMIC_NUMBER
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.structure.pymatgen import wrap

SMALLEST_VOLUME = 0.1  # Å³ per cell, the bound of CDVAE's structural validity
SMALLEST_SPACING = 0.01  # Å between opposite faces of the cell, the bound of pymatgen's CIF reader
SAME_SITE = 1e-4  # fractional; pymatgen merges sites that are closer
THIRDS = (1 / 3, 2 / 3)
THIRDS_TOLERANCE = 1e-4  # relative; pymatgen reads 0.3333 as one third

NUMBER = r"(-?\d+(?:\.\d*)?)"
PLAIN_CELL = re.compile(
    r"\s+".join(rf"_cell_length_{axis}\s+{NUMBER}" for axis in "abc")
    + "".join(rf"\s+_cell_angle_{angle}\s+{NUMBER}" for angle in ("alpha", "beta", "gamma"))
    + r"\s"
)
PLAIN_SITES = re.compile(
    r"loop_\s+_symmetry_equiv_pos_site_id\s+_symmetry_equiv_pos_as_xyz\s+1\s+'x, y, z'\s+loop_\s+"
    r"_atom_site_type_symbol\s+_atom_site_label\s+_atom_site_symmetry_multiplicity\s+_atom_site_fract_x\s+"
    r"_atom_site_fract_y\s+_atom_site_fract_z\s+_atom_site_occupancy\s"
)
PLAIN_COORDINATE = re.compile(r"-?\d+\.\d*")
ELEMENTS = {Element.from_Z(number).symbol: number for number in range(1, MAX_ATOMIC_NUMBER + 1)}
ISOTOPES = {"D", "T"}


class CrystalError(ValueError):
    """A crystal cannot be used; `status` is the one of its row, the message says why."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status, self.message = status, message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Cell:
    """A cell and its atoms: lattice rows a, b, c in Å, fractional coordinates, atomic numbers."""

    lattice: Float[np.ndarray, "3 3"]
    frac_coords: Float[np.ndarray, "atoms 3"]
    atomic_numbers: UInt8[np.ndarray, " atoms"]


def read_crystal(text: str) -> Cell:
    """Returns the cell that a text describes, as it stands there: CIF, POSCAR or the JSON of a pymatgen structure.

    Atoms come in the order of pymatgen's CIF reader: by electronegativity, then as in the text. Raises CrystalError
    with status unparsable, disordered, unknown_element or bad_lattice.
    """
    if not text.strip():
        raise CrystalError("unparsable", "there is no text for this crystal")
    if text.lstrip().startswith("{"):
        return read_json(text)
    return read_cif(text) if "_cell_" in text or "_atom_site_" in text else read_poscar(text)


def read_cif(text: str) -> Cell:
    """Returns the cell of the first structure of a CIF text; errors as in `read_crystal`."""
    plain = read_plain_cif(text)
    if plain is not None:
        return plain
    from pymatgen.io.cif import CifParser  # takes seconds and is seldom needed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser: Any = None
        try:
            parser = CifParser.from_str(text)
            structure = parser.parse_structures(primitive=False, on_error="ignore")[0]
        except Exception as error:  # the text may break pymatgen's reader in any way
            said = " ".join([*(parser.warnings[-1:] if parser else []), f"{type(error).__name__}: {error}"])
            raise CrystalError("unparsable", "not a readable CIF: " + " ".join(said.split())) from error
    return _from_structure(structure)


def read_plain_cif(text: str) -> Cell | None:
    """Returns the cell of a plain P 1 CIF as pymatgen writes it, or None when the text is anything else.

    Equals `CifParser.parse_structures(primitive=False)`: thirds are completed, atoms sorted. Raises CrystalError on an
    unknown element or an impossible cell.
    """
    cell, head = PLAIN_CELL.search(text), PLAIN_SITES.search(text)
    if cell is None or head is None or text.count("_atom_site_label") != 1 or text.count("data_") != 1:
        return None
    fields = text[head.end() :].split()
    symbols, coordinates = fields[0::7], fields[3::7] + fields[4::7] + fields[5::7]
    if not fields or len(fields) % 7 or set(fields[2::7]) != {"1"} or not set(fields[6::7]) <= {"1", "1.0"}:
        return None
    if not all(PLAIN_COORDINATE.fullmatch(value) for value in coordinates):
        return None
    numbers = _atomic_numbers(symbols)
    if numbers is None:
        return None
    frac_coords = _complete_thirds(np.array(coordinates, dtype=np.float64).reshape(3, -1).T)
    if _has_merged_sites(frac_coords):
        return None
    order = np.array(sorted(range(len(numbers)), key=lambda i: _sort_keys()[numbers[i]]))
    parameters = [float(value) for value in cell.groups()]
    return Cell(_lattice(parameters), wrap(frac_coords[order]), np.array(numbers, dtype=np.uint8)[order])


def read_poscar(text: str) -> Cell:
    """Returns the cell of a POSCAR text that names its elements; errors as in `read_crystal`."""
    from pymatgen.io.vasp import Poscar  # as above

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Elements in POSCAR cannot be determined")
        try:
            structure = Poscar.from_str(text, read_velocities=False).structure
        except Exception as error:  # as above
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise CrystalError("unparsable", f"neither a readable CIF nor a readable POSCAR: {said}") from error
    return _from_structure(structure.get_sorted_structure())


def read_json(text: str) -> Cell:
    """Returns the cell of a pymatgen structure's JSON; errors as in `read_crystal`."""
    try:
        structure = Structure.from_dict(json.loads(text))
    except Exception as error:  # as above
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise CrystalError("unparsable", f"not the JSON of a pymatgen structure: {said}") from error
    return _from_structure(structure.get_sorted_structure())


def standardise(cell: Cell) -> Cell:
    """Returns the Niggli-reduced cell in the canonical orientation of `lattice_from_parameters`, coordinates in [0, 1).

    As in CDVAE's preprocessing: pymatgen's reduction (tolerance 1e-5), then the lattice anew from its lengths and
    angles. (Other libraries' reductions pick other cells in one of five crystals of MP-20, so this one it must be.)
    Atoms keep their order. Raises CrystalError with status bad_lattice.
    """
    _check_lattice(cell.lattice)
    if not np.all(np.isfinite(cell.frac_coords)):
        raise CrystalError("unparsable", "a coordinate is not a finite number")
    try:
        reduced = Lattice(cell.lattice).get_niggli_reduced_lattice()
    except (ValueError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError) as error:
        raise CrystalError("bad_lattice", f"no Niggli reduction of the cell: {error}") from error
    # The new axes are whole-number combinations of the old ones; rounding keeps special positions exact.
    combinations = np.rint(reduced.matrix @ np.linalg.inv(cell.lattice))
    frac_coords = cell.frac_coords @ np.rint(np.linalg.inv(combinations))
    lattice = lattice_from_parameters(np.array(reduced.lengths), np.array(reduced.angles))
    return Cell(lattice, wrap(frac_coords), cell.atomic_numbers)


def reduced_formula(atomic_numbers: np.ndarray) -> str:
    """Returns the reduced formula, such as "Fe2O3"."""
    return _formula(tuple(sorted(Counter(atomic_numbers.tolist()).items())))


@functools.lru_cache(maxsize=100_000)
def _formula(counts: tuple[tuple[int, int], ...]) -> str:
    return Composition({Element.from_Z(number): count for number, count in counts}).reduced_formula


@functools.cache
def _sort_keys() -> dict[int, tuple[float, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity; they never take the fast path
        return {number: (Element(symbol).X, symbol) for symbol, number in ELEMENTS.items()}


def _atomic_numbers(symbols: list[str]) -> list[int] | None:
    numbers = [ELEMENTS.get(symbol, 0) for symbol in symbols]
    for symbol, number in zip(symbols, numbers, strict=True):
        if number == 0 and symbol.isalpha() and symbol not in ISOTOPES:
            raise CrystalError("unknown_element", f"there is no element {symbol!r}")
        if number == 0 or np.isnan(_sort_keys()[number][0]):
            return None
    return numbers


def _complete_thirds(frac_coords: np.ndarray) -> np.ndarray:
    for third in THIRDS:
        frac_coords = np.where(np.abs(frac_coords / third - 1) <= THIRDS_TOLERANCE, third, frac_coords)
    return frac_coords


def _has_merged_sites(frac_coords: np.ndarray) -> bool:
    apart = frac_coords[:, None] - frac_coords[None]
    near = np.all(np.abs(apart - np.rint(apart)) <= SAME_SITE, axis=-1)
    return int(near.sum()) > len(frac_coords)


def _lattice(parameters: list[float]) -> np.ndarray:
    lengths, angles = np.array(parameters[:3]), np.array(parameters[3:])
    if np.any(lengths <= 0):
        raise CrystalError("bad_lattice", f"lengths {lengths.tolist()} Å are not all positive")
    if np.any(angles <= 0) or np.any(angles >= 180):
        raise CrystalError("bad_lattice", f"angles {angles.tolist()}° do not all lie between 0 and 180")
    return lattice_from_parameters(lengths, angles)


def _check_lattice(lattice: np.ndarray) -> None:
    if not np.all(np.isfinite(lattice)):
        raise CrystalError("bad_lattice", "the cell holds a number that is not finite")
    volume = abs(float(np.linalg.det(lattice)))
    if volume < SMALLEST_VOLUME:
        raise CrystalError("bad_lattice", f"the cell's volume is {volume:.3g} Å³, less than {SMALLEST_VOLUME}")
    spacing = 1 / float(np.linalg.norm(np.linalg.inv(lattice), axis=0).max())
    if spacing < SMALLEST_SPACING:
        raise CrystalError("bad_lattice", f"the cell is {spacing:.3g} Å thin, less than {SMALLEST_SPACING}")


def _from_structure(structure: Structure) -> Cell:
    # Unlike structures.from_structure this tells what is wrong by a status.
    for site in structure:
        for species in site.species:
            if isinstance(species, DummySpecies):
                raise CrystalError("unknown_element", f"there is no element {species.symbol!r}")
    if not structure.is_ordered:
        raise CrystalError("disordered", "sites are partly occupied; give an ordered structure")
    return Cell(
        np.array(structure.lattice.matrix),
        wrap(np.array(structure.frac_coords)),
        np.array([site.specie.Z for site in structure], dtype=np.uint8),
    )
