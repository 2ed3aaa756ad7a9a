"""Asked against obtained, and the rates of infilling."""

import json
import runpy
import sys

import numpy as np
import pytest

from xtalgen import conditions, models
from xtalgen.conditions import conditions_of, density, draw_conditional, judge, summarise, summarise_infilling
from xtalgen.crystals import Crystal, read_crystals, to_table, write_table
from xtalgen.lattice import lattice_from_parameters
from xtalgen.models import Job

SALT = Crystal(
    "salt", "ok", lattice_from_parameters(np.full(3, 3.99), np.full(3, 60.0)), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
    np.array([11, 17], dtype=np.uint8), {"spg_num": 225, "band_gap": 5.0, "e_form_per_atom": None},
)  # fmt: skip
BROKEN = Crystal("", "unparsable", info={"text": "x", "n_tries": 3})


def made(**info):
    return Crystal("", "ok", SALT.lattice, SALT.frac_coords, SALT.atomic_numbers, {"n_tries": 1, "text": "…", **info})


def test_conditions_are_what_the_crystal_has():
    asked = conditions_of(SALT, ["formula", "n_atoms", "spg_num", "e_form_per_atom", "e_above_hull"])
    assert asked == {"formula": "NaCl", "n_atoms": 2, "spg_num": 225}
    with pytest.raises(ValueError, match="no attribute 'colour'; there are formula, n_atoms"):
        conditions_of(SALT, ["colour"])


def test_density_of_salt():
    assert density(SALT) == pytest.approx(2.16, abs=0.01)


def test_judges_formula_atoms_and_space_group():
    asked = {"formula": "NaCl", "n_atoms": 2, "spg_num": 225}
    row = judge(SALT, asked, made(), 7)
    assert row.id == "conditional-000007"
    assert row.info["target_id"] == "salt"
    assert row.info["spg_num"] == 225
    assert row.info["density"] == row.info["asked_density"]
    wrong = judge(SALT, {"formula": "NaCl2", "n_atoms": 3, "spg_num": 1}, made(), 1)
    failed = judge(SALT, asked, BROKEN, 2)
    rates = summarise([row, wrong, failed])
    values = {name: (entry["value"], entry["n"]) for name, entry in rates["metrics"].items()}
    third = pytest.approx(1 / 3)
    assert values == {
        "ok": (pytest.approx(2 / 3), 3), "formula_matched": (third, 3), "n_atoms_matched": (third, 3),
        "spg_num_matched": (third, 3),
    }  # fmt: skip
    assert rates["n_tries"] == 5
    assert rates["statuses"] == {"ok": 2, "unparsable": 1}
    # The order of the elements and the size of the unit do not matter.
    assert summarise([judge(SALT, {"formula": "Cl2Na2"}, made(), 0)])["metrics"]["formula_matched"]["value"] == 1.0
    assert "spg_num_matched" not in summarise([judge(SALT, {}, made(), 0)])["metrics"]


def test_rates_of_infilling_count_what_could_be_hidden():
    ranks = [1, 2, 4, 30, None]
    rows = [Crystal(str(i), info={"hidden": "O", "rank": rank}) for i, rank in enumerate(ranks)]
    found = summarise_infilling([*rows, Crystal("x", "unparsable", info={"hidden": None, "rank": None})])
    assert (found["n"], found["n_left_out"]) == (5, 1)
    assert [found["metrics"][f"top_{k}"]["value"] for k in (1, 3, 5, 10)] == [0.2, 0.4, 0.6, 0.6]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_figure_is_drawn_and_the_same_each_time(tmp_path, kind):
    rows = [judge(SALT, {"formula": "NaCl", "spg_num": 225}, one, i) for i, one in enumerate([made(), BROKEN])]
    contents = []
    for name in "ab":
        draw_conditional(rows, tmp_path / f"{name}.{kind}")
        contents.append((tmp_path / f"{name}.{kind}").read_bytes())
    assert contents[0] == contents[1]
    assert len(contents[0]) > 5000
    draw_conditional([judge(SALT, {}, BROKEN, 0)], tmp_path / f"empty.{kind}")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = models.load("crystal_text_llm")
    config = {"base": "scratch", "hidden": 16, "layers": 1, "heads": 2, "epochs": 1, "batch_size": 4}
    job = Job("dng", 0, folder / "work", folder / "out")
    model.train([SALT] * 3, [SALT], models.build(model.Config, config, "test"), job)
    return folder / "out" / "checkpoint.safetensors"


def run_script(root, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["crystal_text.py", *map(str, arguments)])
    runpy.run_path(str(root / "workflow/scripts/crystal_text.py"), run_name="__main__")


def test_the_script_runs_both_tasks(root, checkpoint, tmp_path, monkeypatch):
    table = tmp_path / "crystals.parquet"
    broken = Crystal("broken", "unparsable")
    write_table(to_table([SALT, broken], {"spg_num": conditions.COLUMNS["spg_num"]}), table)
    common = ["--checkpoint", checkpoint, "--table", table, "--device", "cpu"]
    settings = ["--settings", '{"constrained": true, "max_new_tokens": 80}']
    out = tmp_path / "made.parquet"
    run_script(root, monkeypatch, "conditional", *common, *settings, "--out", out, "--figure", tmp_path / "made.svg")
    rows = read_crystals(out)
    assert [row.info["target_id"] for row in rows] == ["salt"]
    assert rows[0].ok
    assert rows[0].info["asked_spg_num"] == 225
    assert rows[0].info["asked_band_gap"] is None
    assert json.loads(out.with_suffix(".json").read_text())["metrics"]["ok"]["value"] == 1.0
    assert (tmp_path / "made.svg").is_file()
    out = tmp_path / "filled.parquet"
    run_script(root, monkeypatch, "infill", *common, "--out", out, "--options", '{"candidates": ["Na", "Cl"]}')
    rows = read_crystals(out)
    assert rows[0].info["rank"] in (1, 2)
    assert rows[1].info["rank"] is None
    with pytest.raises(SystemExit, match="crystal_text: no attribute 'colour'"):
        run_script(root, monkeypatch, "conditional", *common, "--out", out, "--options", '{"attributes": ["colour"]}')
    with pytest.raises(SystemExit, match="crystal_text: --settings: unknown key 'steps'"):
        run_script(root, monkeypatch, "conditional", *common, "--out", out, "--settings", '{"steps": 1}')
