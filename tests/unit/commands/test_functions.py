"""`xtalgen.score` and `relax` from Python: on structures of any library, and as the command line does."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.core import DummySpecies, Lattice, Structure

import xtalgen
from crystal_cases import caesium_chloride, rock_salt
from xtalgen.commands import score as command
from xtalgen.commands.functions import relaxing
from xtalgen.commands.functions.exploring import explore
from xtalgen.commands.functions.inputs import as_crystal
from xtalgen.crystals import Crystal
from xtalgen.structure.pymatgen import to_structure

SALT = to_structure(rock_salt())


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    given = [SALT, bulk("Cu", cubic=True), rock_salt("mine", 5.7), Crystal("no", "too_close")]
    return xtalgen.score(given, cache=tmp_path_factory.mktemp("cache"))


def test_public_names_are_there():
    assert set(xtalgen.__all__) <= set(dir(xtalgen))
    assert xtalgen.Crystal is Crystal
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xtalgen.nothing  # noqa: B018


def test_structures_are_scored_without_a_data_set(scores):
    metrics = {name: found.value for name, found in scores.metrics.items()}
    assert metrics["struct_valid"] == 0.75
    assert metrics["unique"] == 0.5  # salt, copper, salt again, nothing
    assert metrics["n_space_groups"] == 1.0
    assert scores.funnel == {"sampled": 4, "parsed": 3, "valid": 3, "unique": 2}
    for name in ("novel", "sun", "cov_recall", "wdist_density", "tvd_space_group"):
        assert scores.metrics[name].value is None
        assert scores.metrics[name].reason == "no data set to compare with"


def test_the_table_has_a_row_for_each_crystal(scores):
    table = scores.crystals
    assert table["formula"].tolist() == ["NaCl", "Cu", "NaCl", None]
    assert table["status"].tolist() == ["ok", "ok", "ok", "too_close"]
    assert table["density"][1] == pytest.approx(8.97, abs=0.1)
    assert "novel" not in table
    assert len(scores) == len(scores.structures) == 4


def test_notebooks_and_terminals_show_the_metrics(scores):
    assert "<th>95 % interval</th>" in scores._repr_html_()
    assert "Unique (%) ↑" in str(scores)
    assert "compared with no data set, recipe xtalgen" in str(scores)


def test_command_and_function_agree(scores, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([SALT.as_dict(), to_structure(rock_salt("x", 5.7)).as_dict()]))
    command.main([str(file), "--cache", str(tmp_path / "cache"), "--workers", "1"])
    printed = capsys.readouterr().out
    assert "NaCl      225" in printed
    assert "--dataset mp_20 adds novelty" in printed
    assert "59 MB" in printed
    command.main([str(file), "--cache", str(tmp_path / "cache"), "--workers", "1", "--json", "--explore"])
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["unique"]["value"] == 0.5
    assert found["data"]["dataset"] == "none"
    assert (tmp_path / "mine.html").read_text().startswith("<!doctype html>")
    assert set(found["files"]) == {"metrics", "crystals", "page"}
    function = xtalgen.score(file, cache=tmp_path / "cache")
    assert {name: one.as_json() for name, one in function.metrics.items()} == found["metrics"]


def test_files_are_shown_on_one_page(scores, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps([SALT.as_dict()]))
    verdicts = scores.write(tmp_path / "scored.parquet")
    page = explore([tmp_path / "mine.json", verdicts], tmp_path / "both.html", workers=1)
    assert page.read_text().startswith("<!doctype html>")
    with pytest.raises(FileNotFoundError, match="no such file"):
        explore([tmp_path / "gone.cif"], tmp_path / "both.html", workers=1)


def test_predictions_need_a_data_set():
    with pytest.raises(ValueError, match="Name its data set"):
        xtalgen.score(SALT, task="csp")


def twisted():
    """Returns a structure with a left-handed cell."""
    return Structure(Lattice([[0, 4, 0], [4, 0, 0], [0, 0, 4]]), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (SALT, "ok"),
        (twisted(), "ok"),
        (bulk("Cu"), "ok"),
        (caesium_chloride(), "ok"),
        (Structure(Lattice.cubic(4), [{"Fe": 0.5, "Mn": 0.5}], [[0, 0, 0]]), "disordered"),
        (Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]]), "unknown_element"),
        (Structure(Lattice(np.eye(3) * 4, (True, True, False)), ["Cu"], [[0, 0, 0]]), "bad_lattice"),
        (Atoms("Cu", cell=[4, 4, 4], pbc=(True, True, False)), "bad_lattice"),
        (Atoms("Cu"), "bad_lattice"),
        (Atoms("Cu", cell=[4, 4, 0], pbc=True), "bad_lattice"),
        (Atoms(cell=[4, 4, 4], pbc=True), "unparsable"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
def test_what_cannot_be_used_has_a_status(given, status):
    crystal = as_crystal(given, "one")
    assert crystal.status == status
    assert (crystal.info["error"] is None) == (status == "ok")


def test_geometry_is_kept():
    for given in (SALT, twisted()):
        crystal = as_crystal(given, "one")
        np.testing.assert_allclose(crystal.lattice, given.lattice.matrix)
        assert crystal.atomic_numbers.tolist() == list(given.atomic_numbers)
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    crystal = as_crystal(atoms, "one")
    np.testing.assert_allclose(crystal.lattice, atoms.cell.array)
    np.testing.assert_allclose(crystal.frac_coords, atoms.get_scaled_positions(), atol=1e-12)


def test_nothing_and_other_objects_are_refused(tmp_path):
    with pytest.raises(TypeError, match="a int is no crystal"):
        xtalgen.score([3], cache=tmp_path)
    with pytest.raises(ValueError, match="no structures were given"):
        xtalgen.score([], cache=tmp_path)
    with pytest.raises(ValueError, match="none of the 1 structures is a crystal"):
        xtalgen.score(Atoms("Cu"), cache=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone\.cif: there is no such file"):
        xtalgen.score("gone.cif", cache=tmp_path)


def test_relaxed_structures_have_energies(tmp_path, monkeypatch):
    seen = {}

    def relax(crystals_file, *, out, work, **given):
        seen.update(given, work=work)
        from xtalgen.crystals import from_table, read_table, to_table, write_table
        from xtalgen.stages.relax import COLUMNS

        rows = from_table(read_table(crystals_file))
        done = [replace(row, info={"energy": -1.0}) for row in rows]
        write_table(to_table(done, COLUMNS), out)

    monkeypatch.setattr(relaxing, "relax_table", relax)
    found = xtalgen.relax([SALT], fmax=0.1, max_steps=3, cache=tmp_path, workers=1)
    assert found.crystals["energy"].tolist() == [-1.0]
    assert (seen["potential"], seen["fmax"], seen["max_steps"]) == ("chgnet", 0.1, 3)
    assert tmp_path in seen["work"].parents


def test_a_script_without_a_guard_runs_once(tmp_path, root):
    # Worker processes do not run the script again: it has no `if __name__ == "__main__"`.
    script = tmp_path / "mine.py"
    script.write_text(
        "from xtalgen.runtime.parallel import map_items\n"
        "print('once')\n"
        "print(list(map_items(abs, [-1, -2, -3], workers=2, timeout=20.0, label='x')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "once\n[1, 2, 3]\n"
