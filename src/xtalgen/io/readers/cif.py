"""CIF: from the text of a data block to a crystal, its symmetry applied.

The CIFs of the published data sets have one plain layout (space group P 1, fully occupied), which `read_plain_cif`
reads some fifteen times faster than pymatgen. `read_block_of_cif` reads all others. Both agree with pymatgen's reader
where that is right. Atoms have the same order: by electronegativity, then as in the text.
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.io.checks import (
    ISOTOPES,
    NUMBERS,
    atomic_number,
    check_coordinates,
    is_ambiguous,
    make_crystal,
    make_lattice,
)
from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.cif_symmetry import (
    SAME_SITE,
    Symmetry,
    choose,
    move_to_special_position,
    read_formula_sum,
    read_symmetries,
    same_place,
    unique_images,
)
from xtalgen.io.readers.cif_syntax import (
    PLACEHOLDERS,
    Block,
    check_items,
    count_decimals,
    read_block,
    read_number,
    split_blocks,
)
from xtalgen.structure.standard_cell import sort_atoms

THIRDS = (1 / 3, 2 / 3)
THIRDS_TOLERANCE = 1e-4  # relative; pymatgen reads 0.3333 as one third
FULL = 1e-6  # tolerance for the sum of occupancies at a position

DIGITS = r"(-?\d+(?:\.\d*)?)"
PLAIN_CELL = re.compile(
    r"\s+".join(rf"_cell_length_{axis}\s+{DIGITS}" for axis in "abc")
    + "".join(rf"\s+_cell_angle_{angle}\s+{DIGITS}" for angle in ("alpha", "beta", "gamma"))
    + r"\s"
)
PLAIN_SITES = re.compile(
    r"loop_\s+_symmetry_equiv_pos_site_id\s+_symmetry_equiv_pos_as_xyz\s+1\s+'x, y, z'\s+loop_\s+"
    r"_atom_site_type_symbol\s+_atom_site_label\s+_atom_site_symmetry_multiplicity\s+_atom_site_fract_x\s+"
    r"_atom_site_fract_y\s+_atom_site_fract_z\s+_atom_site_occupancy\s"
)
PLAIN_FORMULA = re.compile(r"_chemical_formula_sum\s+(?:'([^'\n]*)'|(\S+))")
PLAIN_UNITS = re.compile(r"_cell_formula_units_Z\s+(\d+)\s")
PLAIN_COORDINATES = re.compile(r"(?:-?\d+\.\d* )+")
PLAIN_NUMBERS = {symbol: number for symbol, number in NUMBERS.items() if symbol not in ISOTOPES}
LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
COORDINATES = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
SYSTEMS = ("_symmetry_cell_setting", "_space_group_crystal_system")
MIXTURE = re.compile(r"[A-Za-z]+[^A-Za-z]*[+/,&|;: ()]+[^A-Za-z]*[A-Za-z]|[A-Z][a-z]?\d*\.\d+[A-Z]")


# Labels of molecules that begin like an element.
GROUPS = re.compile(r"(H2O|D2O|H3O|HOH|OH|OD|NH[234]|CH[23]|CN|[Ww][Aa][Tt])(?![a-z])")


@dataclass(frozen=True)
class Site:
    """A site of a CIF: its label, atomic number, fractional coordinates, their decimals and its occupancy."""

    label: str
    number: int
    coordinates: Float[np.ndarray, " 3"]
    decimals: int
    occupancy: float


def read_cif(text: str) -> Crystal:
    """Returns the crystal of a CIF text; assumptions are listed in `info["warning"]`.

    Raises CrystalError with status unparsable, disordered, unknown_element or bad_lattice; a text with several crystals
    is unparsable, since it belongs to one row.
    """
    plain = read_plain_cif(text)
    if plain is not None:
        return plain
    blocks = split_blocks(text)
    # An additional block without atoms is not a second crystal.
    blocks = [(name, block) for name, block in blocks if "_atom_site" in block.lower()] or blocks[:1]
    if len(blocks) > 1:
        names = ", ".join(f"data_{name}" for name, _ in blocks[:5])
        raise CrystalError("unparsable", f"{len(blocks)} crystals in one text ({names}); give each a row of its own")
    return read_block_of_cif(blocks[0][1])


def read_plain_cif(text: str) -> Crystal | None:
    """Returns the crystal of a plain P 1 CIF as pymatgen writes it, or None when the text is anything else.

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
    if not PLAIN_COORDINATES.fullmatch(" ".join(coordinates) + " "):
        return None
    numbers = [PLAIN_NUMBERS.get(symbol, 0) for symbol in symbols]
    if not all(numbers) or not _formula_agrees(text, numbers):
        return None
    frac_coords = _complete_thirds(np.array(coordinates, dtype=np.float64).reshape(3, -1).T)
    if _has_merged_sites(frac_coords):
        return None
    order = sort_atoms(numbers)
    parameters = [float(value) for value in cell.groups()]
    return make_crystal(
        make_lattice(parameters[:3], parameters[3:]), frac_coords[order], np.array(numbers, dtype=np.uint8)[order]
    )


def read_block_of_cif(text: str) -> Crystal:
    """Returns the crystal of one data block. Errors and `info` as in `read_cif`."""
    block = read_block(text)
    check_items(block, ("_cell_length", "_cell_angle", "_atom_site_fract", "_atom_site_label", "_atom_site_type"))
    if block.column("_cell_modulation_dimension"):
        raise CrystalError("unparsable", "the structure is modulated")
    if not any(name in block.items for name in (*LENGTHS, *COORDINATES)):
        raise CrystalError("unparsable", "there is no cell and there are no atom sites: not a CIF of a crystal")
    warned: list[str] = []
    lattice = _read_lattice(block, warned)
    sites = _read_sites(block, warned)
    symmetry, built = _apply_symmetry(block, sites, lattice)
    frac_coords, numbers, moved = built
    warned += [symmetry.assumed] * bool(symmetry.assumed) + moved
    order = sort_atoms(numbers)
    return make_crystal(
        lattice, frac_coords[order], np.array(numbers)[order], warning="; ".join(dict.fromkeys(warned)) or None
    )


# --- the plain layout --------------------------------------------------------------------------------------------


def _formula_agrees(text: str, numbers: list[int]) -> bool:
    """Whether the atoms agree with the formula of a plain CIF, where it states one, times 1 or Z."""
    formula, units = PLAIN_FORMULA.search(text), PLAIN_UNITS.search(text)
    stated = read_formula_sum(formula[1] or formula[2] or "") if formula else {}
    counts = Counter(numbers)
    multiple = int(units[1]) if units else 1
    return not stated or stated == counts or {z: amount * multiple for z, amount in stated.items()} == counts


def _complete_thirds(frac_coords: np.ndarray) -> np.ndarray:
    for third in THIRDS:
        frac_coords = np.where(np.abs(frac_coords / third - 1) <= THIRDS_TOLERANCE, third, frac_coords)
    return frac_coords


def _has_merged_sites(frac_coords: np.ndarray) -> bool:
    if len(frac_coords) == 1:
        return False
    x, y, z = frac_coords.T
    near = _near(x) & _near(y) & _near(z)
    return int(np.count_nonzero(near)) > len(frac_coords)


def _near(values: np.ndarray) -> np.ndarray:
    """Returns which pairs of coordinates along an axis are equal up to whole cells."""
    apart = values[:, None] - values
    return np.abs(apart - np.rint(apart)) <= SAME_SITE


# --- any layout --------------------------------------------------------------------------------------------------


def _read_lattice(block: Block, warned: list[str]) -> Float[np.ndarray, "3 3"]:
    system = block.value(*SYSTEMS).lower()
    a = block.value(LENGTHS[0])
    equal = {"cubic": (a, a), "tetragonal": (a, ""), "hexagonal": (a, ""), "trigonal": (a, "")}.get(system, ("", ""))
    lengths = [a] + [block.value(name) or other for name, other in zip(LENGTHS[1:], equal, strict=True)]
    for name, length in zip(LENGTHS, lengths, strict=True):
        if not length:
            raise CrystalError("bad_lattice", f"there is no {name}")
    # 90 is the default of the CIF dictionary.
    angles = [block.value(name) or ("120" if system == "hexagonal" and name == ANGLES[2] else "90") for name in ANGLES]
    if not all(block.value(name) for name in (*LENGTHS, *ANGLES)):
        warned.append(f"missing cell parameters: {', '.join([*lengths, *angles])} were assumed")
    try:
        values = [read_number(text) for text in (*lengths, *angles)]
    except ValueError as error:
        raise CrystalError("bad_lattice", f"a cell parameter is not a number: {error}") from error
    return make_lattice(values[:3], values[3:])


def _read_sites(block: Block, warned: list[str]) -> list[Site]:
    columns = [block.column(name) for name in COORDINATES]
    labels, types = block.column("_atom_site_label"), block.column("_atom_site_type_symbol")
    names = labels or types
    if not names or any(column is None for column in columns):
        missing = "fractional coordinates" if names else "_atom_site_ entries"
        raise CrystalError("unparsable", f"there are no {missing}")
    count = len(names)
    occupancies = block.column("_atom_site_occupancy") or ["1"] * count
    flags = block.column("_atom_site_calc_flag") or ["."] * count
    x, y, z = (column or [] for column in columns)
    if any(len(column) != count for column in (x, y, z, occupancies, types or names)):
        raise CrystalError("unparsable", "the columns of the atom sites have different lengths")
    sites = []
    for index, label in enumerate(names):
        occupancy = _read_occupancy(label, occupancies[index])
        if occupancy == 0 or flags[index].lower() == "dum":
            warned.append(f"site {label} is not occupied and was left out")
            continue
        texts = (x[index], y[index], z[index])
        symbol = types[index] if types and types[index].strip() not in PLACEHOLDERS else ""
        number = read_type_symbol(symbol) if symbol else read_label(label, warned)
        coordinates = _read_coordinates(label, texts)
        sites.append(Site(label, number, coordinates, _decimals(texts), occupancy))
    if sites:
        check_coordinates(np.array([site.coordinates for site in sites]))
    return sites


def read_type_symbol(symbol: str) -> int:
    """Returns the atomic number of a type symbol such as "Fe3+". Raises CrystalError: unknown_element or disordered."""
    try:
        return atomic_number(symbol)
    except CrystalError:
        found = re.findall(r"[A-Z][a-z]?", symbol)
        if MIXTURE.search(symbol) and len(found) > 1 and all(element in NUMBERS for element in found):
            raise CrystalError("disordered", f"several elements share the site {symbol!r}") from None
        raise


def read_label(label: str, warned: list[str]) -> int:
    """Returns the atomic number that a site's label begins with, where it has no type symbol: Fe1A, O(1), FeM1, OA1.

    Letters after the element are assumed to number the site, unless they are an element themselves (OH); the assumption
    is appended to `warned`. Raises CrystalError with status unknown_element.
    """
    letters = (re.match(r"[A-Za-z]*", label.strip()) or [""])[0]
    if letters.capitalize() in NUMBERS and not GROUPS.match(label.strip()):
        if is_ambiguous(letters):
            warned.append(f"site {label} was read as {letters.capitalize()}")
        return atomic_number(letters)
    for length in (2, 1):
        symbol, rest = letters[:length].capitalize(), letters[length:]
        # A second capital is not part of the symbol: O in OA1, not an element Oa.
        if symbol in NUMBERS and rest[:1].isupper() and not _is_elements(rest):
            warned.append(f"site {label} was read as {symbol}")
            return NUMBERS[symbol]
    raise CrystalError("unknown_element", f"{label!r} does not begin with an element; give _atom_site_type_symbol")


def _is_elements(letters: str) -> bool:
    """Whether letters are symbols of elements, one after the other."""
    return not letters or any(
        letters[:length].capitalize() in NUMBERS.keys() - ISOTOPES.keys() and _is_elements(letters[length:])
        for length in (1, 2)
        if length <= len(letters) and letters[0].isupper()
    )


def _read_occupancy(label: str, text: str) -> float:
    if text.strip() in PLACEHOLDERS:
        return 1.0  # the default of the CIF dictionary
    try:
        occupancy = read_number(text)
    except ValueError as error:
        raise CrystalError("unparsable", f"the occupancy of {label} cannot be read: {error}") from error
    if occupancy < 0:
        raise CrystalError("unparsable", f"the occupancy of {label} is {occupancy:g}")
    return occupancy


def _read_coordinates(label: str, texts: tuple[str, str, str]) -> Float[np.ndarray, " 3"]:
    if any(text.strip() in PLACEHOLDERS for text in texts):
        raise CrystalError("unparsable", f"the coordinates of {label} are not given: {' '.join(texts)}")
    try:
        values = np.array([read_number(text) for text in texts])
    except ValueError as error:
        raise CrystalError("unparsable", f"the coordinates of {label} cannot be read: {error}") from error
    return _complete_thirds(values)


def _decimals(texts: tuple[str, str, str]) -> int:
    """Returns the decimals of the least precise coordinate; those with one or none count as exact (0, 0.5)."""
    counts = [count_decimals(text) for text in texts]
    return min((count for count in counts if count > 1), default=16)


Built = tuple[Float[np.ndarray, "atoms 3"], list[int], list[str]]


def _apply_symmetry(block: Block, sites: list[Site], lattice: np.ndarray) -> tuple[Symmetry, Built]:
    built: dict[int, Built] = {}

    def build(symmetry: Symmetry) -> Counter[int]:
        built[id(symmetry)] = _expand(sites, symmetry, lattice)
        return Counter(built[id(symmetry)][1])

    symmetry, _ = choose(read_symmetries(block, lattice), build, block)
    return symmetry, built[id(symmetry)]


def _expand(sites: list[Site], symmetry: Symmetry, lattice: Float[np.ndarray, "3 3"]) -> Built:
    """Returns the atoms of the whole cell: coordinates, atomic numbers, and which sites had to be moved."""
    moved: list[str] = []
    merged = _merge(sites, symmetry)
    coordinates, numbers = [np.empty((0, 3))], []
    for site in merged:
        place, distance = move_to_special_position(site.coordinates, site.decimals, symmetry.affine, lattice)
        if distance > 0:
            moved.append(f"site {site.label} was moved {distance:.3f} Å on to its special position")
        images = unique_images(place[None], symmetry.affine)
        coordinates.append(images)
        numbers += [site.number] * len(images)
    return np.concatenate(coordinates), numbers, moved


def _merge(sites: list[Site], symmetry: Symmetry) -> list[Site]:
    """Returns the sites with coincident ones merged.

    Raises CrystalError unless each position has one fully occupied element.
    """
    places: list[list[Site]] = []
    for site in sites:
        firsts = np.array([place[0].coordinates for place in places]).reshape(-1, 3)
        at = np.flatnonzero(same_place(site.coordinates, firsts, symmetry.affine))
        if at.size:
            places[at[0]].append(site)
        else:
            places.append([site])
    for place in places:
        total = sum(site.occupancy for site in place)
        labels = " and ".join(site.label for site in place)
        if total > 1 + FULL:
            raise CrystalError("unparsable", f"the occupancies of {labels} at one place add up to {total:g}")
        if total < 1 - FULL or len({site.number for site in place}) > 1:
            raise CrystalError("disordered", f"{labels}: sites are partly occupied; give an ordered structure")
    return [place[0] for place in places]
