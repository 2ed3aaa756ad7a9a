"""CIFs with symmetry: read by pymatgen and by xtalgen as the same crystal, in the same space group."""

import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from real_crystals import embedded
from xtalgen.io.readers.cif import read_cif
from xtalgen.io.writers.symmetric_cif import HEAD, to_symmetric_cif
from xtalgen.structure.pymatgen import from_structure, to_structure
from xtalgen.structure.space_group import space_group

GROUPS = {
    225: (Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    227: (Lattice.cubic(5.43), ["Si"], [[0.125, 0.125, 0.125]]),
    186: (Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]),
    166: (Lattice.hexagonal(4.38, 30.5), ["Bi", "Te", "Te"], [[0, 0, 0.4], [0, 0, 0], [0, 0, 0.21]]),
    14: (Lattice.monoclinic(5.1, 5.2, 5.3, 99.2), ["Zr", "O"], [[0.27, 0.04, 0.21], [0.07, 0.33, 0.34]]),
    62: (Lattice.orthorhombic(10.3, 6.0, 4.7), ["Fe", "P"], [[0.28, 0.25, 0.97], [0.09, 0.25, 0.42]]),
    2: (Lattice.from_parameters(4, 5, 6, 80, 95, 103), ["Al", "F"], [[0.1, 0.2, 0.3], [0.6, 0.71, 0.85]]),
    1: (Lattice.from_parameters(4, 5, 6, 80, 95, 103), ["Al", "F", "O"], [[0, 0.2, 0.3], [0.6, 0.7, 0.8], [0.3, 0, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("number", GROUPS)
def test_read_back_in_the_same_group(number):
    structure = Structure.from_spacegroup(number, *GROUPS[number]).get_primitive_structure()
    crystal = from_structure(structure, "mine")
    text = to_symmetric_cif(crystal, "mine", 0.01)
    assert text is not None
    assert text.startswith(HEAD)
    text.encode("ascii")  # CIF 1.1 knows no other letters
    found = Structure.from_str(text, fmt="cif")
    assert StructureMatcher(scale=False).fit(found, structure)
    assert SpacegroupAnalyzer(found, symprec=1e-4).get_space_group_number() == number
    ours = read_cif(text)
    assert ours.info.get("warning") is None
    assert len(ours.atomic_numbers) == len(found)
    assert space_group((ours.lattice, ours.frac_coords, ours.atomic_numbers), symprec=1e-4) == number


def test_symprec_says_what_counts_as_symmetric():
    structure = Structure.from_spacegroup(225, *GROUPS[225])
    structure.translate_sites([0], [0.005, 0, 0])
    crystal = from_structure(structure, "mine")
    loose, strict = to_symmetric_cif(crystal, "mine", 0.1), to_symmetric_cif(crystal, "mine", 0.001)
    assert "IT_number   225" in loose
    assert "IT_number   225" not in strict
    assert StructureMatcher(scale=False).fit(Structure.from_str(strict, fmt="cif"), structure)


def test_real_crystals():
    matcher = StructureMatcher(scale=False)
    found = [(crystal, to_symmetric_cif(crystal, crystal.id, 0.01)) for crystal in embedded(25)]
    assert all(text is not None for _, text in found)
    for crystal, text in found:
        assert matcher.fit(Structure.from_str(text, fmt="cif"), to_structure(crystal)), crystal.id


def test_overlapping_atoms_have_no_symmetry_to_state():
    crystal = from_structure(Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 1e-5]]), "mine")
    assert to_symmetric_cif(crystal, "mine", 0.01) is None
