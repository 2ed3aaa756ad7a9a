"""OMatG: base, path, loss, invariances, sampling, and crystals learnt by heart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from random_crystals import random_crystals
from xtalgen.models.flow_matching.euler import Flow, integrate, straight_path
from xtalgen.models.flow_matching.stochastic_interpolant import CellFlow, Lengths, fit_lengths
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import lattice_to_parameters
from xtalgen.models.omatg import Model, OMatGConfig, OMatGSampling
from xtalgen.models.sampling.requests import RequestBatch
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.training.batches import DeviceData
from xtalgen.training.job import Job
from xtalgen.training.performance import products

# Those of MP-20 in the authors' code.
PUBLISHED = Lengths((1.5754, 1.7017, 1.9782), (0.2444, 0.2653, 0.3536))
CRYSTALS = random_crystals(8, sizes=(5, 6, 8))


def flow(hidden=16, layers=2, **settings):
    torch.manual_seed(1)
    return CellFlow(PUBLISHED, hidden=hidden, layers=layers, frequencies=4, **settings)


def whole(crystals=CRYSTALS):
    """All crystals in one batch, padded to the largest."""
    data = DeviceData([*crystals], "cpu")
    assert len(data.buckets) == 1
    return data.buckets[0]


def on_the_way(module, batch, moment=0.4):
    time = torch.full((len(batch),), moment)
    start = module.base(batch.mask, torch.Generator().manual_seed(3))
    return straight_path(start, module.encode(batch), time, batch.mask)[0], time


def test_network_and_settings_are_the_published_ones():
    assert sum(weight.numel() for weight in CellFlow(PUBLISHED).parameters()) == 12_295_168
    config, sampling = OMatGConfig(), OMatGSampling()
    assert (config.epochs, config.batch_size, config.learning_rate) == (2000, 1024, 6.69e-4)
    assert (config.schedule, config.clip, config.clip_at, config.ema_decay) == ("constant", "norm", 0.5, 0.0)
    assert config.coords_weight + config.lattice_weight == pytest.approx(1.0, abs=1e-12)
    assert (sampling.steps, sampling.slope, sampling.slope_lattice) == (210, 10.1827, 1.8245)


def test_base_distribution():
    mask = torch.ones(8000, 2, dtype=torch.bool)
    start = flow().base(mask, torch.Generator().manual_seed(0))
    lengths, angles = lattice_to_parameters(start.lattice)
    torch.testing.assert_close(lengths.log().mean(0), torch.tensor(PUBLISHED.log_mean), atol=0.015, rtol=0)
    torch.testing.assert_close(lengths.log().std(0), torch.tensor(PUBLISHED.log_std), atol=0.01, rtol=0)
    # Uniform between 60° and 120°: deviation 60 / √12; the corners round at 1e-2.
    assert 59.9 < angles.min() < 60.1
    assert 119.9 < angles.max() < 120.1
    torch.testing.assert_close(angles.mean(0), torch.full((3,), 90.0), atol=0.8, rtol=0)
    torch.testing.assert_close(angles.std(0), torch.full((3,), 60 / 12**0.5), atol=0.4, rtol=0)
    assert abs(np.corrcoef(lengths[:, 0], angles[:, 0])[0, 1]) < 0.05
    assert start.coords.std() == pytest.approx(12**-0.5, abs=0.005)
    assert 0 <= start.coords.min() <= start.coords.max() < 1
    assert start.types.shape == (8000, 2, 0)


def test_lengths_are_fitted_on_the_training_set():
    lengths = np.exp(np.random.default_rng(0).normal(PUBLISHED.log_mean, PUBLISHED.log_std, (4000, 3)))
    lattices = lattice_from_parameters(lengths, np.full((4000, 3), 80.0))
    found = fit_lengths([replace(CRYSTALS[0], lattice=lattice) for lattice in lattices])
    np.testing.assert_allclose(found.log_mean, PUBLISHED.log_mean, atol=0.02)
    np.testing.assert_allclose(found.log_std, PUBLISHED.log_std, atol=0.02)


def test_path_runs_from_base_to_data_and_its_derivative_is_the_target():
    module, batch = flow(), whole()
    start, end = module.base(batch.mask, torch.Generator().manual_seed(3)), module.encode(batch)
    for moment, goal in ((0.0, start), (1.0, end)):
        point, _ = straight_path(start, end, torch.full((len(batch),), moment), batch.mask)
        torch.testing.assert_close(point.lattice, goal.lattice)
        assert torus.log_map(point.coords, goal.coords)[batch.mask].abs().max() < 1e-6
    time = torch.linspace(0.1, 0.9, len(batch))
    _, target = straight_path(start, end, time, batch.mask)
    later, _ = straight_path(start, end, time + 0.05, batch.mask)
    point, _ = straight_path(start, end, time, batch.mask)
    torch.testing.assert_close((later.lattice - point.lattice) / 0.05, target.lattice, atol=1e-4, rtol=0)
    moved = torus.log_map(point.coords, later.coords) / 0.05
    torch.testing.assert_close(torus.remove_mean(moved, batch.mask), target.coords, atol=1e-4, rtol=0)
    assert moved.abs().max() > 0.3  # some atoms go nearly half around


def test_target_has_no_motion_of_the_centre_of_mass():
    batch = whole()
    start = flow().base(batch.mask, torch.Generator().manual_seed(3))
    shifted = replace(start, coords=torus.wrap(batch.frac_coords + torch.tensor([0.1, -0.2, 0.3])))
    _, target = straight_path(shifted, flow().encode(batch), torch.full((len(batch),), 0.3), batch.mask)
    assert target.coords.abs().max() < 1e-6
    _, target = straight_path(start, flow().encode(batch), torch.full((len(batch),), 0.3), batch.mask)
    assert target.coords.sum(dim=1).abs().max() < 1e-5
    assert target.coords.abs().max() > 0.1
    assert target.coords[~batch.mask].abs().max() == 0


def test_data_in_any_orientation_has_the_same_end_points():
    turned = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    a = flow().encode(whole()).lattice
    b = flow().encode(whole([replace(crystal, lattice=crystal.lattice @ turned) for crystal in CRYSTALS])).lattice
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_loss_equals_a_slow_one():
    module, batch = flow(), whole()
    total, parts = module.loss(batch, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    start = module.base(batch.mask, generator)
    time = torch.rand(len(batch), generator=generator)
    coords, cells, atoms = 0.0, 0.0, 0
    for row, crystal in enumerate(CRYSTALS):
        n, t = crystal.n_atoms, float(time[row])
        shift = (batch.frac_coords[row, :n] - start.coords[row, :n] + 0.5) % 1.0 - 0.5
        lattice = torch.from_numpy(crystal.lattice).float()
        point = State(
            types=torch.zeros(1, n, 0),
            coords=((start.coords[row, :n] + t * shift) % 1.0)[None],
            lattice=((1 - t) * start.lattice[row] + t * lattice)[None],
        )
        numbers = batch.atomic_numbers[row : row + 1, :n]
        found = module.velocity(point, time[row : row + 1], numbers, batch.mask[row : row + 1, :n])
        coords += ((found.coords[0] - shift + shift.mean(0)) ** 2).sum()
        cells += ((found.lattice[0] - (lattice - start.lattice[row])) ** 2).sum()
        atoms += n
    coords, cells = coords / (3 * atoms), cells / (9 * len(CRYSTALS))
    torch.testing.assert_close(parts["coords"], coords, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parts["lattice"], cells, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(total, 0.999415 * coords + 0.000585 * cells, rtol=1e-4, atol=1e-6)


def test_velocity_ignores_shifts_turns_with_the_cell_and_follows_the_atoms():
    module, batch = flow(), whole()
    point, time = on_the_way(module, batch)
    plain = module.velocity(point, time, batch.atomic_numbers, batch.mask)
    assert plain.coords[batch.mask].abs().max() > 1e-3

    shifted = replace(point, coords=torus.wrap(point.coords + torch.tensor([0.21, 0.5, 0.93])))
    found = module.velocity(shifted, time, batch.atomic_numbers, batch.mask)
    torch.testing.assert_close(found.coords[batch.mask], plain.coords[batch.mask], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.lattice, plain.lattice, rtol=1e-3, atol=1e-4)

    mirror = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    found = module.velocity(replace(point, lattice=point.lattice @ mirror), time, batch.atomic_numbers, batch.mask)
    torch.testing.assert_close(found.lattice, plain.lattice @ mirror, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.coords[batch.mask], plain.coords[batch.mask], rtol=1e-3, atol=1e-4)

    order = torch.tensor([3, 0, 4, 1, 2, *range(5, batch.mask.shape[1])])
    point = replace(point, types=point.types[:, order], coords=point.coords[:, order])
    found = module.velocity(point, time, batch.atomic_numbers[:, order], batch.mask)
    torch.testing.assert_close(found.coords[batch.mask], plain.coords[:, order][batch.mask], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.lattice, plain.lattice, rtol=1e-3, atol=1e-4)


def test_low_precision_of_products_leaves_geometry_alone():
    module, batch = flow(precision="bfloat16"), whole()
    exact, _ = module.loss(batch, torch.Generator().manual_seed(7))
    with products("bfloat16", "cpu"):
        rough, parts = module.loss(batch, torch.Generator().manual_seed(7))
    assert all(part.dtype == torch.float32 for part in parts.values())
    assert rough != exact
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0)


class Exact:
    """Knows the way to a crystal; the velocity of a straight path does not depend on time."""

    precision = "float32"

    def __init__(self, speed):
        self.speed, self.times = speed, []

    def base(self, mask, generator):
        raise AssertionError("integration starts at the given point and draws nothing")

    def velocity(self, point, time, atomic_numbers, mask):
        self.times.append(float(time[0]))
        return self.speed


Flow.register(Exact)


@pytest.mark.parametrize("slopes", [(0.0, 0.0, 0.0), (0.0, 3.0, 1.0)])
def test_euler_steps_and_anti_annealing(slopes):
    batch = whole()
    start = flow().base(batch.mask, torch.Generator().manual_seed(3))
    _, speed = straight_path(start, flow().encode(batch), torch.zeros(len(batch)), batch.mask)
    wanted = RequestBatch(batch.atomic_numbers, batch.mask, [crystal.n_atoms for crystal in CRYSTALS], list(range(8)))
    exact = Exact(speed)
    end = integrate(exact, start, wanted, 4, slopes)
    assert exact.times == [0.0, 0.25, 0.5, 0.75]
    # Σ (1 + slope · t) / 4 over the four times is 1 + 0.375 slope.
    far = [1 + 0.375 * slope for slope in slopes]
    torch.testing.assert_close(end.lattice, start.lattice + far[2] * speed.lattice, atol=1e-4, rtol=0)
    assert torus.log_map(end.coords, start.coords + far[1] * speed.coords).abs().max() < 1e-5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omatg")
    config = OMatGConfig(epochs=1, batch_size=8, hidden=16, layers=2, frequencies=4)
    Model().train(CRYSTALS, CRYSTALS[:3], config, Job("csp", 0, folder / "work", folder / "out"))
    return folder / "out" / "checkpoint.safetensors"


def test_de_novo_generation_is_refused(checkpoint):
    with pytest.raises(ValueError, match=r"trained for 'csp', cannot sample 'dng'"):
        list(Model().sample(checkpoint, 3, OMatGSampling(steps=2), 0, "cpu"))


def test_the_train_stage_refuses_de_novo_generation(tmp_path):
    from xtalgen.stages.train import train

    with pytest.raises(ValueError, match=r"omatg is not trained for the task 'dng', only for csp"):
        train("omatg", "dng", train=tmp_path, val=tmp_path, settings={}, seed=0, work=tmp_path, out=tmp_path)


def test_batch_size_of_sampling_changes_nothing_but_rounding(checkpoint):
    wanted = [crystal.atomic_numbers for crystal in CRYSTALS]
    small, large = (
        list(Model().sample(checkpoint, wanted, OMatGSampling(steps=4, batch_size=size), 3, "cpu")) for size in (2, 100)
    )
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(a.lattice, b.lattice, atol=1e-3)
        assert np.abs((a.frac_coords - b.frac_coords + 0.5) % 1 - 0.5).max() < 1e-3


def test_learns_crystals_by_heart(tmp_path):
    """Four cells of two atoms, each with its own composition: cells and most positions come out."""
    torch.set_num_threads(1)
    numbers = ([11, 17], [12, 8], [3, 9], [26, 8])
    crystals = [
        replace(crystal, atomic_numbers=np.array(kinds, dtype=np.uint8))
        for crystal, kinds in zip(random_crystals(4, seed=4, sizes=(2,)), numbers, strict=True)
    ]
    config = OMatGConfig(
        epochs=200, batch_size=128, hidden=48, layers=2, frequencies=4, learning_rate=5e-3, clip_at=1.0,
        schedule="cosine_by_step", warmup_steps=30, lattice_weight=0.01, val_every=200,
    )  # fmt: skip
    repeated = [crystal for crystal in crystals for _ in range(128)]
    Model().train(repeated, crystals, config, Job("csp", 0, tmp_path / "work", tmp_path / "out"))
    made = list(
        Model().sample(
            tmp_path / "out" / "checkpoint.safetensors",
            [crystal.atomic_numbers for crystal in crystals] * 4,
            OMatGSampling(steps=40),
            0,
            "cpu",
        )
    )
    lengths, found = (np.stack([np.linalg.norm(c.lattice, axis=-1) for c in some]) for some in (crystals * 4, made))
    assert np.abs(found / lengths - 1).max() < 0.15
    # From the first atom to the second: the origin is free.
    off = [np.diff(a.frac_coords - b.frac_coords, axis=0) for a, b in zip(crystals * 4, made, strict=True)]
    off = [np.abs(shift - np.round(shift)).max() for shift in off]
    # By chance one in a thousand is that near.
    assert np.mean(np.array(off) < 0.05) >= 0.4, off
