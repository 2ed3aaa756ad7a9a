"""Frames of extended XYZ as many programs write them."""

import gzip

import pytest

from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.extxyz import read_frame
from xtalgen.stages.import_structures import read_structures

LATTICE = 'Lattice="4 0 0 0 4 0 0 0 4"'
PROPERTIES = "Properties=species:S:1:pos:R:3"
ATOMS = "Na 0 0 0\nCl 2 2 2\n"


def frame(head, atoms=ATOMS):
    return f"2\n{head}\n{atoms}"


@pytest.mark.parametrize(
    ("head", "atoms", "info"),
    [
        (f'{LATTICE} {PROPERTIES} label="1 1 1"', ATOMS, {"source_name": "1 1 1"}),
        (f'{LATTICE} {PROPERTIES} name="_JSON [1, 2]"', ATOMS, {"source_name": "_JSON [1, 2]"}),
        (f"{LATTICE} {PROPERTIES} energy=-7.5", ATOMS, {"energy_given": -7.5}),
        (f'{LATTICE} {PROPERTIES} energy="-3 -4" id=12', ATOMS, {"source_name": "12"}),
        (f'{LATTICE} {PROPERTIES} note=\'a=b "c"\' MATERIAL_ID="x \\"y\\""', ATOMS, {"source_name": 'x "y"'}),
        (f"{LATTICE} {PROPERTIES} pbc=[T, T, T]", ATOMS, {}),
        (f"Lattice=[[4, 0, 0], [0, 4, 0], [0, 0, 4]] {PROPERTIES}", ATOMS, {}),
        (f"{PROPERTIES} lattice={{4 0 0 0 4 0 0 0 4}}", ATOMS, {}),
        (f"{LATTICE} Properties=pos:R:3:mask:L:1:species:S:1", "0 0 0 T Na\n2 2 2 F Cl\n", {}),
        (LATTICE, "Na 0 0 0 nan nan\nCl 2 2 2\n", {}),
        (f"{LATTICE} Properties=Z:I:1:pos:R:3", "11 0 0 0\n17 2 2 2\n", {}),
    ],
)
def test_frames(head, atoms, info):
    crystal = read_frame(frame(head, atoms))
    assert crystal.atomic_numbers.tolist() == [11, 17]
    assert crystal.frac_coords.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]
    assert crystal.info == info


def test_isotopes_are_hydrogen():
    assert read_frame(frame(LATTICE, "D 0 0 0\nT 2 2 2\n")).atomic_numbers.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("head", "atoms", "status", "message"),
    [
        (f'{LATTICE} {PROPERTIES} pbc="F F F"', ATOMS, "bad_lattice", "not periodic along a, b, c"),
        (f'{LATTICE} {PROPERTIES} pbc="T T F"', ATOMS, "bad_lattice", "not periodic along c"),
        (f"{LATTICE} {PROPERTIES} pbc=0", ATOMS, "bad_lattice", "not periodic along a, b, c"),
        ('cell="4 0 0 0 4 0 0 0 4"', ATOMS, "bad_lattice", "no Lattice="),
        ('Lattice="4 0 0 0 4 0 0 0"', ATOMS, "bad_lattice", "8 numbers, not 9"),
        ('Lattice="4 0 0 0 4 0 0 0 four"', ATOMS, "bad_lattice", "cannot be read"),
        (f"{LATTICE} Properties=Z:I:1:pos:R:3", "119 0 0 0\n17 2 2 2\n", "unknown_element", "atomic number 119"),
        (f"{LATTICE} Properties=Z:I:1:pos:R:3", "0 0 0 0\n17 2 2 2\n", "unknown_element", "atomic number 0"),
        (LATTICE, "Vac 0 0 0\nCl 2 2 2\n", "unknown_element", "'Vac' is not an element"),
        (LATTICE, "Na 0 0\nCl 2 2 2\n", "unparsable", "atom 1 has 3 of 4 columns"),
        (LATTICE, "Na 0 0 1e999\nCl 2 2 2\n", "unparsable", "atom 1 has a coordinate"),
        (f"{LATTICE} Properties=species:S:1", ATOMS, "unparsable", "no column pos"),
        (f"{LATTICE} Properties=pos:R:3", "0 0 0\n2 2 2\n", "unparsable", "neither species nor Z"),
        (f"{LATTICE} Properties=species:S", ATOMS, "unparsable", "name:kind:columns"),
    ],
)
def test_broken_frames(head, atoms, status, message):
    with pytest.raises(CrystalError, match=message) as caught:
        read_frame(frame(head, atoms))
    assert caught.value.status == status


def test_gz(tmp_path):
    (tmp_path / "mine.extxyz.gz").write_bytes(gzip.compress(frame(LATTICE).encode()))
    (crystal,) = read_structures(tmp_path / "mine.extxyz.gz", 1)
    assert crystal.ok
