"""The contract of a model, checked for every model and task: a new file in models/ is covered by being there.

The template of docs/guides is checked as it stands, as if it had been copied to models/.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from random_crystals import random_crystals
from xtalgen import models
from xtalgen.runtime.names import SHARED
from xtalgen.training.contract import (
    ModelContractError,
    broken,
    check_class,
    check_sample,
    check_training,
    describe_contract,
    read_contract,
)
from xtalgen.training.job import Job

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
GUIDES = Path(__file__).parents[3] / "docs/guides"
TEMPLATE = "template_model"


@contextmanager
def template_among_the_models():
    """Inside, docs/guides/template_model.py is found as if it stood in models/."""
    models.__path__.append(str(GUIDES))
    try:
        yield
    finally:
        models.__path__.remove(str(GUIDES))


@pytest.fixture(scope="module", autouse=True)
def template():
    with template_among_the_models():
        yield


def tiny(kind, **changes):
    values = {**TINY, **changes}
    return models.build(kind, {k: v for k, v in values.items() if k in kind.__dataclass_fields__}, "test")


def checkpoint_task(model, task):
    return SHARED if models.load(model).shared_checkpoint else task


with template_among_the_models():
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
    check_training(model, checkpoint_task(model, task), out)
    facts = json.loads((out / "training.json").read_text())
    if facts["n_train"] != 24 or facts["n_skipped"] != 3 or sum(facts["left_out"]["train"].values()) != 3:
        broken(model, "rows left out", f"of 24 usable and 3 broken crystals it counts {facts['left_out']} as left out")
    if not facts["flop"] >= 24 * facts["useful_flop_per_crystal"] > 0:
        broken(model, "training.json", "flop is below that of one epoch")


def test_leaves_nothing_in_the_work_folder(trained):
    left = [path for path in (trained[2].parent / "work").rglob("*") if path.is_file()]
    if left:
        broken(trained[0], "files", f"{left} is left in the work folder")


def test_yields_exactly_what_was_asked_for(trained):
    crystals = sample(trained)
    check_sample(trained[0], crystals, wanted(trained[0], trained[1]))
    found = [crystal.atomic_numbers.tolist() for crystal in crystals]
    if models.load(trained[0]).needs_base:
        assert found == [start.atomic_numbers.tolist() for start in SMALL_SET[:7]]
        assert crystals[4].status == "unparsable"
    elif trained[1] == "csp":
        assert found == [numbers.tolist() for numbers in wanted(trained[0], "csp")]


def test_nothing_wanted_gives_nothing(trained):
    check_sample(trained[0], sample(trained, n=0), 0)


def test_same_seed_same_crystals(trained):
    first, again, other = sample(trained), sample(trained), sample(trained, seed=1)
    if not all(same(a, b) for a, b in zip(first, again, strict=True)):
        broken(trained[0], "sampling seed", "two samples of one seed differ")
    # A model that refines crystals has no noise of its own, and substitution draws nothing.
    settled = models.load(trained[0]).needs_base or trained[0] == "substitution"
    if all(same(a, b) for a, b in zip(first, other, strict=True)) != settled:
        broken(trained[0], "sampling seed", "samples of two seeds are equal")


def test_network_evaluations_are_a_positive_number(trained):
    loaded = models.load(trained[0])
    if not loaded.network_evaluations(tiny(loaded.Sampling)) > 0:
        broken(trained[0], "evaluations", "network_evaluations returns no positive number")


@each_training
def test_training_is_deterministic(model, task, tmp_path):
    bytes_of = [
        (train(model, task, tmp_path / name, seed=seed) / "checkpoint.safetensors").read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    if bytes_of[0] != bytes_of[1]:
        broken(model, "training seed", "two trainings of one seed gave different checkpoints")
    if bytes_of[0] == bytes_of[2]:
        broken(model, "training seed", "trainings of two seeds gave equal checkpoints")


PROGRAM = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = {paths!r}
from test_contract import models, train
models.__path__.append({guides!r})
train({model!r}, {task!r}, Path({folder!r}), epochs={epochs}, save_seconds=0.0)
"""


@each_training
def test_a_training_killed_with_sigkill_goes_on_bit_equal(model, task, tmp_path):
    torch.set_num_threads(1)
    epochs = 20
    folder = tmp_path / "killed"
    program = PROGRAM.format(
        paths=[SOURCE, TESTS, str(Path(__file__).parent)],
        model=model,
        task=task,
        folder=str(folder),
        epochs=epochs,
        guides=str(GUIDES),
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    log = folder / "out" / "log.csv"
    while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 4):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    if process.returncode != -signal.SIGKILL:
        broken(model, "resume", f"the training to be killed ended by itself: {errors.decode()[-2000:]}")
    if (folder / "out" / "checkpoint.safetensors").exists() or not any((folder / "work").rglob("state.pt")):
        broken(model, "resume", "after the kill there is a checkpoint, or no state.pt in the work folder")
    resumed = train(model, task, folder, epochs=epochs)
    uninterrupted = train(model, task, tmp_path / "whole", epochs=epochs)
    if (resumed / "checkpoint.safetensors").read_bytes() != (uninterrupted / "checkpoint.safetensors").read_bytes():
        broken(model, "resume", "the resumed training gave another checkpoint than the uninterrupted one")
    check_training(model, checkpoint_task(model, task), resumed)
    assert len((resumed / "log.csv").read_text().splitlines()) == epochs + 1


@each_training
def test_training_and_sampling_need_only_the_small_group(model, task, tmp_path):
    """A bare GPU node has what requirements.in lists under models and language, and nothing else."""
    program = PROGRAM.format(
        paths=[SOURCE, TESTS, str(Path(__file__).parent)],
        model=model,
        task=task,
        folder=str(tmp_path),
        epochs=1,
        guides=str(GUIDES),
    )
    program = program.replace("from test_contract import models, train", TRAIN_ALONE)
    program += SAMPLE_ALONE.format(model=model, task=task)
    done = subprocess.run([sys.executable, "-c", HIDE + program], capture_output=True, text=True, check=False)
    if done.returncode:
        broken(model, "imports", f"it fails without the other packages: {done.stderr[-2000:]}")
    if found := sorted(HEAVY & set(json.loads(done.stdout.splitlines()[-1]))):
        broken(model, "imports", f"it imports {', '.join(found)}")


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
from xtalgen.runtime.names import SHARED
from xtalgen.training.job import Job
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


def without(path, key):
    facts = json.loads(path.read_text())
    del facts[key]
    path.write_text(json.dumps(facts))


def with_value(path, key, value):
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


BREAKS = {
    "files": lambda out: (out / "log.csv").unlink(),
    "training.json": lambda out: without(out / "training.json", "contract"),
    "training.json: n_skipped": lambda out: with_value(out / "training.json", "n_skipped", 5),
    "training.json: model": lambda out: with_value(out / "training.json", "model", "other"),
    "training.json: epochs is '2'": lambda out: with_value(out / "training.json", "epochs", "2"),
    "log.csv": lambda out: (out / "log.csv").write_text("epoch,loss\n0,1.0\n"),
    "checkpoint": lambda out: (out / "checkpoint.safetensors").write_bytes(b"weights"),
}


def test_what_a_training_leaves_names_the_rule_it_breaks(tmp_path):
    sound = train("diffcsp", "csp", tmp_path / "sound")
    check_training("diffcsp", "csp", sound)
    for case, spoil in BREAKS.items():
        out = Path(shutil.copytree(sound, tmp_path / case))
        spoil(out)
        rule, _, about = case.partition(": ")
        with pytest.raises(ModelContractError, match=f"diffcsp breaks the rule '{rule}' of the contract: .*{about}"):
            check_training("diffcsp", "csp", out)


@dataclass(frozen=True)
class NoDefault:
    steps: int


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"network_evaluations": models.AbstractModel.network_evaluations}, "class"),
        ({"Config": NoDefault}, "settings"),
        ({"Sampling": dict}, "settings"),
        ({"tasks": ("dream",)}, "traits"),
        ({"needs_base": "yes"}, "traits"),
    ],
)
def test_a_class_names_the_rule_it_breaks(change, rule):
    sound = type(models.load("diffcsp"))
    check_class("mine", sound, models.AbstractModel)
    body = {name: value for name, value in vars(sound).items() if name != "__dict__"}
    unsound = type("Model", (models.AbstractModel,), {**body, **change})
    with pytest.raises(ModelContractError, match=f"model mine breaks the rule '{rule}'"):
        check_class("mine", unsound, models.AbstractModel)


def test_a_file_without_a_model_names_the_rule_it_breaks(tmp_path, monkeypatch):
    (tmp_path / "empty_model.py").write_text("")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    with pytest.raises(ModelContractError, match=r"model empty_model breaks the rule 'class' .* defines no `Model`"):
        models.load("empty_model")


@pytest.mark.parametrize(
    ("spoiled", "rule"),
    [
        (lambda made: made[1:], "number"),
        (lambda made: ["LiF", *made[1:]], "crystals"),
        (lambda made: [replace(made[0], frac_coords=made[0].frac_coords + 1), *made[1:]], "crystals"),
        (lambda made: [replace(made[0], lattice=None), *made[1:]], "crystals"),
        (lambda made: made[::-1], "composition"),
    ],
)
def test_crystals_name_the_rule_they_break(spoiled, rule):
    made = sorted(SMALL_SET[:6], key=lambda crystal: crystal.n_atoms)
    asked = [crystal.atomic_numbers for crystal in made]
    check_sample("mine", made, asked)
    failed = [replace(made[0], status="bad_lattice", lattice=None, frac_coords=None), *made[1:]]
    check_sample("mine", failed, asked)
    with pytest.raises(ModelContractError, match=f"model mine breaks the rule '{rule}'"):
        check_sample("mine", spoiled(made), asked)


def test_the_guide_prints_the_contract():
    assert describe_contract() in (GUIDES / "add-a-model.md").read_text()
    tested = Path(__file__).read_text(encoding="utf-8") + (Path(SOURCE) / "xtalgen/training/contract.py").read_text()
    assert [rule for rule in read_contract()["rules"] if f'"{rule}"' not in tested] == []
