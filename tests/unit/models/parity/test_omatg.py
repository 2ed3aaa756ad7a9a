"""OMatG against numbers from its own formulas (omatg.json says which)."""

import json
from pathlib import Path

import pytest
import torch

from tolerances import SUMS
from xtalgen.models.flow_matching.euler import integrate, straight_path
from xtalgen.models.flow_matching.stochastic_interpolant import CellFlow, Lengths
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.omatg import OMatGSampling
from xtalgen.models.sampling.requests import RequestBatch

from .formulas import SIZES, crystals, exactly, inside, wave

STATED = json.loads(Path(__file__).with_name("omatg.json").read_text(encoding="utf-8"))
TIME = inside(3, phase=90)


@pytest.fixture
def batch():
    return crystals()


def flow():
    return exactly(CellFlow(Lengths((1.5, 1.75, 2.0), (0.25, 0.25, 0.375)), hidden=8, layers=1, frequencies=2))


def begin(batch):
    return State(batch.frac_coords[..., :0], inside(3, 4, 3, phase=50), wave(3, 3, 3, phase=51) + 4 * torch.eye(3))


def equal(found, stated):
    torch.testing.assert_close(found.detach().flatten(), torch.tensor(stated), rtol=SUMS, atol=SUMS)


def test_path_target_and_loss(batch):
    model, mask = flow(), batch.mask
    point, target = straight_path(begin(batch), model.encode(batch), TIME, mask)
    equal(point.coords[mask], STATED["point_coords"])
    equal(point.lattice, STATED["point_lattice"])
    equal(target.coords[mask], STATED["target_coords"])
    equal(target.lattice, STATED["target_lattice"])
    predicted = State(point.types, wave(3, 4, 3, phase=52), wave(3, 3, 3, phase=53))
    _, parts = model.error(predicted, target, mask)
    # Theirs leave the square of the target out, which has no gradient.
    theirs = {name: part.item() - STATED["square_of_target"][name] for name, part in parts.items()}
    assert theirs == pytest.approx(STATED["parts"], rel=SUMS, abs=SUMS)
    assert sum(model.weights[name] * part for name, part in theirs.items()) == pytest.approx(STATED["loss"], rel=SUMS)


def test_euler_steps_with_annealed_velocities(batch, monkeypatch):
    def velocity(point, time, *_):
        t = time[:, None, None]
        return State(point.types, 0.3 * torch.cos(2 * torch.pi * point.coords) + 0.1 * t, 0.2 * point.lattice + t)

    model = flow()
    monkeypatch.setattr(model, "velocity", velocity)
    wanted = RequestBatch(batch.atomic_numbers, batch.mask, list(SIZES), [0, 1, 2])
    sampling = OMatGSampling()
    end = integrate(model, begin(batch), wanted, 5, (0.0, sampling.slope, sampling.slope_lattice))
    equal(end.coords[batch.mask], STATED["end_coords"])
    equal(end.lattice, STATED["end_lattice"])
