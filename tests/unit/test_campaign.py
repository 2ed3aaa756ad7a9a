"""The campaign for bare GPU machines: interrupted and resumed, its results packed in small files."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml

from random_crystals import random_crystals
from xtalgen import models
from xtalgen.crystals import read_crystals, to_table, write_table
from xtalgen.training.checkpoint import load_checkpoint

TRAIN = {"hidden": 16, "layers": 1, "frequencies": 2, "batch_size": 8, "epochs": 100000, "save_seconds": 0.1}
SETTINGS = {"steps": 3}


@pytest.fixture
def plan(tmp_path):
    for name, n in (("train", 24), ("val", 6), ("test", 6)):
        write_table(to_table(random_crystals(n, seed=n)), tmp_path / f"{name}.parquet")
    return tmp_path


def write_plan(folder, seconds):
    samples = {"test": {"split": "test", "limit": 4, "settings": SETTINGS}}
    run = {"name": "tiny", "model": "flowmm", "task": "csp", "seconds": seconds, "train": TRAIN, "samples": samples}
    (folder / "plan.yaml").write_text(yaml.safe_dump([run]))


def call(root, folder, budget):
    command = [
        sys.executable,
        str(root / "records/campaign.py"),
        "--plan",
        str(folder / "plan.yaml"),
        "--data",
        str(folder),
    ]
    command += ["--work", str(folder / "work"), "--out", str(folder / "out"), "--budget", str(budget), "--reserve", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_campaign_goes_on_where_it_stopped_and_packs_its_results(root, plan):
    write_plan(plan, seconds=1000)
    assert "no time left for train of tiny; call again to go on" in call(root, plan, 0.5)
    assert "train of tiny was interrupted and is resumed" in call(root, plan, 15)
    write_plan(plan, seconds=1)
    assert "all runs are finished" in call(root, plan, 400)
    out = plan / "out/tiny"
    assert "resumed at epoch" in (out / "train.log").read_text()
    facts = json.loads((out / "training.json").read_text())
    assert facts["out_of_time"]
    assert facts["seconds"] < 30
    assert len(read_crystals(out / "test.parquet")) == 4
    (plan / "joined.safetensors").write_bytes(b"".join(path.read_bytes() for path in sorted(out.glob("weights.*"))))
    weights, _ = load_checkpoint(plan / "joined.safetensors", "cpu")
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.bfloat16}
    model = models.load("flowmm")
    made = model.sample(
        plan / "joined.safetensors",
        [read_crystals(plan / "test.parquet")[0].atomic_numbers],
        models.build(model.Sampling, SETTINGS, "test"),
        0,
        "cpu",
    )
    assert len(list(made)) == 1


@pytest.mark.parametrize("plan", ["mp_20", "formula_orbits"])
def test_the_shipped_plans_fit_the_models(root, plan):
    for run in yaml.safe_load((root / f"records/{plan}.yaml").read_text()):
        model = models.load(run["model"])
        models.build(model.Config, run["train"], run["name"])
        for name, asked in run["samples"].items():
            models.build(model.Sampling, asked["settings"], name)
            assert {"n", "split"} & set(asked)
