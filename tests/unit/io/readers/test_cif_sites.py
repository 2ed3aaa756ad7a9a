"""Sites of CIFs: symbols, labels, occupancies and coordinates as people write them."""

import numpy as np
import pytest

from xtalgen.io.checks import check_lattice
from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.cif import read_cif
from xtalgen.io.structure_files import read_crystal

CIF = """\
data_x
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
{columns}
{sites}
"""
TYPED = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
LABELLED = ("label", "fract_x", "fract_y", "fract_z")
OCCUPIED = (*TYPED, "occupancy")


def cif(columns, *sites):
    return CIF.format(columns="\n".join(f"_atom_site_{name}" for name in columns), sites="\n".join(sites))


def status_of(text):
    with pytest.raises(CrystalError) as caught:
        read_crystal(text)
    return caught.value.status


@pytest.mark.parametrize(
    ("symbol", "number"),
    [("Fe3+", 26), ("Fe+3", 26), ("O2-", 8), ("fe", 26), ("FE", 26), ("D", 1), ("T", 1), ("D1-", 1), ("Fe1", 26)],
)
def test_type_symbols(symbol, number):
    crystal = read_crystal(cif(TYPED, f"K1 {symbol} 0 0 0"))
    assert crystal.atomic_numbers.tolist() == [number]
    assert crystal.info == {}


@pytest.mark.parametrize("symbol", ["OH", "OH-", "Wat", "Va", "vac", "Vac", "M", "X", "Cval", "O-H", "CN", "119"])
def test_type_symbols_of_no_element(symbol):
    assert status_of(cif(TYPED, "Na1 Na 0 0 0", f"K1 {symbol} 0.5 0.5 0.5")) == "unknown_element"


@pytest.mark.parametrize("symbol", ["Fe/Mn", "(Fe,Mn)", "Fe0.5Mn0.5", "'Nb 0.8, Zr 0.2'", "Fe+Co", "'0.5Fe + 0.5Co'"])
def test_mixed_type_symbols_are_disorder(symbol):
    assert status_of(cif(TYPED, f"K1 {symbol} 0.5 0.5 0.5")) == "disordered"


@pytest.mark.parametrize(
    ("label", "number"),
    [
        ("Fe1", 26),
        ("Fe1A", 26),
        ("Fe(1)", 26),
        ("Fe_1", 26),
        ("Cl_a", 17),
        ("O1'", 8),
        ("NA1", 11),
        ("D1", 1),
        ("Sn2+", 50),
    ],
)
def test_labels_that_begin_with_an_element(label, number):
    crystal = read_crystal(cif(LABELLED, f"{label} 0 0 0"))
    assert crystal.atomic_numbers.tolist() == [number]
    assert crystal.info == {}


@pytest.mark.parametrize(
    ("label", "number"), [("FeM1", 26), ("OA1", 8), ("SiT1", 14), ("AlT", 13), ("FeOct1", 26), ("OXT", 8), ("CO1", 27)]
)
def test_elements_guessed_from_labels_are_said(label, number):
    crystal = read_crystal(cif(LABELLED, f"{label} 0 0 0"))
    assert crystal.atomic_numbers.tolist() == [number]
    assert f"site {label} was read as" in crystal.info["warning"]


@pytest.mark.parametrize("label", ["OH", "OH1", "H2O", "NH4", "Wat", "OW1", "X1", "Du1", "M1", "1", "CN1"])
def test_labels_of_no_element(label):
    assert status_of(cif(LABELLED, "Mg1 0 0 0", f"{label} 0.5 0.5 0.5")) == "unknown_element"


@pytest.mark.parametrize(
    ("sites", "outcome"),
    [
        (("Na1 Na 0 0 0 1", "Na2 Na .5 .5 0 ."), 2),
        (("Na1 Na 0 0 0 ?", "Na2 Na .5 .5 0 1.0(1)"), 2),
        (("Na1 Na 0 0 0 0.25", "Na2 Na 0 0 0 0.75"), 1),
        (("Na1 Na 0 0 0 0.25", "Na2 Na 1 0 -1 0.75"), 1),
        (("Na1 Na 0 0 0 1", "Na2 Na 0 0 0 1"), "unparsable"),
        (("Na1 Na 0 0 0 1", "K1 K 0 0 0 1"), "unparsable"),
        (("Na1 Na 0 0 0 0.6", "K1 K 0 0 0 0.4"), "disordered"),
        (("Na1 Na 0 0 0 0.99",), "disordered"),
        (("Na1 Na 0 0 0 -1",), "unparsable"),
        (("Na1 Na 0 0 0 much",), "unparsable"),
        (("Na1 Na . 0 0 1",), "unparsable"),
        (("Na1 Na 0 ? 0 1",), "unparsable"),
        (("Na1 Na 0 1/0 0 1",), "unparsable"),
        (("Na1 Na 0 1e30 0 1",), "unparsable"),
        (("Na1 Na 0 0 0 1", "Na2 Na 0.5 0"), "unparsable"),
    ],
)
def test_occupancies_and_coordinates(sites, outcome):
    text = cif(OCCUPIED, *sites)
    if isinstance(outcome, str):
        assert status_of(text) == outcome
    else:
        assert read_crystal(text).n_atoms == outcome


def test_empty_and_dummy_sites_are_left_out_with_a_warning():
    crystal = read_crystal(cif(OCCUPIED, "Na1 Na 0 0 0 1", "K1 K .5 .5 .5 0.0"))
    assert crystal.n_atoms == 1
    assert "K1 is not occupied" in crystal.info["warning"]
    crystal = read_crystal(cif((*TYPED, "calc_flag"), "Na1 Na 0 0 0 .", "Cg1 C .5 .5 .5 dum"))
    assert crystal.n_atoms == 1


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        ("_cell_length_a 4.0", "_cell_length_a -4.0", "bad_lattice"),
        ("_cell_angle_gamma 90", "_cell_angle_gamma 190", "bad_lattice"),
        ("_cell_angle_gamma 90", "_cell_angle_gamma 270", "bad_lattice"),
        ("_cell_angle_gamma 90", "_cell_angle_gamma -90", "bad_lattice"),
        ("_cell_angle_alpha 90\n_cell_angle_beta 90", "_cell_angle_alpha 30\n_cell_angle_beta 30", "bad_lattice"),
        (" 90", " 120", "bad_lattice"),
        ("_cell_length_a 4.0\n", "", "bad_lattice"),
        ("_cell_length_a 4.0", "_cell_length_a ?", "bad_lattice"),
        ("_cell_length_a 4.0\n", "_cell_length_a 4.0\n_cell_length_a 5.0\n", "unparsable"),
        ("_cell_angle_gamma 90\n", "", 1),
        ("_cell_", "_cell.", 1),
        ("data_x", "  DATA_x", 1),
        ("\n", "\r", 1),
    ],
)
def test_cells(old, new, outcome):
    text = cif(TYPED, "Na1 Na 0 0 0")
    assert old in text
    text = text.replace(old, new)
    if isinstance(outcome, str):
        assert status_of(text) == outcome
    else:
        assert read_crystal(text).n_atoms == outcome


def test_several_crystals_in_the_text_of_one_row_are_a_status():
    text = cif(TYPED, "Na1 Na 0 0 0")
    with pytest.raises(CrystalError, match=r"2 crystals in one text \(data_x, data_y\)"):
        read_cif(text + text.replace("data_x", "  data_y"))


def test_a_semicolon_that_opens_no_text_field_hides_no_block():
    from xtalgen.io.readers.cif_syntax import split_blocks

    text = cif(TYPED, "Na1 Na 0 0 0")
    assert len(split_blocks(text + ";stray\n" + text)) == 2
    assert len(split_blocks(text + "_note\n;\n" + text + ";\n")) == 1


@pytest.mark.parametrize("lattice", [np.diag([20.0, 20.0, 0.005]), [[20.0, 0, 0], [0, 20, 0], [19.9, 19.9, 0.005]]])
def test_thin_cells_are_no_cells(lattice):
    with pytest.raises(CrystalError, match=r"the cell is 0\.005 Å thin, less than 0\.01 Å"):
        check_lattice(np.array(lattice))
    check_lattice(np.array(lattice) * [1, 1, 2.1])
