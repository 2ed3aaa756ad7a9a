"""CIF of a crystal with its symmetry: the standard conventional cell, the operations, one atom of each orbit."""

import functools
from collections import Counter
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.cif import read_cif
from xtalgen.structure.elements import ALL_SYMBOLS
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.structure.space_group_settings import operations

SYMPREC = 0.01  # Å, the default of pymatgen
TOLERANCE = 1e-4  # fractional, between an image and the atom that it is; moyo's standard cell is exact to 1e-8
HEAD = "# symmetry found by moyo"
TEMPLATE = f"""\
{HEAD} with a tolerance of {{symprec:g}} angstrom; atoms and cell are moved on to it
data_{{name}}
_chemical_formula_sum   '{{formula}}'
{{cell}}
_space_group_name_H-M_alt   '{{symbol}}'
_space_group_name_Hall   '{{hall}}'
_space_group_IT_number   {{number}}
loop_
 _space_group_symop_operation_xyz
{{operations}}
loop_
 _atom_site_label
 _atom_site_type_symbol
 _atom_site_symmetry_multiplicity
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_occupancy
{{sites}}
"""
CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def to_symmetric_cif(crystal: Crystal, name: str, symprec: float = SYMPREC) -> str | None:
    """Returns the CIF of a crystal's conventional cell in the standard setting, with its symmetry.

    symprec: in Å, how far atoms may be from symmetric places. None where moyo finds no symmetry, or where the text
    would not be read back as the same crystal.
    """
    from moyopy import Cell, HallSymbolEntry, MoyoDataset, Setting

    cell = Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), crystal.atomic_numbers.tolist())
    try:
        dataset = MoyoDataset(cell, symprec=symprec, setting=Setting.standard())
    except Exception:  # noqa: BLE001 - moyo raises its own kinds
        return None
    standard, entry = dataset.std_cell, HallSymbolEntry(dataset.hall_number)
    numbers = np.array(standard.numbers)
    affine = operations(dataset.hall_number)
    sites = _first_of_orbits(np.array(standard.positions), numbers, affine)
    if sites is None:
        return None
    values = np.concatenate(lattice_to_parameters(np.array(standard.basis)))
    text = TEMPLATE.format(
        symprec=symprec,
        name=name,
        formula=" ".join(f"{ALL_SYMBOLS[z - 1]}{count}" for z, count in sorted(Counter(numbers.tolist()).items())),
        cell="\n".join(f"_cell_{key}   {value:.10f}" for key, value in zip(CELL, values, strict=True)),
        symbol=entry.hm_short,
        hall=entry.hall_symbol,
        number=dataset.number,
        operations="\n".join(f" '{line}'" for line in _operation_lines(dataset.hall_number)),
        sites="\n".join(
            f" {ALL_SYMBOLS[z - 1]}{index} {ALL_SYMBOLS[z - 1]} {count} {x:.12f} {y:.12f} {c:.12f} 1"
            for index, (z, count, (x, y, c)) in enumerate(sites)
        ),
    )
    return text if _reads_back(text, numbers) else None


def _first_of_orbits(
    positions: Float[np.ndarray, "atoms 3"], numbers: np.ndarray, affine: np.ndarray
) -> list[tuple[int, int, np.ndarray]] | None:
    """Returns number, multiplicity and position of one atom of each orbit; None where the atoms are no whole orbits."""
    left = np.ones(len(numbers), dtype=bool)
    sites = []
    for index, place in enumerate(positions):
        if not left[index]:
            continue
        images = affine[:, :3, :3] @ place + affine[:, :3, 3]
        apart = images[:, None] - positions
        same = (np.abs(apart - np.rint(apart)) < TOLERANCE).all(axis=2) & (numbers == numbers[index])
        if not same.any(axis=1).all():
            return None
        orbit = same.any(axis=0)
        if not left[orbit].all():
            return None
        left &= ~orbit
        sites.append((int(numbers[index]), int(orbit.sum()), place % 1.0))
    return sites


def _reads_back(text: str, numbers: np.ndarray) -> bool:
    """Whether the text is read as a cell of the same atoms."""
    try:
        found = read_cif(text)
    except CrystalError:
        return False
    return Counter(found.atomic_numbers.tolist()) == Counter(numbers.tolist())


@functools.lru_cache(maxsize=530)
def _operation_lines(hall_number: int) -> tuple[str, ...]:
    return tuple(", ".join(_term(row[:3], row[3]) for row in one[:3]) for one in operations(hall_number))


def _term(row: np.ndarray, shift: float) -> str:
    """Returns a row of an operation, such as "-x+y+1/3"."""
    signs = {1: "+", -1: "-"}
    text = "".join(f"{signs[round(value)]}{axis}" for value, axis in zip(row, "xyz", strict=True) if round(value))
    fraction = Fraction(float(shift)).limit_denominator(24) % 1
    return text.removeprefix("+") + (f"+{fraction}" if fraction else "")
