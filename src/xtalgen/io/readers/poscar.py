"""VASP's POSCAR, CONTCAR and XDATCAR, read with pymatgen's reader."""

import re
import warnings
from collections.abc import Iterator
from io import TextIOBase
from itertools import islice

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import atomic_number, check_lattice, make_crystal
from xtalgen.io.entries import CrystalError, Entry

HEADER = 7  # lines: comment, scale, three vectors, elements, counts
MAX_ATOMS = 100_000
FRAME = re.compile(r"\s*(direct\s+configuration\s*=|konfig\s*=)", re.IGNORECASE)


def split_poscar(stream: TextIOBase, name: str) -> list[Entry]:
    """Returns the one entry of a file."""
    return [Entry(name, "poscar", stream.read())]


def split_xdatcar(stream: TextIOBase, name: str) -> Iterator[Entry]:
    """Yields the frames of an XDATCAR, each as the text of a POSCAR; a changing cell repeats the header before a frame.

    Raises ValueError where it does not begin with a header of seven lines that names elements and counts atoms.
    """
    del name  # frames have numbers
    header: list[str] = []
    new: list[str] = []
    frame = 0
    for line in stream:
        if not FRAME.match(line):
            new.append(line)
            if len(new) > HEADER + 1:  # one blank line may stand between frames
                break
            continue
        found = [one for one in new if one.strip()]
        header, new = found if len(found) >= HEADER else header, []
        counts = header[HEADER - 1].split() if header else []
        if not counts or not all(count.isdigit() for count in counts):
            raise ValueError("does not begin with a cell, elements and their numbers. Give an XDATCAR of VASP 5.")
        atoms = list(islice(stream, min(sum(map(int, counts)), MAX_ATOMS)))
        yield Entry(f"frame {frame}", "poscar", "".join([*header[:HEADER], "Direct\n", *atoms]))
        frame += 1
    if any(line.strip() for line in new):
        if frame == 0:
            raise ValueError("holds no line `Direct configuration=`. Give an XDATCAR of VASP 5.")
        yield Entry(f"frame {frame}", "broken", "no line `Direct configuration=` where a frame should begin")


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
    return [name for name, count in zip(names, counts, strict=False) for _ in range(min(int(count), MAX_ATOMS))]
