"""ASE's trajectories and databases: what ASE writes is read; they are opened read-only; no pickle is."""

import os
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io.trajectory import Trajectory

from user_files import assert_salt, imported, statuses
from xtalgen.io.structure_files import parse_entry, read_entries


def salt(**info):
    atoms = Atoms("NaCl", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], cell=np.eye(3) * 4.0, pbc=True)
    atoms.info.update(info)
    return atoms


def read(path):
    return [parse_entry(entry) for entry in read_entries(path)]


def test_frames_of_a_trajectory(tmp_path):
    first = salt(name="halite")
    first.calc = SinglePointCalculator(first, energy=-7.5, forces=np.zeros((2, 3)))
    fixed = salt()
    fixed.set_constraint(FixAtoms([0]))
    slab = salt()
    slab.pbc = (True, True, False)
    with Trajectory(str(tmp_path / "mine.traj"), "w") as file:
        for atoms in (first, fixed, slab):
            file.write(atoms)
    crystals = imported(tmp_path, "mine.traj", (tmp_path / "mine.traj").read_bytes())
    assert statuses(crystals) == ["ok", "ok", "bad_lattice"], crystals[0].info
    assert_salt(crystals[0])
    assert [crystal.info["source_name"] for crystal in crystals] == ["halite", "frame 1", "frame 2"]
    assert [crystal.info["energy_given"] for crystal in crystals] == [-7.5, None, None]
    assert "not periodic along c" in crystals[2].info["error"]


def test_rows_of_a_database_which_stays_as_it_was(tmp_path):
    path = tmp_path / "mine.db"
    with connect(str(path), use_lock_file=False) as database:
        database.write(salt(), name="halite")
        calculated = salt()
        calculated.calc = SinglePointCalculator(calculated, energy=-7.5)
        database.write(calculated)
        database.write(Atoms("N2", positions=[[0, 0, 0], [0, 0, 1]]))
        database.write(salt(), name="last")
        del database[2]
    before = path.read_bytes()
    path.chmod(0o444)
    tmp_path.chmod(0o555)  # not even a journal can be written beside it
    try:
        crystals = read(path)
    finally:
        tmp_path.chmod(0o755)
    assert statuses(crystals) == ["ok", "bad_lattice", "ok"]
    np.testing.assert_allclose(crystals[0].frac_coords, [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], atol=1e-12)
    assert [crystal.info["source_name"] for crystal in crystals] == ["halite", "id 3", "last"]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_energies_of_a_database(tmp_path):
    atoms = salt()
    atoms.calc = SinglePointCalculator(atoms, energy=-7.5)
    with connect(str(tmp_path / "mine.db"), use_lock_file=False) as database:
        database.write(atoms)
    assert read(tmp_path / "mine.db")[0].info["energy_given"] == -7.5


class Trap:
    def __reduce__(self):
        return (os.abort, ())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("old.traj", pickle.dumps(Trap()), "not an ASE trajectory"),
        ("cut.traj", b"- of UlmASE-Trajectory  \1\0", "not a readable ASE trajectory"),
        ("mine.db", pickle.dumps(Trap()), "not an SQLite database"),
        ("cut.db", b"SQLite format 3\0" + bytes(100), "not a readable ASE database"),
        ("none.db", b"", "none.db is empty"),
    ],
)
def test_other_files_are_refused_and_nothing_of_them_is_run(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}" if not message.startswith(name) else message):
        read(tmp_path / name)


def test_a_frame_that_was_cut_off_keeps_its_row(tmp_path):
    path = tmp_path / "mine.traj"
    with Trajectory(str(path), "w") as file:
        for _ in range(3):
            file.write(salt())
    path.write_bytes(path.read_bytes()[:-300])
    crystals = read(path)
    assert len(crystals) == 3
    assert crystals[0].ok
    assert crystals[2].status == "unparsable"
