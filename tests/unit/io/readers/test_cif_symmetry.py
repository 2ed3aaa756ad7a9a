"""CIFs whose symmetry is a name: the right number of atoms, or an error that says what is missing."""

import warnings
from collections import Counter

import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser, CifWriter

from xtalgen.datasets.embedded import all_records
from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.cif import read_block_of_cif, read_cif
from xtalgen.io.readers.cif_symmetry import read_formula_sum, read_operation
from xtalgen.structure.lattice import wrap

CUBIC, HEXAGONAL = (5.4, 5.4, 5.4, 90, 90, 90), (4.5, 4.5, 11.8, 90, 90, 120)
ORTHORHOMBIC, RHOMBOHEDRAL = (5, 6, 7, 90, 90, 90), (4.7, 4.7, 4.7, 57, 57, 57)
UNIQUE_B, UNIQUE_C = (5.1, 5.2, 5.3, 90, 99, 90), (5.1, 5.2, 5.3, 90, 90, 99)
SALT, BISMUTH = "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\n", "Bi1 Bi 0 0 0.234\n"
GENERAL = "Zr1 Zr 0.275 0.04 0.208\nO2 O 0.07 0.33 0.345\nO3 O 0.45 0.757 0.48\n"
ORIGIN, EIGHTH = "Si1 Si 0 0 0\n", "Si1 Si 0.125 0.125 0.125\n"


def cif(items, cell, sites):
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [f"_cell_{name} {value}" for name, value in zip(names, cell, strict=True)]
    head = ["loop_", "_atom_site_label", "_atom_site_type_symbol", *(f"_atom_site_fract_{axis}" for axis in "xyz")]
    return "\n".join(["data_x", *items, *lines, *head, sites])


def named(symbol):
    return f"_symmetry_space_group_name_H-M '{symbol}'"


def stated(formula, units):
    return [f"_chemical_formula_sum '{formula}'", f"_cell_formula_units_Z {units}"]


@pytest.mark.parametrize(
    ("items", "cell", "sites", "atoms"),
    [
        ([named("F d -3 m S")], CUBIC, ORIGIN, 8),
        ([named("F d -3 m:2")], CUBIC, EIGHTH, 8),
        ([named("I a 3 d")], CUBIC, ORIGIN, 16),
        ([named("R -3 m")], HEXAGONAL, BISMUTH, 6),
        ([named("R-3mH")], HEXAGONAL, BISMUTH, 6),
        (["_symmetry_Int_Tables_number 166"], RHOMBOHEDRAL, "Bi1 Bi .234 .234 .234\n", 2),
        (["_space_group_name_Hall '-R 3 2\"'"], HEXAGONAL, BISMUTH, 6),
        ([named("P 21/n")], UNIQUE_B, GENERAL, 12),
        ([named("P 21/b")], UNIQUE_C, GENERAL, 12),
        ([named("P 1 1 21/b")], UNIQUE_C, GENERAL, 12),
        ([named("C m c a")], ORTHORHOMBIC, "Fe1 Fe 0.1 0.2 0.3\n", 16),
        ([named("F m 3\u0305 m")], CUBIC, SALT, 8),
        (["_space_group.name_H-M_alt 'F m -3 m'"], CUBIC, SALT, 8),
        (["_space_group_symop_operation_xyz 'x,y,z'"], CUBIC, SALT, 2),
        (["loop_", "_symmetry_equiv_pos_as_xyz", "-x,-y,-z", "'X, 1/2+Y, z+0.5'"], CUBIC, "Na1 Na .1 .2 .3\n", 3),
    ],
)
def test_atoms_of_the_whole_cell_without_a_warning(items, cell, sites, atoms):
    crystal = read_cif(cif(items, cell, sites))
    assert crystal.n_atoms == atoms
    assert crystal.info == {}


@pytest.mark.parametrize(
    ("items", "cell", "sites", "atoms", "warning"),
    [
        ([named("?")], CUBIC, SALT, 2, "no symmetry is given"),
        (["_space_group_IT_number 14"], UNIQUE_B, GENERAL, 12, "number 14 leaves the axes open: P 1 2_1/c 1:b1"),
        ([named("P 21/c")], ORTHORHOMBIC, GENERAL, 12, "P 21/c leaves the axes open: P 1 2_1/c 1:b1"),
        ([named("F d -3 m"), *stated("Si", 8)], CUBIC, EIGHTH, 8, "leaves the origin open: F 4_1/d -3 2/m:2 agrees"),
        (["_space_group_IT_number 227", *stated("Si", 8)], CUBIC, ORIGIN, 8, "F 4_1/d -3 2/m:1 agrees"),
        ([named("F m -3 m"), "_symmetry_equiv_pos_as_xyz x,y,z"], CUBIC, SALT, 2, "the space group named is F m -3 m"),
        ([named("P 63/m m c")], (3, 3, 5, 90, 90, 120), "Mg1 Mg 0.333 0.667 0.25\n", 2, "Mg1 was moved 0.002 Å"),
    ],
)
def test_what_is_assumed_is_said(items, cell, sites, atoms, warning):
    crystal = read_cif(cif(items, cell, sites))
    assert crystal.n_atoms == atoms
    assert warning in crystal.info["warning"]


@pytest.mark.parametrize(
    ("items", "cell", "sites", "message"),
    [
        ([named("Q x 7")], CUBIC, SALT, "unknown space-group symbol 'Q x 7'"),
        ([named("C 4/m m m")], CUBIC, SALT, "unknown space-group symbol 'C 4/m m m'"),
        (["_space_group_name_Hall '-Q 3'"], CUBIC, SALT, "unknown Hall symbol '-Q 3'"),
        (["_space_group_IT_number 999"], CUBIC, SALT, "no space group number 999"),
        (["_space_group_IT_number many"], CUBIC, SALT, "unknown space-group number 'many'"),
        ([named("P n m a"), "_space_group_IT_number 225"], CUBIC, SALT, "P n m a and 225 contradict"),
        ([named("F m -3 m")], ORTHORHOMBIC, SALT, "F m -3 m does not fit the cell"),
        ([named("R -3 m :R")], HEXAGONAL, BISMUTH, "R -3 m :R does not fit the cell"),
        ([named("F d -3 m")], CUBIC, EIGHTH, "F d -3 m leaves the origin open"),
        (["_space_group_IT_number 227"], CUBIC, ORIGIN, "number 227 leaves the origin open"),
        ([named("F m -3 m"), *stated("Na Cl", 2)], CUBIC, SALT, "formula is 'Na Cl' with Z = 2, the atoms read are"),
        ([named("P 1"), "_chemical_formula_sum 'Na Cl H2'"], CUBIC, SALT, "formula is 'Na Cl H2', the atoms read"),
        (["_symmetry_equiv_pos_as_xyz x,y"], CUBIC, SALT, "operation 'x,y' cannot be read"),
        (["_symmetry_equiv_pos_as_xyz x,y,w"], CUBIC, SALT, "operation 'x,y,w' cannot be read"),
        ([named("P 63/m m c")], (3, 3, 5, 90, 90, 120), "Mg1 Mg 0.35000 0.68000 0.25\n", "0.03 Å apart"),
    ],
)
def test_what_cannot_be_known_is_an_error_that_names_it(items, cell, sites, message):
    with pytest.raises(CrystalError, match=message) as caught:
        read_cif(cif(items, cell, sites))
    assert caught.value.status == "unparsable"


def test_formulas_that_are_not_plain_are_not_compared():
    for formula in ("?", "'C12 H22 O11, H2 O'", "'(Fe,Mn) O'", "'Na CL'"):
        crystal = read_cif(cif([named("P 1"), f"_chemical_formula_sum {formula}"], CUBIC, SALT))
        assert crystal.info == {}
    assert read_formula_sum("Fe2 O3") == read_formula_sum("Fe2O3") == {26: 2, 8: 3}
    assert read_formula_sum("D2 O") == {1: 2, 8: 1}


def test_operations():
    np.testing.assert_array_equal(read_operation("x,y,z"), np.eye(4))
    np.testing.assert_array_equal(
        read_operation("-Y+1/2, x - y, .25+Z")[:3], [[0, -1, 0, 0.5], [1, -1, 0, 0], [0, 0, 1, 0.25]]
    )
    np.testing.assert_array_equal(read_operation("x,y,z,-1"), np.eye(4))


@pytest.mark.slow
def test_symmetrised_cifs_are_read_as_by_pymatgen():
    """The same atoms in the same order, to the last digit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for record in all_records()[::5]:
            text = str(CifWriter(Structure.from_str(record.text, fmt="json"), symprec=0.01))
            expected = CifParser.from_str(text).parse_structures(primitive=False)[0]
            crystal = read_block_of_cif(text)
            assert crystal.atomic_numbers.tolist() == list(expected.atomic_numbers)
            np.testing.assert_array_equal(crystal.lattice, expected.lattice.matrix)
            np.testing.assert_array_equal(crystal.frac_coords, wrap(expected.frac_coords))
            assert Counter(crystal.info) == Counter()
