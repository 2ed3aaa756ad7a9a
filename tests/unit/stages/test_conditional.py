"""A model that takes prompts, from its checkpoint to tables and figure, through the scripts of the stages."""

import json
import runpy
import sys

import numpy as np
import pyarrow as pa
import pytest

from xtalgen import models
from xtalgen.crystals import ContractError, Crystal, read_crystals, read_metadata, read_table, to_table, write_table
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.training.job import Job

SALT = Crystal(
    "salt",
    "ok",
    lattice_from_parameters(np.full(3, 3.99), np.full(3, 60.0)),
    np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
    np.array([11, 17], dtype=np.uint8),
    {"spg_num": 225, "e_above_hull": 0.0},
)
MODEL = {"base": "scratch", "hidden": 16, "layers": 1, "heads": 2, "epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The tables of a data set and a checkpoint of a model that learnt from it for a moment."""
    folder = tmp_path_factory.mktemp("prompted")
    model = models.load("crystal_text_llm")
    job = Job("dng", 0, folder / "work", folder / "out")
    model.train([SALT] * 3, [SALT], models.build(model.Config, MODEL, "test"), job)
    broken = Crystal("broken", "unparsable")

    kinds = {"spg_num": pa.int64(), "e_above_hull": pa.float64()}
    for split, rows in (("train", [SALT]), ("test", [SALT, broken])):
        write_table(to_table(rows, kinds), folder / f"{split}.parquet", dataset="salt", published="no")
    return folder


def run(root, monkeypatch, stage, *arguments):
    monkeypatch.setattr(sys, "argv", [f"{stage}.py", *map(str, arguments)])
    runpy.run_path(str(root / f"workflow/scripts/{stage}.py"), run_name="__main__")


def judge(root, monkeypatch, files, task, *asked):
    sample, out = files / f"{task}.parquet", files / f"judged-{task}.parquet"
    given = ("--checkpoint", files / "out/checkpoint.safetensors", "--targets", files / "test.parquet")
    settings = '{"constrained": true, "max_new_tokens": 80, "candidates": ["Na", "Cl"]}'
    run(root, monkeypatch, "sample", "--model", "crystal_text_llm", *given, *asked, "--settings", settings,
        "--device", "cpu", "--work", files / "w", "--out", sample)  # fmt: skip
    run(root, monkeypatch, "evaluate", "--task", task, "--set", f"text/{task}", "--sample", sample, "--train",
        files / "train.parquet", "--test", files / "test.parquet", "--resamples", 50, "--out-table", out,
        "--out-json", out.with_suffix(".json"))  # fmt: skip
    return read_crystals(out), json.loads(out.with_suffix(".json").read_text())


def test_what_was_asked_stands_beside_what_came_out(root, files, monkeypatch):
    rows, facts = judge(root, monkeypatch, files, "conditional", "--attributes", "formula", "n_atoms", "spg_num")
    assert [row.info["target_id"] for row in rows] == ["salt"], "a target that is broken cannot be asked for"
    assert rows[0].info["asked_spg_num"] == 225
    assert rows[0].info["formula"] == "NaCl"
    assert facts["metrics"]["formula_matched"]["value"] == 1.0, "decoding is constrained to the formula's atoms"
    assert facts["metrics"]["e_above_hull_deviation"]["reason"] == "not asked for"
    assert facts["recipe"]["attributes"] == ["formula", "n_atoms", "spg_num"]
    metrics = files / "judged-conditional.json"
    contents = []
    for name in "ab":
        out = [files / f"{name}.svg", files / f"{name}.png"]
        run(root, monkeypatch, "conditional", "--evaluated", metrics.with_suffix(".parquet"), "--metrics", metrics,
            "--out", *out)  # fmt: skip
        contents.append([path.read_bytes() for path in out])
    assert contents[0] == contents[1]
    assert min(map(len, contents[0])) > 5000


def test_hidden_elements_become_rates(root, files, monkeypatch):
    rows, facts = judge(root, monkeypatch, files, "infilling", "--infill")
    assert rows[0].info["hidden"] in ("Na", "Cl")
    assert rows[0].info["rank"] in (1, 2)
    assert facts["metrics"]["top_3"] == {**facts["metrics"]["top_3"], "value": 1.0, "n": 1}
    metrics = files / "judged-infilling.json"
    with pytest.raises(SystemExit, match="'infilling', not 'conditional'"):
        run(root, monkeypatch, "conditional", "--evaluated", metrics.with_suffix(".parquet"), "--metrics", metrics,
            "--out", files / "no.svg")  # fmt: skip


def test_the_tables_have_a_section_for_each(root, files, monkeypatch, capsys):
    for task, asked in (("conditional", ("--attributes", "spg_num")), ("infilling", ("--infill",))):
        judge(root, monkeypatch, files, task, *asked)
    run(root, monkeypatch, "tables", "--evaluations", *sorted(files.glob("judged-*.json")), "--out",
        files / "tables.md", "--csv", files / "tables.csv", "--print")  # fmt: skip
    text = (files / "tables.md").read_text()
    assert "## Conditional Generation on `salt`" in text
    assert "## Infilling on `salt`" in text
    assert "Space group as requested" in text
    assert "`formula_matched`" in text, "defined, though no row was asked for it"
    assert "Crystal Structure Prediction" not in text
    assert "Infilling on salt" in capsys.readouterr().out


def test_a_table_that_does_not_say_what_was_asked_is_refused(root, files, monkeypatch):
    judge(root, monkeypatch, files, "conditional", "--attributes", "formula")
    table = read_table(files / "conditional.parquet")
    kept = {key: value for key, value in read_metadata(table).items() if key not in ("contract", "attributes")}
    write_table(table, files / "forgot.parquet", **kept)
    with pytest.raises((SystemExit, ContractError), match="does not say which attributes were asked for"):
        run(root, monkeypatch, "evaluate", "--task", "conditional", "--sample", files / "forgot.parquet", "--train",
            files / "train.parquet", "--test", files / "test.parquet", "--out-table", files / "x.parquet",
            "--out-json", files / "x.json")  # fmt: skip
