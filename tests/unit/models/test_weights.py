"""The weights that come with the package: each is readable, small, described, and samples at once."""

import json

import numpy as np
import pytest

from xtalgen import models
from xtalgen.experiment.model_traits import needs_base, tasks_of
from xtalgen.experiment.plan import WEIGHTS
from xtalgen.runtime.names import SHARED, TRAINED_TASKS
from xtalgen.structure.geometry import usable
from xtalgen.training.checkpoint import load_checkpoint

FILES = sorted(WEIGHTS.glob("*/*.safetensors"))
NACL = np.array([11, 17], dtype=np.uint8)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_shipped_weights_sample(file):
    name, task = file.parent.name, file.stem
    _, facts = load_checkpoint(file, "cpu")
    assert (facts["model"], facts["task"]) == (name, task)
    model = models.load(name)
    for asked in tasks_of(name, TRAINED_TASKS) if task == SHARED else (task,):
        if not needs_base(name):
            wanted = 2 if asked == "dng" else [NACL, NACL]
            made = list(model.sample(file, wanted, model.Sampling(), 0, "cpu"))
            assert len(made) == 2
            assert any(usable(crystal) for crystal in made)


def test_shipped_weights_are_small_and_described():
    assert FILES
    assert max(file.stat().st_size for file in FILES) <= 6 * 2**20
    assert sum(file.stat().st_size for file in FILES) <= 25 * 2**20
    for folder in {file.parent for file in FILES}:
        card = (folder / "card.md").read_text()
        for file in folder.glob("*.safetensors"):
            made = json.loads(file.with_suffix(".json").read_text())
            assert (made["model"], made["task"]) == (folder.name, file.stem)
        assert [word for word in ("| data |", "| budget |", "| licence |", "| not for |") if word not in card] == []
