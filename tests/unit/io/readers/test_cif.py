import csv
import gzip
import io
import warnings

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from xtalgen.datasets.embedded import all_records
from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.cif import read_plain_cif
from xtalgen.io.structure_files import read_crystal
from xtalgen.structure.standard_cell import standardise

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def cif(structure):
    return str(CifWriter(structure))


def prepare_like_cdvae(text):
    """CDVAE's preprocessing, in pymatgen's own words: the reference for ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = Structure.from_str(text, fmt="cif", primitive=False).get_reduced_structure()
    lattice = Lattice.from_parameters(*structure.lattice.parameters)
    return lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure]


def assert_like_cdvae(text):
    cell = standardise(read_crystal(text))
    lattice, frac_coords, numbers = prepare_like_cdvae(text)
    np.testing.assert_allclose(cell.lattice, lattice, atol=1e-6)
    assert cell.atomic_numbers.tolist() == numbers
    apart = cell.frac_coords - frac_coords
    np.testing.assert_allclose(apart, np.rint(apart), atol=1e-6)
    assert np.all((cell.frac_coords >= 0) & (cell.frac_coords < 1))


def status_of(text):
    with pytest.raises(CrystalError) as caught:
        standardise(read_crystal(text))
    assert caught.value.message
    return caught.value.status


@pytest.fixture(scope="module")
def embedded_cifs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [cif(Structure.from_str(record.text, fmt="json")) for record in all_records()]


@pytest.mark.slow
def test_embedded_crystals_are_prepared_as_by_cdvae(embedded_cifs):
    for text in embedded_cifs:
        assert_like_cdvae(text)


def test_most_embedded_cifs_take_the_fast_path(embedded_cifs):
    fast = [read_plain_cif(text) is not None for text in embedded_cifs]
    assert sum(fast) >= 240


@pytest.mark.slow
def test_real_crystals_are_prepared_as_by_cdvae(shared_data):
    with gzip.open(shared_data / "mp_20" / "val.csv.gz", "rt", newline="") as file:
        texts = [row["cif"] for row in csv.DictReader(io.StringIO(file.read(), newline=""))]
    chosen = texts[::9]
    assert len(chosen) >= 1000
    for text in chosen:
        assert read_plain_cif(text) is not None
        assert_like_cdvae(text)


def test_thirds_are_completed_as_by_pymatgen():
    structure = Structure(Lattice.hexagonal(3, 5), ["Mg", "Mg"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])
    text = cif(structure).replace("0.33333333", "0.33330000").replace("0.66666667", "0.66670000")
    assert "0.33330000" in text
    cell = read_plain_cif(text)
    assert cell is not None
    np.testing.assert_array_equal(cell.frac_coords[0], [1 / 3, 2 / 3, 0.25])
    assert_like_cdvae(text)


def test_atoms_are_sorted_by_electronegativity_and_else_keep_their_order():
    structure = Structure(
        Lattice.orthorhombic(4, 5, 6), ["O", "Rb", "K", "O"], [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.4]]
    )
    cell = read_plain_cif(cif(structure))
    assert cell is not None
    assert cell.atomic_numbers.tolist() == [19, 37, 8, 8]  # K and Rb share an electronegativity
    assert cell.frac_coords[2:, 2].tolist() == [0.0, 0.4]
    assert_like_cdvae(cif(structure))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("  1\n", "  1.0\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" 0.50000000", " 0.5(2)"),
        lambda text: text.replace(" 0.50000000", " -0.50000000"),
        lambda text: text.replace("Na  Na", "Na+  Na"),
        lambda text: text + "\n# the end\n",
        lambda text: text + "data_another\n_cell_length_a 1\n",
    ],
)
def test_variations_of_a_plain_cif_give_the_same_crystal_as_pymatgen(change):
    text = change(cif(ROCK_SALT))
    assert text != cif(ROCK_SALT)
    assert_like_cdvae(text)


def test_a_plain_cif_that_lost_an_atom_contradicts_its_formula():
    lines = cif(ROCK_SALT).rstrip().splitlines()
    cut = "\n".join(lines[:-1]) + "\n"
    assert read_plain_cif(cif(ROCK_SALT)) is not None
    assert read_plain_cif(cut) is None
    with pytest.raises(CrystalError, match="the atoms read are"):
        read_crystal(cut)


def test_cif_with_symmetry_is_expanded():
    text = str(CifWriter(ROCK_SALT, symprec=0.01))
    assert read_plain_cif(text) is None
    assert len(read_crystal(text).atomic_numbers) == 8


def test_deuterium_is_hydrogen():
    structure = Structure(Lattice.cubic(4), ["Li", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    text = cif(structure).replace("  H  H", "  D  D")
    assert read_crystal(text).atomic_numbers.tolist() == [3, 1]


def test_one_atom_cell():
    structure = Structure(Lattice([[-1.4, 1.4, 1.4], [1.4, -1.4, 1.4], [1.4, 1.4, -1.4]]), ["Fe"], [[0.25, 0.25, 0.25]])
    assert_like_cdvae(cif(structure))


@pytest.mark.parametrize("elements", [["Ar", "Xe"], ["Xe", "F", "Ar", "O"], ["F", "He", "Cs"], ["O", "Xe", "K", "Ne"]])
def test_noble_gases_without_electronegativity_come_as_in_pymatgen(elements):
    places = np.arange(3 * len(elements)).reshape(-1, 3) / (3.3 * len(elements))
    text = cif(Structure(Lattice.cubic(5), elements, places))
    assert read_plain_cif(text) is not None
    assert_like_cdvae(text)


PLAIN = cif(ROCK_SALT)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "unparsable"),
        ("  \n", "unparsable"),
        ("hello", "unparsable"),
        ("{not json", "unparsable"),
        ('{"lattice": 1}', "unparsable"),
        (PLAIN[: len(PLAIN) // 3], "unparsable"),
        (PLAIN.replace("0.50000000", "0.00000000"), "unparsable"),  # atoms on top of each other
        (PLAIN.replace("0.50000000", "?"), "unparsable"),
        (PLAIN.replace("0.50000000", "nan"), "unparsable"),
        (PLAIN.replace("  1\n  Cl", "  0.5\n  Cl"), "disordered"),
        (PLAIN.replace("  Na  Na", "  Xx  Xx"), "unknown_element"),
        (PLAIN.replace("  Na  Na", "  Bz  Bz"), "unknown_element"),  # pymatgen would read boron
        (PLAIN.replace("  Na  Na", "  Xx3+  Xx"), "unknown_element"),
        (PLAIN.replace("_cell_length_a   5.64000000", "_cell_length_a   0.00000000"), "bad_lattice"),
        (PLAIN.replace("_cell_length_a   5.64000000", "_cell_length_a   -5.6400000"), "bad_lattice"),
        (PLAIN.replace("_cell_length_a   5.64000000", "_cell_length_a   0.00100000"), "bad_lattice"),
        (PLAIN.replace("_cell_length_a   5.64000000", "_cell_length_a   nan"), "bad_lattice"),
        (PLAIN.replace("_angle_alpha   90.00000000", "_angle_alpha   180.00000000"), "bad_lattice"),
        (
            PLAIN.replace("_angle_alpha   90.0", "_angle_alpha   1.0").replace("_beta   90.0", "_beta   9.0"),
            "bad_lattice",
        ),
        ("no names\n1.0\n3 0 0\n0 3 0\n0 0 3\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n", "unparsable"),
        ("bad\n1.0\n3 0 0\n0 3 0\n0 0 3\nXx\n1\ndirect\n0 0 0\n", "unknown_element"),
        ("flat\n1.0\n3 0 0\n0 3 0\n3 3 0\nFe\n1\ndirect\n0 0 0\n", "bad_lattice"),
        ("nan\n1.0\n3 0 0\n0 nan 0\n0 0 3\nFe\n1\ndirect\n0 0 0\n", "bad_lattice"),
    ],
)
def test_broken_texts_have_a_status(text, status):
    assert status_of(text) == status


def test_poscar_and_json_give_the_same_crystal_as_cif():
    cells = [read_crystal(text) for text in (PLAIN, ROCK_SALT.to(fmt="poscar"), ROCK_SALT.to_json())]
    for cell in cells[1:]:
        np.testing.assert_allclose(cell.lattice, cells[0].lattice, atol=1e-8)
        np.testing.assert_allclose(cell.frac_coords, cells[0].frac_coords, atol=1e-8)
        assert cell.atomic_numbers.tolist() == cells[0].atomic_numbers.tolist()
