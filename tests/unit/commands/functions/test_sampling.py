"""`xtalgen generate` and `predict`: crystals from the weights that come with the package, offline, in any format."""

import csv
import json
import zipfile

import numpy as np
import pytest

from xtalgen.commands import generate as generate_command
from xtalgen.commands import predict as predict_command
from xtalgen.commands.choices import shipped_weights
from xtalgen.commands.functions.outputs import SUFFIXES, check_output
from xtalgen.commands.functions.sampling import find_weights, generate, predict
from xtalgen.crystals import Crystal, read_crystals
from xtalgen.experiment.plan import WEIGHTS
from xtalgen.stages.import_structures import read_structures
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.geometry import volume
from xtalgen.structure.space_group import space_group

QUICK = {"candidates": 2, "analogues": 2}


@pytest.fixture(scope="module")
def new():
    return generate(4, seed=3, settings=QUICK)


def test_exactly_as_many_crystals_as_asked_for(new):
    assert len(new) == 4
    assert [row.id for row in new] == [f"formula_orbits-{index:06d}" for index in range(4)]
    assert any(row.ok for row in new)


def test_equal_seeds_give_equal_crystals(new):
    again = generate(4, seed=3, settings=QUICK)
    for one, other in zip(new, again, strict=True):
        assert one.atomic_numbers.tolist() == other.atomic_numbers.tolist()
        np.testing.assert_allclose(one.lattice, other.lattice, rtol=1e-5)


def test_a_row_of_the_table_for_each_crystal(new):
    table = new.crystals
    assert len(table) == 4
    assert {"id", "status", "formula", "n_atoms", "spg_num", "density"} <= set(table.columns)
    assert len(new.structures) == len(new.atoms) == 4
    assert "<table" in new._repr_html_()


def test_structures_are_of_the_formulas_and_differ():
    found = predict(["Si8"], k=2)
    assert [row.id for row in found] == ["Si8-1", "Si8-2"]
    assert {row.info["target_id"] for row in found} == {"Si8"}
    assert [row.n_atoms for row in found] == [8, 8]
    assert all(row.info["n_drawn"] >= 1 for row in found)
    first, second = found.structures
    assert not first.matches(second)


def test_rock_salt_is_predicted():
    (salt,) = predict("NaCl").structures
    assert sorted(salt.symbol_set) == ["Cl", "Na"]
    assert space_group((salt.lattice.matrix, salt.frac_coords, np.array(salt.atomic_numbers))) == 225


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: generate(0), "at least one crystal"),
        (lambda: predict([]), "at least one formula"),
        (lambda: predict("Xx2"), "there is no element 'Xx'"),
        (lambda: generate(1, model="diffcsp"), "no weights of 'diffcsp' for generation come with xtalgen; there are"),
        (lambda: generate(1, settings={"warmth": 1}), "unknown key 'warmth'"),
    ],
)
def test_mistakes_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_models_come_from_the_folder_of_weights(monkeypatch, tmp_path):
    folders = {file.parent.name for file in WEIGHTS.glob("*/*.safetensors")}
    assert set(shipped_weights("dng")) | set(shipped_weights("csp")) == folders
    file = tmp_path / "flowmm/csp.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"")
    monkeypatch.setattr("xtalgen.commands.choices.WEIGHTS", tmp_path)
    assert shipped_weights("csp") == {"flowmm": file}
    assert shipped_weights("dng") == {}
    assert find_weights("flowmm", "csp", None) == file
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_weights("flowmm", "csp", tmp_path / "gone.safetensors")


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".html"])
def test_files_are_read_back(new, tmp_path, suffix):
    file = new.write(tmp_path / f"new{suffix}")
    found = [row for row in read_structures(file, 1) if row.ok]
    wanted = [row for row in new if row.ok]
    for one, other in zip(found, wanted, strict=True):  # CIFs with symmetry hold conventional cells
        assert reduced_counts(one.atomic_numbers) == reduced_counts(other.atomic_numbers)
        assert volume(one.lattice) / one.n_atoms == pytest.approx(volume(other.lattice) / other.n_atoms, rel=1e-4)


def test_a_failed_crystal_stays_in_tables(new, tmp_path):
    rows = [*new, Crystal("broken", "no_space_group")]
    found = type(new)(rows)
    assert found.structures[-1] is None
    with found.write(tmp_path / "new.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)][-1] == "no_space_group"
    assert len(read_crystals(found.write(tmp_path / "new.parquet"))) == 5
    names = zipfile.ZipFile(found.write(tmp_path / "new.zip")).namelist()
    assert len(names) == sum(row.ok for row in new)
    again = tmp_path / "again.zip"
    found.write(again)
    assert again.read_bytes() == (tmp_path / "new.zip").read_bytes()


def test_a_page_is_written(new, tmp_path):
    text = new.write(tmp_path / "new.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "<title>new</title>" in text


def test_commands_write_and_list(new, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("xtalgen.commands.functions.sampling.generate", lambda **_: new)
    monkeypatch.setattr("xtalgen.commands.functions.sampling.predict", lambda **given: (asked.append(given), new)[1])
    asked = []
    out = tmp_path / "new.extxyz"
    generate_command.main(["-n", "4", "--out", str(out)])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split() == ["id", "formula", "n_atoms", "spg_num", "density", "status"]
    assert f"{out}: 4 of 4 crystals are usable" in printed
    predict_command.main(["NaCl", "LiFePO4", "-k", "5", "--json", "--out", str(out)])
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], len(found["crystals"])) == (4, 4)
    assert (asked[0]["formulas"], asked[0]["k"]) == (["NaCl", "LiFePO4"], 5)


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (generate_command.main, ["-n", "0"], "'0' is not a whole number above 0"),
        (generate_command.main, ["--out", "new.foo"], "unknown suffix; crystals are written as .cif, .csv, .db"),
        (generate_command.main, ["--settings", "[1]"], "is not of the form"),
        (predict_command.main, ["LiFeXo4"], "there is no element 'Xo'"),
        (predict_command.main, [], "the following arguments are required: FORMULA"),
    ],
)
def test_wrong_arguments_end_with_2(main, words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_is_no_output(tmp_path):
    (tmp_path / "x.cif").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_output(tmp_path / "x.cif")
