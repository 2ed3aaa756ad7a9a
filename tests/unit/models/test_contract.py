"""The contract of a model, checked for every model and task: a new file in models/ is covered by being there."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from random_crystals import random_crystals
from xtalgen import models
from xtalgen.training.checkpoint import load_checkpoint
from xtalgen.training.job import SHARED, Job

# Whatever of these a model's settings know makes it small.
TINY = {
    "epochs": 2, "batch_size": 8, "hidden": 16, "layers": 2, "frequencies": 4, "val_every": 1, "steps": 4,
    "bonds": "radius", "latent": 8, "triplet": 8, "encoder_blocks": 1, "decoder_blocks": 1, "neighbours": 6,
    "levels": 2, "steps_per_level": 2,
    "formula_hidden": 16, "formula_layers": 1, "formula_heads": 2, "formula_epochs": 2, "formula_batch_size": 8,
    "base": "scratch", "heads": 2, "warmup_steps": 0, "constrained": True, "max_new_tokens": 120,
    "structure_temperature": 1.0,
}  # fmt: skip
SMALL_SET = random_crystals(24, seed=8)
SOURCE = str(Path(models.__file__).parents[2])
TESTS = str(Path(__file__).parents[2] / "helpers")


def tiny(kind, **changes):
    values = {**TINY, **changes}
    return models.build(kind, {k: v for k, v in values.items() if k in kind.__dataclass_fields__}, "test")


def checkpoint_task(model, task):
    return SHARED if models.load(model).shared_checkpoint else task


PAIRS = [(model, task) for model in models.names() for task in models.load(model).tasks]
TRAININGS = sorted({(model, checkpoint_task(model, task)) for model, task in PAIRS})
each_training = pytest.mark.parametrize(("model", "task"), TRAININGS, ids=["-".join(names) for names in TRAININGS])


def train(model, task, folder, crystals=SMALL_SET, seed=0, **changes):
    loaded = models.load(model)
    job = Job(checkpoint_task(model, task), seed, folder / "work", folder / "out")
    loaded.train(crystals, SMALL_SET[:6], tiny(loaded.Config, **changes), job)
    return folder / "out"


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def trained(request, tmp_path_factory):
    """A model trained on a few crystals, broken ones and a cell of one atom among them."""
    torch.set_num_threads(1)
    model, task = request.param
    broken = [
        replace(SMALL_SET[0], status="unparsable", lattice=None, frac_coords=None, atomic_numbers=None),
        replace(SMALL_SET[1], atomic_numbers=np.array([118, 3], dtype=np.uint8)),
        replace(SMALL_SET[1], frac_coords=np.full((2, 3), np.nan)),
    ]
    out = train(model, task, tmp_path_factory.mktemp(f"{model}-{task}"), [*broken, *SMALL_SET])
    return model, task, out


def wanted(model, task, n=7):
    if models.load(model).needs_base:
        return [replace(made, status="unparsable") if i == 4 else made for i, made in enumerate(SMALL_SET[:n])]
    if task == "dng":
        return n
    return [np.array([26, 8, 8][: 1 + i % 3]) for i in range(n)]


def sample(trained, seed=0, n=7):
    model, task, out = trained
    loaded = models.load(model)
    return list(
        loaded.sample(out / "checkpoint.safetensors", wanted(model, task, n), tiny(loaded.Sampling), seed, "cpu")
    )


def same(a, b):
    return a.status == b.status and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("lattice", "frac_coords", "atomic_numbers")
    )


def test_leaves_checkpoint_curve_and_facts(trained):
    model, task, out = trained
    facts = json.loads((out / "training.json").read_text())
    assert facts["contract"] == "training/1"
    assert facts["model"] == model
    assert facts["n_train"] == 24
    assert facts["n_skipped"] == 3
    assert sum(facts["left_out"]["train"].values()) == 3
    assert facts["parameters"] > 0
    assert facts["flop"] >= 24 * facts["useful_flop_per_crystal"] > 0
    assert facts["seconds"] > 0
    rows = (out / "log.csv").read_text().splitlines()
    assert rows[0].startswith("epoch,step,seconds,loss,")
    assert len(rows) == 1 + facts["epochs"]
    _, stored = load_checkpoint(out / "checkpoint.safetensors", "cpu")
    assert stored["contract"] == "checkpoint/1"
    assert stored["task"] == checkpoint_task(model, task)


def test_leaves_nothing_in_the_work_folder(trained):
    assert [path for path in (trained[2].parent / "work").rglob("*") if path.is_file()] == []


def test_yields_exactly_what_was_asked_for(trained):
    crystals = sample(trained)
    assert len(crystals) == 7
    for crystal in crystals:
        if crystal.ok:
            assert crystal.lattice.shape == (3, 3)
            assert crystal.frac_coords.shape == (crystal.n_atoms, 3)
            assert (crystal.frac_coords >= 0).all()
            assert (crystal.frac_coords < 1).all()
            assert np.isfinite(crystal.lattice).all()
    found = [crystal.atomic_numbers.tolist() for crystal in crystals]
    if models.load(trained[0]).needs_base:
        assert found == [start.atomic_numbers.tolist() for start in SMALL_SET[:7]]
        assert crystals[4].status == "unparsable"
    elif trained[1] == "csp":
        assert found == [numbers.tolist() for numbers in wanted(trained[0], "csp")]


def test_nothing_wanted_gives_nothing(trained):
    assert sample(trained, n=0) == []


def test_same_seed_same_crystals(trained):
    first, again, other = sample(trained), sample(trained), sample(trained, seed=1)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    # A model that refines crystals has no noise of its own, and substitution draws nothing.
    settled = models.load(trained[0]).needs_base or trained[0] == "substitution"
    assert all(same(a, b) for a, b in zip(first, other, strict=True)) == settled


def test_network_evaluations_are_a_positive_number(trained):
    loaded = models.load(trained[0])
    assert loaded.network_evaluations(tiny(loaded.Sampling)) > 0


@each_training
def test_training_is_deterministic(model, task, tmp_path):
    bytes_of = [
        (train(model, task, tmp_path / name, seed=seed) / "checkpoint.safetensors").read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert bytes_of[0] == bytes_of[1]
    assert bytes_of[0] != bytes_of[2]


PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = {paths!r}
from test_contract import train
train({model!r}, {task!r}, Path({folder!r}), epochs={epochs}, save_seconds=0.0)
"""


@each_training
def test_a_training_killed_with_sigkill_goes_on_bit_equal(model, task, tmp_path):
    torch.set_num_threads(1)
    epochs = 20
    folder = tmp_path / "killed"
    program = PROGRAM.format(
        paths=[SOURCE, TESTS, str(Path(__file__).parent)], model=model, task=task, folder=str(folder), epochs=epochs
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    log = folder / "out" / "log.csv"
    while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 4):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert not (folder / "out" / "checkpoint.safetensors").exists()
    assert list((folder / "work").rglob("state.pt"))
    resumed = train(model, task, folder, epochs=epochs)
    uninterrupted = train(model, task, tmp_path / "whole", epochs=epochs)
    assert (resumed / "checkpoint.safetensors").read_bytes() == (uninterrupted / "checkpoint.safetensors").read_bytes()
    assert len((resumed / "log.csv").read_text().splitlines()) == epochs + 1


@each_training
def test_training_and_sampling_need_only_the_small_group(model, task, tmp_path):
    """A bare GPU node has what requirements.in lists under models and language, and nothing else."""
    program = PROGRAM.format(
        paths=[SOURCE, TESTS, str(Path(__file__).parent)], model=model, task=task, folder=str(tmp_path), epochs=1
    ).replace("from test_contract import train", TRAIN_ALONE) + SAMPLE_ALONE.format(model=model, task=task)
    done = subprocess.run([sys.executable, "-c", HIDE + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(json.loads(done.stdout.splitlines()[-1])) == set()


HEAVY = {"pymatgen", "matminer", "smact", "chgnet", "mace", "ase", "moyopy", "scipy", "pandas", "matplotlib",
         "snakemake", "sklearn", "e3nn", "spglib", "pytest", "hypothesis", "beartype", "pebble"}  # fmt: skip
# Makes these packages look as if they were not installed: some libraries import them where they are.
HIDE = f"""
import sys
from importlib.machinery import PathFinder
class BareNode(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {HEAVY!r} else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [BareNode if finder is PathFinder else finder for finder in sys.meta_path]
"""
TRAIN_ALONE = """
import json
import xtalgen.stages.train
from random_crystals import random_crystals
from xtalgen import models
from xtalgen.training.job import SHARED, Job
def tiny(kind):
    return models.build(kind, {k: v for k, v in {values}.items() if k in kind.__dataclass_fields__}, "test")
def train(model, task, folder, **_):
    loaded = models.load(model)
    task = SHARED if loaded.shared_checkpoint else task
    crystals = random_crystals(9)
    loaded.train(crystals, crystals, tiny(loaded.Config), Job(task, 0, folder / "work", folder / "out"))
    global checkpoint
    checkpoint = folder / "out" / "checkpoint.safetensors"
""".replace("{values}", repr(TINY))
SAMPLE_ALONE = """
import numpy
loaded = models.load({model!r})
wanted = 2 if {task!r} == "dng" else [numpy.array([6])]
wanted = random_crystals(2) if loaded.needs_base else wanted
list(loaded.sample(checkpoint, wanted, tiny(loaded.Sampling), 0, "cpu"))
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


@dataclass(frozen=True)
class Settings:
    rate: float = 0.1
    steps: int = 3
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    limit: float | None = None


def test_build_reads_settings():
    assert models.build(Settings, {"rate": 1, "limit": None, "fast": True}, "here") == Settings(rate=1.0, fast=True)
    assert models.build(Settings, {"rate": "3e-4"}, "here").rate == 3e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1}, "here: unknown key 'rat'; there are rate, steps, fast, kind, limit"),
        ({"steps": 1.5}, "here: steps is 1.5, a float; it must be int"),
        ({"steps": True}, "here: steps is True, a bool; it must be int"),
        ({"rate": "much"}, "here: rate is 'much', a str; it must be float"),
        ({"fast": 1}, "here: fast is 1, a int; it must be bool"),
        ({"kind": "c"}, "here: kind is 'c'; choose one of 'a', 'b'"),
        ({"limit": "x"}, "here: limit is 'x', a str; it must be float or NoneType"),
    ],
)
def test_build_refuses_wrong_settings_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        models.build(Settings, values, "here")


def test_unknown_model_is_named():
    with pytest.raises(ValueError, match=r"no model 'flomm'; there are .*flowmm"):
        models.load("flomm")
