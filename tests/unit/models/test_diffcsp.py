"""DiffCSP: noise schedules, wrapped normal score, loss, invariances, sampler."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_crystals import random_crystals
from real_crystals import embedded
from xtalgen.models.diffcsp import STEP_RATE, DiffCSPConfig, DiffCSPSampling, Model, _Sampler
from xtalgen.models.diffusion.ddpm import CrystalDiffusion, schedule, score_scale, wrapped_normal_score
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.sampling.requests import in_batches
from xtalgen.structure.pymatgen import to_structure
from xtalgen.training.batches import DeviceData
from xtalgen.training.job import Job

CRYSTALS = random_crystals(20, seed=5)


def module(task, **changes):
    torch.manual_seed(1)
    return CrystalDiffusion(task, **{"hidden": 16, "layers": 2, "frequencies": 4, "levels": 20, **changes})


def whole(crystals):
    """All crystals in one batch, padded to the largest."""
    data = DeviceData([*crystals], "cpu")
    assert len(data.buckets) == 1
    return data.buckets[0]


@pytest.mark.parametrize(("task", "expected"), [("csp", 12_295_168), ("dng", 12_295_168 + 512 * 100 + 100)])
def test_parameters_are_those_of_the_paper(task, expected):
    assert sum(p.numel() for p in CrystalDiffusion(task).parameters()) == expected


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(0.005, 1.0))
def test_score_equals_autograd(shift, sigma):
    x = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    images = torch.arange(-10, 11, dtype=torch.float64)
    density = torch.logsumexp(-((x + images) ** 2) / (2 * sigma**2), dim=0)
    (slope,) = torch.autograd.grad(density, x)
    found = wrapped_normal_score(x.detach(), torch.tensor(sigma, dtype=torch.float64))
    torch.testing.assert_close(found, -slope, rtol=1e-9, atol=1e-9)


def test_score_is_finite_for_the_smallest_noise_in_float32():
    shift = torch.linspace(-0.5, 0.5, 101)
    score = wrapped_normal_score(shift, torch.full_like(shift, 0.005))
    assert torch.isfinite(score).all()
    torch.testing.assert_close(score[50:100], shift[50:100] / 0.005**2, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("sigma", [0.005, 0.05, 0.2, 0.5])
def test_score_scale_equals_monte_carlo(sigma):
    draws = sigma * np.random.default_rng(0).standard_normal(40_000)
    shift = torch.from_numpy(draws - np.round(draws))
    squares = wrapped_normal_score(shift, torch.full_like(shift, sigma)) ** 2
    error = float(squares.std()) / math.sqrt(len(draws))
    assert abs(score_scale(sigma) ** 2 - float(squares.mean())) < 5 * error


def test_schedules():
    plan = schedule(1000, 0.005, 0.5)
    assert plan.sigma[0] == 0
    assert plan.sigma[1] == pytest.approx(0.005)
    assert plan.sigma[-1] == pytest.approx(0.5)
    assert np.allclose(np.diff(np.log(plan.sigma[1:])), math.log(100) / 999)
    assert plan.alpha_bar[0] == 1
    assert np.all(np.diff(plan.alpha_bar) < 0)
    # cos²(π/2 · (t/T + s) / (1 + s)) / its value at 0, before betas are clipped
    middle = math.cos(math.pi / 2 * (0.5 + 0.008) / 1.008) ** 2 / math.cos(math.pi / 2 * 0.008 / 1.008) ** 2
    assert plan.alpha_bar[500] == pytest.approx(middle, rel=2e-2)
    steps = list(plan.downwards())
    assert len(steps) == 1000
    assert steps[0].alpha == pytest.approx(1 - 0.9999, rel=1e-6)
    assert steps[-1].spread == 0
    assert steps[-1].sigma_below == 0


def test_fewer_steps_cover_the_same_range():
    plan = schedule(1000, 0.005, 0.5)
    few = plan.respaced(10)
    assert few.level.tolist() == [*range(0, 1001, 100)]
    assert math.prod(step.alpha for step in few.downwards()) == pytest.approx(plan.alpha_bar[-1])
    with pytest.raises(ValueError, match="cannot sample in 1001 levels: the training had 1000"):
        plan.respaced(1001)


@pytest.mark.parametrize("task", ["csp", "dng"])
def test_loss_equals_a_slow_one(task):
    model, batch = module(task), whole(random_crystals(6, sizes=(5, 6, 8)))
    total, parts = model.loss(batch, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    levels = torch.randint(1, 21, (6,), generator=generator)
    types, coords, lattices = (
        torch.randn(shape, generator=generator)
        for shape in ((6, 8, 100 if task == "dng" else 0), batch.frac_coords.shape, (6, 3, 3))
    )
    found = {"lattice": [], "coords": [], "types": []}
    for row in range(6):
        n, level = int(batch.mask[row].sum()), int(levels[row])
        kept, sigma = model.schedule.alpha_bar[level], model.schedule.sigma[level]
        one_hot = torch.zeros(n, model.n_types)
        for atom in range(n if task == "dng" else 0):
            one_hot[atom, batch.atomic_numbers[row, atom] - 1] = 1.0
        noise = sigma * coords[row, :n]
        point = State(
            types=(kept**0.5 * one_hot + (1 - kept) ** 0.5 * types[row, :n]).float()[None],
            coords=((batch.frac_coords[row, :n] + noise) % 1.0).float()[None],
            lattice=(kept**0.5 * batch.lattice[row] + (1 - kept) ** 0.5 * lattices[row]).float()[None],
        )
        guess = model.predict(
            point, levels[row : row + 1], batch.atomic_numbers[row : row + 1, :n], batch.mask[row : row + 1, :n]
        )
        images = torch.arange(-10, 11, dtype=torch.float64)
        moved = noise.double()[..., None] + images
        weight = torch.exp(-(moved**2) / (2 * sigma**2))
        score = (weight * moved / sigma**2).sum(-1) / weight.sum(-1) / score_scale(sigma)
        found["lattice"] += ((guess.lattice[0] - lattices[row]) ** 2).flatten().tolist()
        found["coords"] += ((guess.coords[0] - score) ** 2).flatten().tolist()
        found["types"] += ((guess.types[0] - types[row, :n]) ** 2).flatten().tolist()
    expected = {name: np.mean(values) for name, values in found.items() if values}
    assert set(parts) == set(expected)
    for name, value in expected.items():
        assert parts[name].item() == pytest.approx(value, rel=1e-4)
    weights = {"lattice": 1, "coords": 1, "types": 20}
    assert total.item() == pytest.approx(sum(weights[name] * value for name, value in expected.items()), rel=1e-4)


def noisy(model, batch):
    levels = torch.full((len(batch),), 12)
    return model.diffuse(batch, levels, torch.Generator().manual_seed(3))[0], levels


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_translation_rotation_and_order_of_atoms(seed):
    model, batch = module("dng"), whole(random_crystals(3, seed=seed, sizes=(5,)))
    point, levels = noisy(model, batch)
    before = model.predict(point, levels, batch.atomic_numbers, batch.mask)
    rng = np.random.default_rng(seed)
    shift = torch.from_numpy(rng.random(3)).float()
    turn = torch.from_numpy(np.linalg.qr(rng.normal(size=(3, 3)))[0]).float()  # mirrors too
    order = torch.from_numpy(rng.permutation(5))
    moved = State(
        types=point.types[:, order],
        coords=torus.wrap(point.coords + shift)[:, order],
        lattice=point.lattice @ turn,
    )
    after = model.predict(moved, levels, batch.atomic_numbers[:, order], batch.mask)
    torch.testing.assert_close(after.coords, before.coords[:, order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.types, before.types[:, order], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.lattice, before.lattice @ turn, rtol=1e-3, atol=1e-3)
    assert before.lattice.abs().max() > 1e-3


def test_padding_changes_nothing():
    model = module("csp")
    small, large = random_crystals(2, seed=3, sizes=(5, 8))
    batch = whole([small, large])
    alone = whole([small])
    levels = torch.tensor([9, 9])
    together = model.predict(
        State(batch.frac_coords[..., :0], batch.frac_coords, batch.lattice), levels, batch.atomic_numbers, batch.mask
    )
    single = model.predict(
        State(alone.frac_coords[..., :0], alone.frac_coords, alone.lattice),
        levels[:1],
        alone.atomic_numbers,
        alone.mask,
    )
    torch.testing.assert_close(together.coords[0, :5], single.coords[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.lattice[0], single.lattice[0], rtol=1e-4, atol=1e-5)


class Oracle(CrystalDiffusion):
    """Knows the one crystal there is: its predictions are exact."""

    def know(self, crystal):
        self.goal = whole([crystal])
        return self

    def predict(self, point, levels, atomic_numbers, mask):
        level = int(levels[0])
        kept, sigma = self.schedule.alpha_bar[level], self.schedule.sigma[level]
        types = torch.nn.functional.one_hot(self.goal.atomic_numbers - 1, 100).float()
        shift = torus.log_map(self.goal.frac_coords.expand_as(point.coords), point.coords)
        score = wrapped_normal_score(shift.double(), torch.full_like(shift.double(), sigma))
        return State(
            types=(point.types - kept**0.5 * types) / (1 - kept) ** 0.5,
            coords=(score / self.schedule.score_scale[level]).float(),
            lattice=(point.lattice - kept**0.5 * self.goal.lattice) / (1 - kept) ** 0.5,
        )


def test_exact_predictions_lead_to_the_crystal():
    crystal = random_crystals(1, seed=2, sizes=(5,))[0]
    model = Oracle("dng", hidden=8, layers=1, frequencies=2, levels=1000).know(crystal)
    sampler = _Sampler(model, DiffCSPSampling(levels=250), seed=0)
    found = in_batches([np.zeros(5, dtype=np.int64)] * 3, 3, "cpu", sampler.make)
    for made in found:
        assert made.atomic_numbers.tolist() == crystal.atomic_numbers.tolist()
        np.testing.assert_allclose(made.lattice, crystal.lattice, atol=1e-3)
        assert np.abs((made.frac_coords - crystal.frac_coords + 0.5) % 1 - 0.5).max() < 0.02


def test_corrector_has_the_authors_rates():
    assert STEP_RATE == {"csp": 1e-5, "dng": 5e-6}
    assert _Sampler(module("dng"), DiffCSPSampling(levels=4), 0).rate == 5e-6
    assert _Sampler(module("csp"), DiffCSPSampling(levels=4, step_rate=0.0), 0).rate == 0.0


def test_network_is_called_twice_a_level(monkeypatch):
    model, calls = module("csp"), []
    predict = model.predict
    monkeypatch.setattr(model, "predict", lambda *given: calls.append(1) or predict(*given))
    sampling = DiffCSPSampling(levels=7)
    in_batches([np.array([8, 8, 26])], 3, "cpu", _Sampler(model, sampling, 0).make)
    assert len(calls) == Model().network_evaluations(sampling) == 14


@pytest.mark.parametrize(
    ("values", "message"),
    [({"levels": 0}, "levels"), ({"sigma_begin": 0.0}, "sigma_begin"), ({"sigma_begin": 0.6}, "sigma_begin")],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DiffCSPConfig(**values)


def test_a_diverged_crystal_is_a_row(monkeypatch):
    model = module("csp")
    predict = model.predict
    monkeypatch.setattr(
        model, "predict", lambda *given: replace(predict(*given), lattice=torch.full((1, 3, 3), float("nan")))
    )
    (made,) = in_batches([np.array([8, 8, 26])], 3, "cpu", _Sampler(model, DiffCSPSampling(levels=3), 0).make)
    assert made.status == "not_finite"
    assert made.atomic_numbers.tolist() == [8, 8, 26]


@pytest.mark.long
def test_learns_crystals_by_heart(tmp_path):
    """Half a minute on 16 small AFLOW prototypes; docs/models/diffcsp.md tells of five minutes."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    torch.set_num_threads(1)
    crystals = [crystal for crystal in embedded(125) if 2 <= crystal.n_atoms <= 4][:16]
    wanted = [crystal.atomic_numbers for crystal in crystals]
    lengths = np.stack([np.linalg.norm(crystal.lattice, axis=1) for crystal in crystals])
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
    found = {}
    for epochs in (1, 200):
        config = DiffCSPConfig(
            epochs=epochs,
            batch_size=128,
            hidden=64,
            layers=3,
            frequencies=16,
            schedule="cosine",
            learning_rate=4e-3,
            val_every=200,
            ema_decay=0.99,
        )
        out = tmp_path / str(epochs) / "out"
        Model().train(crystals * 64, crystals, config, Job("csp", 0, tmp_path / str(epochs) / "work", out))
        made = list(Model().sample(out / "checkpoint.safetensors", wanted, DiffCSPSampling(levels=500), 0, "cpu"))
        error = np.median(np.abs(np.stack([np.linalg.norm(c.lattice, axis=1) for c in made]) / lengths - 1))
        hits = sum(b.ok and matcher.fit(to_structure(a), to_structure(b)) for a, b in zip(crystals, made, strict=True))
        found[epochs] = float(error), int(hits)
    assert found[200][0] < 0.06 < found[1][0], found
    assert found[200][1] >= max(4, 2 * found[1][1]), found
