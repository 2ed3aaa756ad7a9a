"""Best candidates: who is chosen, in which order, and what the archive holds."""

import csv
import io
import math
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Structure

import candidates as script
from xtalgen.crystals import ContractError, Crystal, to_table, write_table
from xtalgen.metrics.candidates import choose
from xtalgen.stages.candidates import write_candidates

COLUMNS = {
    **dict.fromkeys(("unique", "novel", "struct_valid", "comp_valid", "stable", "metastable"), pa.bool_()),
    "e_above_hull": pa.float64(),
    "match_id": pa.string(),
}
GOOD = {"unique": True, "novel": True, "struct_valid": True, "comp_valid": True, "stable": False, "metastable": True}


def salt(name, e_above_hull, *, a=5.6, **info):
    """Rock salt, primitive: space group 225."""
    return Crystal(
        id=name,
        lattice=a / 2 * (1 - np.eye(3)),
        frac_coords=np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]),
        atomic_numbers=np.array([11, 17], dtype=np.uint8),
        info={**GOOD, "e_above_hull": e_above_hull, **info},
    )


def read_all(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def unpack(path):
    """Returns the rows of the CSV, and the CIFs."""
    files = read_all(path)
    files.pop("candidates.extxyz", None)
    return list(csv.DictReader(io.StringIO(files.pop("candidates.csv")))), files


def written(folder, crystals, columns=COLUMNS):
    path = folder / "e.parquet"
    write_table(to_table(crystals, columns), path)
    return path


def test_lowest_energy_first_and_the_others_left_out(tmp_path):
    table = written(
        tmp_path,
        [
            salt("a", 0.05),
            salt("b", -0.1, a=5.5),
            salt("c", 0.0, novel=False),
            salt("d", 0.0, unique=False),
            salt("e", 0.0, comp_valid=None),
            salt("f", None),
            salt("g", math.nan),
            Crystal(id="h", status="unparsable"),
            salt("i", 0.02),
        ],
    )
    write_candidates(table, count=2, out=tmp_path / "sub" / "best.zip")
    rows, files = unpack(tmp_path / "sub" / "best.zip")
    assert [row["id"] for row in rows] == ["b", "i"]
    assert [row["file"] for row in rows] == list(files) == ["0001-b-NaCl.cif", "0002-i-NaCl.cif"]
    assert rows[0]["spg_num"] == "225"
    assert (rows[0]["formula"], rows[0]["n_atoms"], rows[0]["e_above_hull"]) == ("NaCl", "2", "-0.1")
    structure = Structure.from_str(files["0001-b-NaCl.cif"], fmt="cif")
    assert structure.volume == pytest.approx(5.5**3 / 4, rel=1e-6)


def test_same_table_same_bytes(tmp_path):
    table = written(tmp_path, [salt("a", 0.05), salt("b", 0.01)])
    for name in ("x.zip", "y.zip"):
        write_candidates(table, count=50, out=tmp_path / name)
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "y.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_no_candidate_gives_the_head_only(tmp_path):
    write_candidates(written(tmp_path, [salt("a", 0.0, novel=False)]), count=5, out=tmp_path / "best.zip")
    rows, files = unpack(tmp_path / "best.zip")
    assert rows == []
    assert files == {}


def test_ids_cannot_leave_the_archive(tmp_path):
    write_candidates(written(tmp_path, [salt("../../x y", 0.0)]), count=5, out=tmp_path / "best.zip")
    _, files = unpack(tmp_path / "best.zip")
    assert list(files) == ["0001-.._.._x_y-NaCl.cif"]


def test_sets_without_novelty_are_refused(tmp_path):
    table = written(tmp_path, [salt("a", 0.0)], {"struct_valid": pa.bool_()})
    with pytest.raises(ContractError, match=r"e.parquet: column 'unique' is missing"):
        write_candidates(table, count=5, out=tmp_path / "best.zip")
    with pytest.raises(SystemExit, match=r"error: .*'unique' is missing"):
        script.main(["--evaluated", str(table), "--out", str(tmp_path / "best.zip")])


@given(st.lists(st.floats(-1, 1), max_size=8), st.integers(0, 9), st.randoms())
def test_choice_does_not_depend_on_row_order(energies, count, random):
    crystals = [salt(f"c{index}", energy) for index, energy in enumerate(energies)]
    shuffled = list(crystals)
    random.shuffle(shuffled)
    first, second = ([crystal.id for crystal in choose(rows, count)] for rows in (crystals, shuffled))
    assert first == second
    assert len(first) == min(count, len(energies))


def test_command_line(tmp_path):
    table = written(tmp_path, [salt("a", 0.05), salt("b", 0.01)])
    script.main(["--evaluated", str(table), "--count", "1", "--out", str(tmp_path / "best.zip")])
    assert len(unpack(tmp_path / "best.zip")[0]) == 1


def test_first_candidates_come_with_vasp_inputs_and_all_as_extxyz(tmp_path):
    import ase.io

    oxide = {"atomic_numbers": np.array([26, 8], dtype=np.uint8)}
    table = written(tmp_path, [salt("b", 0.02), replace(salt("a", 0.01), **oxide)])
    write_candidates(table, count=5, out=tmp_path / "c.zip", vasp=1)
    (rows, _), files = unpack(tmp_path / "c.zip"), read_all(tmp_path / "c.zip")
    folder = f"vasp/{rows[0]['file'].removesuffix('.cif')}"
    inputs = {name.removeprefix(f"{folder}/") for name in files if name.startswith("vasp/")}
    assert inputs == {"INCAR", "KPOINTS", "POSCAR", "POTCAR.spec"}, "of the first only"
    # The Materials Project's U for iron in oxides, and its pseudopotentials.
    assert "LDAUU = 5.3 0" in files[f"{folder}/INCAR"]
    assert files[f"{folder}/POTCAR.spec"].split() == ["Fe_pv", "O"]
    assert Structure.from_str(files[f"{folder}/POSCAR"], fmt="poscar").composition.reduced_formula == "FeO"
    atoms = ase.io.read(io.StringIO(files["candidates.extxyz"]), index=":", format="extxyz")
    assert [found.info["id"] for found in atoms] == ["a", "b"]
    assert [found.info["e_above_hull"] for found in atoms] == [0.01, 0.02]
    assert atoms[1].cell.array == pytest.approx(salt("b", 0.0).lattice)


def test_an_element_without_pseudopotential_has_a_reason_and_the_others_their_inputs(tmp_path):
    pure, oxide = ({"atomic_numbers": np.array(numbers, dtype=np.uint8)} for numbers in ([85, 85], [85, 8]))
    crystals = [replace(salt("a", 0.01), **pure), salt("b", 0.02), replace(salt("c", 0.03), **oxide)]
    write_candidates(written(tmp_path, crystals), count=5, out=tmp_path / "c.zip", vasp=3)
    (rows, _), files = unpack(tmp_path / "c.zip"), read_all(tmp_path / "c.zip")
    reason = "MPRelaxSet has no pseudopotential for At"
    assert [row["vasp_error"] for row in rows] == [reason, "", reason]
    folders = {name.split("/")[1] for name in files if name.startswith("vasp/")}
    assert folders == {rows[1]["file"].removesuffix(".cif")}
    assert {rows[0]["file"], rows[1]["file"], "candidates.extxyz"} <= set(files)


def test_nearest_known_crystal_second_opinion_and_set_stand_in_the_csv(tmp_path):
    table = written(tmp_path, [salt("a", 0.05), salt("b", 0.01, a=5.5), salt("c", 0.02, a=5.7)])
    known, second = tmp_path / "train.parquet", tmp_path / "second_potential.parquet"
    write_table(
        to_table([salt("mp-1", None), replace(salt("mp-2", None), atomic_numbers=np.array([12, 8], dtype=np.uint8))]),
        known,
    )
    said = [salt("a", 0.0, second_e_above_hull=0.15), salt("b", 0.0, second_e_above_hull=-0.03), salt("c", 0.0)]
    write_table(to_table(said, {"second_e_above_hull": pa.float64()}), second)
    words = ["--evaluated", str(table), "--name", "flowmm/dng", "--known", str(known), "--second", str(second)]
    script.main([*words, "--out", str(tmp_path / "c.zip")])
    rows = {row["id"]: row for row in unpack(tmp_path / "c.zip")[0]}
    assert {row["set"] for row in rows.values()} == {"flowmm/dng"}
    assert {row["nearest_id"] for row in rows.values()} == {"mp-1"}
    assert float(rows["a"]["nearest_composition"]) == 0.0
    assert float(rows["a"]["nearest_structure"]) == pytest.approx(0.0, abs=1e-3)
    # Half of what two potentials differ by.
    assert float(rows["a"]["e_above_hull_uncertainty"]) == pytest.approx(0.05)
    assert float(rows["b"]["e_above_hull_uncertainty"]) == pytest.approx(0.02)
    assert (rows["c"]["second_e_above_hull"], rows["c"]["e_above_hull_uncertainty"]) == ("", "")
    script.main(["--evaluated", str(table), "--out", str(tmp_path / "plain.zip")])
    assert unpack(tmp_path / "plain.zip")[0][0]["nearest_id"] == ""
