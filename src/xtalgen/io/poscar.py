"""VASP's POSCAR and CONTCAR, read with pymatgen's reader."""

import re
import warnings
from io import TextIOBase

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import atomic_number, check_lattice, make_crystal
from xtalgen.io.entries import CrystalError, Entry


def split_poscar(stream: TextIOBase, name: str) -> list[Entry]:
    """Returns the one entry of a file."""
    return [Entry(name, "poscar", stream.read())]


def read_poscar(text: str) -> Crystal:
    """Returns the crystal of a POSCAR text that names its elements, atoms in its order. Raises CrystalError."""
    from pymatgen.io.vasp import Poscar  # takes seconds and is seldom needed

    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Before pymatgen, which replaces symbols that it does not know.
    numbers = [atomic_number(symbol) for symbol in _symbols(text)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Elements in POSCAR cannot be determined")
        try:
            structure = Poscar.from_str(text, read_velocities=False).structure
        except Exception as error:  # the text may break pymatgen's reader in any way
            said = " ".join(f"{type(error).__name__}: {error}".split())
            said = "its sixth line names no elements" if "cannot be determined" in said else said
            raise CrystalError("unparsable", f"not a readable POSCAR: {said}") from error
    lattice = np.array(structure.lattice.matrix)
    check_lattice(lattice)
    numbers = numbers or [atomic_number(site.species_string) for site in structure]
    return make_crystal(lattice, np.array(structure.frac_coords), numbers)


def _symbols(text: str) -> list[str]:
    """Returns the symbol of each atom as the file writes it, with POTCAR's endings left out (Na_pv); [] in VASP 4."""
    lines = [line.split() for line in text.splitlines()[5:7]]
    if len(lines) < 2 or not lines[0] or lines[0][0].isdigit():
        return []
    counts = [word for word in lines[1] if word.isdigit()]
    names = [re.split(r"[_/]", word)[0] for word in lines[0][: len(counts)]]
    return [name for name, count in zip(names, counts, strict=False) for _ in range(min(int(count), 100_000))]
