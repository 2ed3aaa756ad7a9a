"""Several processes take the same steps as one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from random_crystals import random_crystals
from xtalgen.crystals import to_table, write_table
from xtalgen.models.nn.processes import Processes, current, together

ROOT = Path(__file__).parents[2]
# 13 crystals in batches of 4: the last parts of some batches are empty for the second process.
SETTINGS = '{"epochs": 3, "batch_size": 4, "hidden": 16, "layers": 2, "frequencies": 4, "val_every": 1, "parts": 2}'


def train(folder, processes, *options):
    """Runs the script, under torchrun for more than one process; returns the rows of log.csv."""
    launcher = [sys.executable]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*launcher, str(ROOT / "workflow/scripts/train.py"), "--model", "flowmm", "--task", "dng"]
    command += ["--train", str(folder / "train.parquet"), "--val", str(folder / "val.parquet"), "--settings", SETTINGS]
    out = folder / f"{len(options)}-{processes}"
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


@pytest.mark.slow
def test_a_budget_ends_all_processes_together(data):
    rows, _ = train(data, 2, "--max-seconds", "0.0001")
    assert len(rows) == 1


def test_alone_nothing_is_shared():
    with together("cpu") as processes:
        assert processes == current() == Processes(0, 1)
        assert processes.first
        assert processes.agree(3.5, torch.device("cpu")) == 3.5
