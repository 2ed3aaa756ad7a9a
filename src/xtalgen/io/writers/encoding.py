"""One crystal as other programs take it: ASE Atoms, the JSON of a pymatgen structure, CIF without symmetry, POSCAR."""

import json
from typing import TYPE_CHECKING, Any

from xtalgen.crystals import Crystal

if TYPE_CHECKING:
    from ase import Atoms

DIGITS = 12  # decimals of coordinates in texts: beyond what any potential or matcher resolves


def name_of(crystal: Crystal) -> str:
    """Returns the name that a crystal had in the file that it was read from, else its id."""
    return str(crystal.info.get("source_name") or crystal.id)


def energy_of(crystal: Crystal) -> float | None:
    """Returns the energy (eV) that was given with a crystal, None where there is none."""
    energy = crystal.info.get("energy_given")
    return None if energy is None else float(energy)


def to_atoms(crystal: Crystal) -> "Atoms":
    """Returns the ASE atoms of a crystal; `info` has its name, a single-point calculator its energy, where given."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms(crystal.atomic_numbers, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
    atoms.info["name"] = name_of(crystal)
    energy = energy_of(crystal)
    if energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


def to_dictionary(crystal: Crystal) -> dict[str, Any]:
    """Returns the dictionary of a crystal's pymatgen structure."""
    from xtalgen.structure.pymatgen import to_structure

    return dict(to_structure(crystal).as_dict())


def to_json(crystal: Crystal) -> str:
    """Returns the JSON of a crystal's pymatgen structure, numbers to the last digit."""
    return json.dumps(to_dictionary(crystal))


def to_cif(crystal: Crystal) -> str:
    """Returns the CIF of a crystal's cell as it is, without symmetry (P 1)."""
    from pymatgen.io.cif import CifWriter

    from xtalgen.structure.pymatgen import to_structure

    return str(CifWriter(to_structure(crystal), significant_figures=DIGITS))


def to_poscar(crystal: Crystal) -> str:
    """Returns the POSCAR of a crystal, atoms in its order."""
    from pymatgen.io.vasp import Poscar

    from xtalgen.structure.pymatgen import to_structure

    return str(Poscar(to_structure(crystal)).get_str(significant_figures=DIGITS))


def to_frame(crystal: Crystal) -> str:
    """Returns the frame of a crystal in an extended XYZ file, as ASE writes it."""
    import io

    from ase.io import write

    text = io.StringIO()
    write(text, to_atoms(crystal), format="extxyz")
    return text.getvalue()
