"""Several processes take the same steps as one."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from random_crystals import random_crystals
from tiny_language import save_base
from xtalgen import models
from xtalgen.crystals import to_table, write_table
from xtalgen.models.language.decoding import TextSampling
from xtalgen.training.distributed import Processes, current, together

ROOT = Path(__file__).parents[3]
# 13 crystals in batches of 4: the last parts of some batches are empty for the second process.
SETTINGS = '{"epochs": 3, "batch_size": 4, "hidden": 16, "layers": 2, "frequencies": 4, "val_every": 1, "parts": 2}'


def train(folder, processes, *options, model="flowmm", settings=SETTINGS, name=""):
    """Runs the script, under torchrun for more than one process; returns the rows of log.csv and the folder."""
    launcher = [sys.executable]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*launcher, str(ROOT / "workflow/scripts/train.py"), "--model", model]
    command += ["--train", str(folder / "train.parquet"), "--val", str(folder / "val.parquet"), "--settings", settings]
    command += ["--task", "dng" if model == "flowmm" else "shared"]
    out = folder / f"{model}{name}-{len(options)}-{processes}"
    command += ["--work", str(out / "work"), "--out", str(out), "--device", "cpu", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (out / "log.csv").open() as file:
        return list(csv.DictReader(file)), out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_table(to_table(random_crystals(13, sizes=(3, 5, 8))), folder / "train.parquet")
    write_table(to_table(random_crystals(5, seed=2)), folder / "val.parquet")
    return folder


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(data):
    (alone, one), (shared, two) = (train(data, processes) for processes in (1, 2))
    assert len(alone) == len(shared) == 3
    for a, b in zip(alone, shared, strict=True):
        for name in ("loss", "coords", "lattice", "val_loss", "lr", "step"):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-5), name
    weights = [load_file(out / "checkpoint.safetensors") for out in (one, two)]
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=1e-4, err_msg=name)
    assert '"processes": 2' in (two / "training.json").read_text()


@pytest.mark.long
def test_processes_that_share_out_a_base_take_the_same_steps(data):
    base = save_base(data / "base")
    settings = {"base": base, "base_precision": "float32", "epochs": 2, "batch_size": 4, "parts": 2, "warmup_steps": 1}
    runs = [train(data, 2, model="crystal_text_llm", settings=json.dumps({**settings, "share_base": shared}),
                  name=str(shared)) for shared in (False, True)]  # fmt: skip
    (whole, one), (shared, two) = runs
    for a, b in zip(whole, shared, strict=True):
        clocks = dict.fromkeys(("seconds", "samples_per_s", "gflop_per_s"))
        assert a | clocks == b | clocks
    weights = [load_file(out / "checkpoint.safetensors") for out in (one, two)]
    assert weights[0]
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name], err_msg=name)
    held = [json.loads((out / "training.json").read_text())["weights_held"] for out in (one, two)]
    layers = sum(value.size for name, value in load_file(Path(base) / "model.safetensors").items() if "layers" in name)
    assert held[0] - held[1] == layers // 2, "of two processes, each holds half of the layers"
    settings = TextSampling(max_tries=1, max_new_tokens=60, constrained=True)
    model = models.load("crystal_text_llm")
    made = [model.sample(out / "checkpoint.safetensors", 2, settings, 0, "cpu") for out in (one, two)]
    first, second = ([crystal.info["text"] for crystal in crystals] for crystals in made)
    assert first == second


@pytest.mark.slow
def test_a_budget_ends_all_processes_together(data):
    rows, _ = train(data, 2, "--max-seconds", "0.0001")
    assert len(rows) == 1


def test_alone_nothing_is_shared():
    with together("cpu") as processes:
        assert processes == current() == Processes(0, 1)
        assert processes.first
        assert processes.agree(3.5, torch.device("cpu")) == 3.5
