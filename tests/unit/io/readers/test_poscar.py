"""VASP's files by their names, and trajectories in XDATCAR."""

import numpy as np
import pytest
from ase import Atoms
from ase.io.vasp import write_vasp_xdatcar

from user_files import SALT, assert_salt, imported, statuses
from xtalgen.io.structure_files import find_suffix, parse_entry, read_entries

POSCAR = SALT.to(fmt="poscar")
HEADER = "NaCl\n1.0\n4 0 0\n0 4 0\n0 0 {c}\nNa Cl\n1 1\n"
FRAME = "Direct configuration= {n:5d}\n0.1 0.2 0.3\n0.6 0.7 {z}\n"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("POSCAR", ".poscar"),
        ("POSCAR.gz", ".poscar"),
        ("CONTCAR", ".contcar"),
        ("poscar_12", ".poscar"),
        ("Fe2O3.POSCAR", ".poscar"),
        ("NaCl_CONTCAR.gz", ".contcar"),
        ("XDATCAR", ".xdatcar"),
        ("a.vasp", ".vasp"),
        ("a.CIF.GZ", ".cif"),
        ("POSCAR.cif", ".cif"),
        ("POSCARS", None),
        ("POTCAR", None),
        ("a.traj.gz", None),
        ("POSCAR.relaxed", ".poscar"),
    ],
)
def test_names(tmp_path, name, suffix):
    assert find_suffix(tmp_path / name) == suffix


@pytest.mark.parametrize("name", ["POSCAR", "NaCl_CONTCAR"])
def test_files_without_a_suffix_are_read(tmp_path, name):
    (tmp_path / name).write_text(POSCAR)
    (entry,) = read_entries(tmp_path / name)
    crystal = parse_entry(entry)
    assert crystal.ok
    assert crystal.info["source_name"] == name


def test_frames_of_an_xdatcar(tmp_path):
    text = HEADER.format(c=4) + FRAME.format(n=1, z=0.8) + FRAME.format(n=2, z=0.9) + "\n"
    text += HEADER.format(c=5) + FRAME.format(n=3, z=0.8) + "Direct configuration= 4\n0.1 0.2 0.3\n"
    crystals = imported(tmp_path, "mine.xdatcar", text)
    assert statuses(crystals) == ["ok", "ok", "ok", "unparsable"]
    assert_salt(crystals[0])
    assert [crystal.info["source_name"] for crystal in crystals] == [f"frame {index}" for index in range(4)]
    assert crystals[1].frac_coords[1, 2] == 0.9
    assert (crystals[1].lattice[2, 2], crystals[2].lattice[2, 2]) == (4, 5)


def test_an_xdatcar_of_ase(tmp_path):
    atoms = Atoms("NaCl", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], cell=np.eye(3) * 4, pbc=True)
    write_vasp_xdatcar(tmp_path / "XDATCAR", [atoms, atoms])
    crystals = [parse_entry(entry) for entry in read_entries(tmp_path / "XDATCAR")]
    assert statuses(crystals) == ["ok", "ok"]
    np.testing.assert_allclose(crystals[1].frac_coords, atoms.get_scaled_positions(), atol=1e-8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n" * 50, "no line `Direct configuration=`"),
        (HEADER.format(c=4), "no line `Direct configuration="),
        ("Direct configuration= 1\n0 0 0\n", "does not begin with a cell"),
        (HEADER.format(c=4).replace("Na Cl\n", "") + FRAME.format(n=1, z=0.8), "does not begin with a cell"),
    ],
)
def test_other_texts_are_refused(tmp_path, text, message):
    (tmp_path / "XDATCAR").write_text(text)
    with pytest.raises(ValueError, match=rf"XDATCAR: .*{message}"):
        read_entries(tmp_path / "XDATCAR")
