"""FlowMM and FlowLLM against numbers that FlowMM's own functions gave (flowmm.json says which)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tolerances import SUMS
from xtalgen.models.flow_matching.euler import integrate, straight_path
from xtalgen.models.flow_matching.riemannian_flow import Constants, RiemannianFlow
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.sampling.requests import RequestBatch

from .formulas import SIZES, crystals, exactly, fill, inside, wave

STATED = json.loads(Path(__file__).with_suffix(".json").with_stem("flowmm").read_text(encoding="utf-8"))
TIME = inside(3, phase=90)
TASKS = ["csp", "dng"]


@pytest.fixture
def batch():
    return crystals()


def flow_of(task):
    constants = Constants.from_json(STATED["constants"])
    return fill(exactly(RiemannianFlow(task, constants, hidden=8, layers=2, frequencies=3)))


def begin(task):
    """The points where the paths begin."""
    types = wave(3, 4, 7, phase=80) if task == "dng" else torch.zeros(3, 4, 0)
    lattice = torch.cat([3 + inside(3, 3, phase=60), wave(3, 3, phase=70)], dim=-1)
    return State(types=types, coords=inside(3, 4, 3, phase=50), lattice=lattice)


def equal(found, stated):
    torch.testing.assert_close(found.detach().flatten(), torch.tensor(stated), rtol=SUMS, atol=SUMS)


@pytest.mark.parametrize("task", TASKS)
def test_path_and_target(task, batch):
    point, target = straight_path(begin(task), flow_of(task).encode(batch), TIME, batch.mask)
    stated, mask = STATED[task], batch.mask
    equal(point.coords[mask], stated["point_coords"])
    equal(point.lattice, stated["point_lattice"])
    equal(target.coords[mask], stated["target_coords"])
    equal(target.lattice, stated["target_lattice"])
    if task == "dng":
        equal(point.types[mask], stated["point_types"])


@pytest.mark.parametrize("task", TASKS)
def test_velocity_of_the_network_and_loss(task, batch):
    flow, stated, mask = flow_of(task), STATED[task], batch.mask
    point, target = straight_path(begin(task), flow.encode(batch), TIME, mask)
    found = flow.velocity(point, TIME, batch.atomic_numbers, mask)
    equal(found.coords[mask], stated["velocity_coords"])
    equal(found.lattice, stated["velocity_lattice"])
    if task == "dng":
        equal(found.types[mask], stated["velocity_types"])
    total, parts = flow.error(found, target, mask)
    assert total.item() == pytest.approx(stated["loss"], rel=SUMS)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(stated["parts"], rel=SUMS)


@pytest.mark.parametrize("task", TASKS)
def test_euler_steps_with_slope_10(task, batch):
    wanted = RequestBatch(batch.atomic_numbers, batch.mask, list(SIZES), [0, 1, 2])
    end = integrate(flow_of(task), begin(task), wanted, 4, (0.0, 10.0, 0.0))
    equal(end.coords[batch.mask], STATED[task]["end_coords"])
    equal(end.lattice, STATED[task]["end_lattice"])
    if task == "dng":
        equal(end.types[batch.mask], STATED[task]["end_types"])


def test_flowllm_is_the_same_flow_from_given_structures(batch, monkeypatch):
    """FlowMM's rfm_loss_fn(batch, x0) trains FlowLLM; here the given points come with the batch."""
    given = begin("csp")
    batch = replace(batch, extra={"base_coords": given.coords, "base_lattice": given.lattice})
    monkeypatch.setattr(torch, "rand", lambda *_, **__: TIME)
    total, parts = flow_of("csp").loss(batch, torch.Generator())
    assert total.item() == pytest.approx(STATED["csp"]["loss"], rel=SUMS)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(STATED["csp"]["parts"], rel=SUMS)
