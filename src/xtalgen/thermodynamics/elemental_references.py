"""Elemental references: missing ones, and prototype crystals to replace them."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols, covalent_radii
from pymatgen.core import Element

from xtalgen.crystals import Crystal
from xtalgen.runtime.quiet import quiet
from xtalgen.structure.lattice import wrap
from xtalgen.thermodynamics.competing_phases import elements_of

PROTOTYPE = "prototype"
PROMISING = 2  # number of prototypes of each element that are relaxed, those of lowest energy as built
DIATOMIC = (1, 7, 8, 9, 17, 35, 53)


def missing_elements(samples: Sequence[Crystal], rows: Sequence[Crystal]) -> list[int]:
    """Returns the atomic numbers of the samples' elements that no elemental reference with an energy covers."""
    needed = set().union(*(elements_of(sample) for sample in samples)) if samples else set()
    covered = {number for row in rows if row.ok and len(elements_of(row)) == 1 for number in elements_of(row)}
    return sorted(needed - covered)


def build_prototypes(number: int) -> list[Crystal]:
    """Returns simple crystals of an element at its molar volume, and one of its diatomic molecules where they exist.

    Relaxation corrects the volume. Their energies are upper bounds of the energy of the element's ground state.
    """
    symbol = chemical_symbols[number]
    volume = _volume_per_atom(symbol)
    # Lattice constant in units of (volume per atom)^(1/3).
    edges = {"fcc": 4 ** (1 / 3), "bcc": 2 ** (1 / 3), "hcp": 2 ** (1 / 6), "diamond": 2.0, "sc": 1.0}
    ratio = {"hcp": {"covera": (8 / 3) ** 0.5}}
    built = [
        (name, bulk(symbol, name, a=edge * volume ** (1 / 3), **ratio.get(name, {}))) for name, edge in edges.items()
    ]
    if number in DIATOMIC:
        # Two atoms along the diagonal of a cube with twice the atomic volume.
        bond, edge = 2 * float(covalent_radii[number]), (2 * volume) ** (1 / 3)
        places = np.array([[0.0, 0.0, 0.0], [bond / edge / 3**0.5] * 3])
        built.append(("diatomic", Atoms([number] * 2, cell=np.eye(3) * edge, scaled_positions=places, pbc=True)))
    return [
        Crystal(
            id=f"{PROTOTYPE}-{symbol}-{name}",
            lattice=np.array(atoms.cell.array),
            frac_coords=wrap(atoms.get_scaled_positions()),
            atomic_numbers=atoms.numbers.astype(np.uint8),
        )
        for name, atoms in built
    ]


def _volume_per_atom(symbol: str) -> float:
    with quiet():
        molar_volume = Element(symbol).molar_volume
    # cm³/mol to Å³; 20 Å³ for elements whose density is unknown (At, Fr, beyond Es).
    return 20.0 if molar_volume is None else float(molar_volume) / 0.602214


def lowest(rows: Sequence[Crystal]) -> list[Crystal]:
    """Returns, for each element, the row of lowest energy per atom among those that have one."""
    best: dict[int, Crystal] = {}
    for row in rows:
        number = int(row.atomic_numbers[0])
        if row.ok and (number not in best or energy_per_atom(row) < energy_per_atom(best[number])):
            best[number] = row
    return list(best.values())


def promising(rows: Sequence[Crystal]) -> set[str]:
    """Returns the ids of the two lowest prototypes of each element, and of its molecule.

    A molecule is always included, since its energy is meaningless until its bond length is relaxed.
    """
    found = {row.id for row in rows if row.ok and row.id.endswith("-diatomic")}
    for number in {int(row.atomic_numbers[0]) for row in rows if row.ok}:
        atomic = [row for row in rows if row.ok and row.atomic_numbers[0] == number and row.id not in found]
        found |= {row.id for row in sorted(atomic, key=energy_per_atom)[:PROMISING]}
    return found


def energy_per_atom(row: Crystal) -> float:
    """Returns the energy per atom, in eV, of a row that has one."""
    return row.info["energy"] / row.n_atoms
