"""The train stage and its program."""

import json

import pytest
import torch

import train as program
from random_crystals import random_crystals
from xtalgen.crystals import to_table, write_table
from xtalgen.runtime.devices import pick_device
from xtalgen.stages.train import train

SETTINGS = {"epochs": 2, "batch_size": 8, "hidden": 16, "layers": 1, "frequencies": 4}


@pytest.fixture
def tables(tmp_path):
    paths = tmp_path / "train.parquet", tmp_path / "val.parquet"
    write_table(to_table(random_crystals(12)), paths[0], dataset="mine", caveat="random")
    write_table(to_table(random_crystals(6, seed=1)), paths[1], dataset="mine")
    return paths


def run(tables, folder, **changes):
    arguments = {"settings": SETTINGS, "seed": 0, "device": "cpu", **changes}
    task = arguments.pop("task", "csp")
    train(
        arguments.pop("model", "flowmm"),
        task,
        train=tables[0],
        val=tables[1],
        work=folder / "w",
        out=folder / "o",
        **arguments,
    )


def test_program_trains_and_keeps_the_facts_of_the_data(tables, tmp_path):
    program.main(
        ["--model", "flowmm", "--task", "dng", "--train", str(tables[0]), "--val", str(tables[1]), "--settings",
         json.dumps(SETTINGS), "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o"), "--device", "cpu"]
    )  # fmt: skip
    assert (tmp_path / "o" / "checkpoint.safetensors").exists()
    facts = json.loads((tmp_path / "o" / "training.json").read_text())
    assert facts["dataset"] == {"dataset": "mine", "caveat": "random"}
    assert facts["task"] == "dng"
    assert facts["config"]["epochs"] == 2
    assert facts["threads"] == torch.get_num_threads()


def test_program_says_in_one_line_what_is_wrong(tables, tmp_path):
    with pytest.raises(SystemExit, match=r"error: settings of flowmm: unknown key 'epoch'; there are epochs, "):
        program.main(
            ["--model", "flowmm", "--task", "dng", "--train", str(tables[0]), "--val", str(tables[1]), "--settings",
             '{"epoch": 2}', "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o")]
        )  # fmt: skip


def test_unknown_task(tables, tmp_path):
    with pytest.raises(ValueError, match="flowmm is not trained for the task 'cps', only for dng and csp"):
        run(tables, tmp_path, task="cps")
    with pytest.raises(ValueError, match="flowmm is not trained for the task 'shared'"):
        run(tables, tmp_path, task="shared")
    with pytest.raises(ValueError, match="crystal_text_llm is not trained for the task 'csp', only for shared"):
        run(tables, tmp_path, model="crystal_text_llm", task="csp", settings={})


def test_empty_tables(tables, tmp_path):
    write_table(to_table([]), tables[1])
    with pytest.raises(ValueError, match=r"val\.parquet: holds no crystals"):
        run(tables, tmp_path)


def test_tables_without_usable_crystals(tables, tmp_path):
    write_table(to_table(random_crystals(3, sizes=(101,))), tables[0])
    message = r"train\.parquet.*train: none of its 3 crystals can be trained on \(3 more than 100 atoms\)"
    with pytest.raises(ValueError, match=message):
        run(tables, tmp_path)


def test_a_budget_of_no_time_still_gives_a_checkpoint(tables, tmp_path):
    run(tables, tmp_path, settings={**SETTINGS, "epochs": 10**6}, max_seconds=1e-6)
    facts = json.loads((tmp_path / "o" / "training.json").read_text())
    assert facts["out_of_time"]
    assert facts["steps"] == 1
    assert facts["best_val_loss"] is not None


def test_devices():
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ValueError, match="no device 'tpu'; there are auto, cpu, cuda"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda: PyTorch sees no GPU here"):
            pick_device("cuda")
