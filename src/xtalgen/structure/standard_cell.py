"""The standard cell of a data set's crystal, as in CDVAE (Xie et al. 2022), and the order of its atoms."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.structure.elements import ALL_SYMBOLS
from xtalgen.structure.lattice import lattice_from_parameters, wrap


def standardise(crystal: Crystal) -> Crystal:
    """Returns the Niggli-reduced cell in the canonical orientation of `lattice_from_parameters`, coordinates in [0, 1).

    As in CDVAE's preprocessing: pymatgen's reduction (tolerance 1e-5), then the lattice anew from its lengths and
    angles. (Other libraries' reductions pick other cells in one of five crystals of MP-20, so this one it must be;
    pymatgen's own up to 2023.10.11, the authors', in one of twelve, see docs/models/flowmm.md.)
    Atoms keep their order. Raises ValueError when the cell cannot be reduced.
    """
    from pymatgen.core import Lattice

    try:
        reduced = Lattice(crystal.lattice).get_niggli_reduced_lattice()
    except (ValueError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError) as error:
        raise ValueError(f"no Niggli reduction of the cell: {error}") from error
    # The new axes are integer combinations of the old ones; rounding keeps special positions exact.
    combinations = np.rint(reduced.matrix @ np.linalg.inv(crystal.lattice))
    frac_coords = crystal.frac_coords @ np.rint(np.linalg.inv(combinations))
    lattice = lattice_from_parameters(np.array(reduced.lengths), np.array(reduced.angles))
    return replace(crystal, lattice=lattice, frac_coords=wrap(frac_coords))


def sort_atoms(numbers: Sequence[int] | np.ndarray) -> list[int]:
    """Returns the order of atoms in pymatgen's sorted structures: by electronegativity, then symbol, then as given.

    Noble gases without electronegativity are placed as by pymatgen's comparisons, so that tables stay the same.
    """
    keys: Any = _sort_keys()  # `plain` is None when `grouped` is needed
    atoms = [int(number) for number in numbers]
    plain = [keys[number].plain for number in atoms]
    if all(plain):
        return sorted(range(len(atoms)), key=plain.__getitem__)
    grouped = sorted(range(len(atoms)), key=lambda i: keys[atoms[i]].grouped)
    return sorted(grouped, key=lambda i: keys[atoms[i]])


@functools.total_ordering
class _SortKey:
    """Compares elements as pymatgen compares sites; `grouped` as it compares compositions, most negative first.

    plain: the same as `self` as a tuple, which is faster; None without electronegativity.
    """

    def __init__(self, symbol: str, electronegativity: float) -> None:
        self.symbol, self.value = symbol, electronegativity
        known = bool(np.isfinite(electronegativity))
        self.plain = (electronegativity, symbol) if known else None
        self.grouped = (-electronegativity if known else -np.inf, [-ord(letter) for letter in symbol])

    def __lt__(self, other: "_SortKey") -> bool:
        if self.value < other.value or self.value > other.value:
            return self.value < other.value
        return self.symbol < other.symbol

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SortKey) and self.symbol == other.symbol

    def __hash__(self) -> int:
        return hash(self.symbol)


@functools.cache
def _sort_keys() -> dict[int, _SortKey]:
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity
        return {
            number: _SortKey(symbol, float(Element(symbol).X)) for number, symbol in enumerate(ALL_SYMBOLS, start=1)
        }
