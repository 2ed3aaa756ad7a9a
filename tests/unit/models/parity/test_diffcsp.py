"""DiffCSP against numbers that its own functions gave (diffcsp.json says which)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tolerances import SUMS
from xtalgen.models import diffcsp
from xtalgen.models.diffcsp import DiffCSPSampling
from xtalgen.models.diffusion.ddpm import CrystalDiffusion, schedule, wrapped_normal_score
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import lattice_to_parameters
from xtalgen.models.sampling.requests import RequestBatch

from .formulas import SIZES, crystals, exactly, fill, inside, wave

STATED = json.loads(Path(__file__).with_name("diffcsp.json").read_text(encoding="utf-8"))
TASKS = ["csp", "dng"]
LEVELS = STATED["schedules"]["levels"]


@pytest.fixture
def batch():
    return crystals()


def model_of(task):
    """The model, with the stated norms of the score."""
    model = fill(exactly(CrystalDiffusion(task, hidden=8, layers=2, frequencies=3, levels=LEVELS)))
    model.schedule = replace(model.schedule, score_scale=np.array(STATED["score_scale"]))
    for name in ("alpha_bar", "sigma", "score_scale"):
        setattr(model, name, torch.from_numpy(getattr(model.schedule, name)))
    return model


def equal(found, stated):
    torch.testing.assert_close(found.detach().flatten(), torch.tensor(stated), rtol=SUMS, atol=SUMS)


def test_schedules():
    found, stated = schedule(LEVELS, 0.005, 0.5), STATED["schedules"]
    assert found.alpha_bar == pytest.approx(stated["alpha_bar"], rel=SUMS)
    assert found.sigma == pytest.approx(stated["sigma"], rel=SUMS)
    assert [step.spread for step in found.downwards()] == pytest.approx(stated["spread"][:0:-1], rel=SUMS)
    # Theirs are means of 10,000 draws; at the largest noise hardly any score is left.
    assert found.score_scale[:-1] ** 2 == pytest.approx(stated["norm"][:-1], rel=0.03)
    assert found.score_scale[-1] ** 2 == pytest.approx(stated["norm"][-1], rel=0.05)


def test_score_of_the_wrapped_normal():
    stated = STATED["score"]
    equal(wrapped_normal_score(torch.tensor(stated["x"]), torch.tensor(stated["sigma"])), stated["value"])


@pytest.mark.parametrize("task", TASKS)
def test_outputs_of_the_network(task, batch):
    types = wave(3, 4, 100, phase=7) if task == "dng" else batch.frac_coords[..., :0]
    point = State(types=types, coords=batch.frac_coords, lattice=batch.lattice)
    found = model_of(task).predict(point, torch.tensor([2, 7, 10]), batch.atomic_numbers, batch.mask)
    equal(found.lattice, STATED[task]["output_lattice"])
    equal(found.coords[batch.mask], STATED[task]["output_coords"])
    if task == "dng":
        equal(found.types[batch.mask].sum(-1), STATED[task]["output_types_sum"])


@pytest.mark.parametrize("task", TASKS)
def test_loss(task, batch, monkeypatch):
    phases = {(4, 100): 1000, (4, 3): 30, (3, 3): 31, (4, 0): 0}
    monkeypatch.setattr(torch, "randn", lambda shape, **_: wave(*shape, phase=phases[tuple(shape[1:])]))
    monkeypatch.setattr(torch, "randint", lambda *_, **__: torch.tensor([2, 7, 10]))
    total, parts = model_of(task).loss(batch, torch.Generator())
    assert total.item() == pytest.approx(STATED[task]["loss"], rel=SUMS)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(STATED[task]["parts"], rel=SUMS)


def scripted_noise():
    """Noise by formula: the k-th draw of coordinates, cells and types each has its phase."""
    first, drawn = {(4, 3): 30, (3, 3): 400, (4, 100): 2000}, {}

    def draw(like):
        shape = tuple(like.shape[1:])
        drawn[shape] = drawn.get(shape, first[shape] - 1) + 1
        return wave(*like.shape, phase=drawn[shape])

    return draw


@pytest.mark.parametrize("task", TASKS)
def test_predictor_and_corrector_from_the_first_to_the_last_level(task, batch, monkeypatch):
    wanted = RequestBatch(batch.atomic_numbers, batch.mask, list(SIZES), [0, 1, 2])
    types = wave(3, 4, 100, phase=502) if task == "dng" else batch.frac_coords[..., :0]
    start = State(types=types, coords=inside(3, 4, 3, phase=501), lattice=wave(3, 3, 3, phase=500) + 3 * torch.eye(3))
    noise, ends = scripted_noise(), []
    monkeypatch.setattr(diffcsp, "_noise", lambda _: noise)
    monkeypatch.setattr(diffcsp, "to_crystals", lambda *end: ends.append(end) or [])
    sampler = diffcsp._Sampler(model_of(task), DiffCSPSampling(levels=LEVELS), 0)
    monkeypatch.setattr(sampler, "_start", lambda _: start)
    sampler.make(wanted)
    (lengths, angles, coords, numbers, _), stated = ends[0], STATED[task]
    expected = lattice_to_parameters(torch.tensor(stated["end_lattice"]).reshape(3, 3, 3))
    torch.testing.assert_close((lengths, angles), expected, rtol=SUMS, atol=SUMS)
    equal(coords[batch.mask], stated["end_coords"])
    assert numbers[batch.mask].tolist() == stated.get("end_numbers", batch.atomic_numbers[batch.mask].tolist())
