"""FlowMM: constants, path, loss, invariances, sampling, decoding."""

import csv
import gzip
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from random_crystals import random_crystals
from xtalgen.crystals import Crystal
from xtalgen.models.flow_matching.euler import straight_path
from xtalgen.models.flow_matching.riemannian_flow import (
    Constants,
    RiemannianFlow,
    angles_outside,
    fit_constants,
    from_bits,
    to_bits,
)
from xtalgen.models.flowmm import FlowMMSampling, Model
from xtalgen.models.flowmm import decode as decode_state
from xtalgen.models.manifolds import torus
from xtalgen.models.manifolds.crystal_state import State
from xtalgen.models.manifolds.lattices import angles_to_logit
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.training.batches import DeviceData, load_split, select
from xtalgen.training.job import Job

# The constants of MP-20 in the authors' code.
PUBLISHED = Constants(
    length_log_mean=(1.5754, 1.7017, 1.9782),
    length_log_std=(0.2444, 0.2653, 0.3536),
    input_mean=(4.980, 5.681, 7.732, -0.424, -0.575, -0.449),
    input_std=(1.015, 1.245, 2.727, 2.179, 1.901, 2.382),
    output_mean=(0.0027, 0.0006, 0.0826, -0.834, -1.160, -0.889),
    output_std=(1.752, 2.150, 4.689, 3.748, 3.238, 4.087),
    coords_scale=0.2745,
)
CRYSTALS = random_crystals(20, seed=5)


def module(task, hidden=16, layers=2, constants=None):
    torch.manual_seed(1)
    return RiemannianFlow(task, constants or fit_constants(CRYSTALS), hidden=hidden, layers=layers, frequencies=4)


def whole(crystals):
    """All crystals in one batch, padded to the largest."""
    data = DeviceData([*crystals], "cpu")
    assert len(data.buckets) == 1
    return data.buckets[0]


@pytest.mark.parametrize(("task", "expected"), [("csp", 14_176_006), ("dng", 14_131_981)])
def test_parameters_are_those_of_the_paper(task, expected):
    found = sum(p.numel() for p in RiemannianFlow(task, PUBLISHED).parameters())
    assert found == expected
    # Upstream's CSP network keeps a head for 100 types that nothing trains.
    unused = 512 * 100 + 100 if task == "csp" else 0
    assert round((found + unused) / 1e6, 2) == {"csp": 14.23, "dng": 14.13}[task]


def test_closed_form_constants_equal_monte_carlo():
    constants = fit_constants(CRYSTALS)
    flow, generator = module("csp", constants=constants), torch.Generator().manual_seed(0)
    points, speeds, shifts = [], [], []
    for bucket in DeviceData(CRYSTALS, "cpu").buckets:
        batch = bucket.take(torch.arange(len(bucket)).repeat(3000))
        time = torch.rand(len(batch), generator=generator)
        point, target = straight_path(flow.base(batch.mask, generator), flow.encode(batch), time, batch.mask)
        points.append(point.lattice)
        speeds.append(target.lattice)
        shifts.append(target.coords[batch.mask])
    points, speeds, shifts = torch.cat(points).double(), torch.cat(speeds).double(), torch.cat(shifts).double()
    for name, found, scale in (
        ("input_mean", points.mean(0), points.std(0)),
        ("input_std", points.std(0), points.std(0)),
        ("output_mean", speeds.mean(0), speeds.std(0)),
        ("output_std", speeds.std(0), speeds.std(0)),
    ):
        expected = torch.tensor(getattr(constants, name), dtype=torch.float64)
        # 60,000 draws: standard errors of 0.4 %.
        assert ((found - expected).abs() < 0.02 * scale).all(), name
    assert shifts.std() == pytest.approx(constants.coords_scale, rel=0.005)


def test_constants_of_mp_20_are_near_the_published_ones(shared_data):
    from xtalgen.io.structure_files import read_crystal
    from xtalgen.structure.standard_cell import standardise

    csv.field_size_limit(10**9)
    with gzip.open(shared_data / "mp_20" / "train.csv.gz", "rt") as file:
        cells = [standardise(read_crystal(row["cif"])) for i, row in enumerate(csv.DictReader(file)) if i % 20 == 0]
    crystals = [Crystal(str(i), "ok", c.lattice, c.frac_coords, c.atomic_numbers) for i, c in enumerate(cells)]
    found = fit_constants(select(crystals, angles_outside)[0])
    near = {
        "length_log_mean": 0.02,
        "length_log_std": 0.02,
        "input_mean": 0.3,
        "input_std": 0.3,
        "output_mean": 0.5,
        "output_std": 0.5,
        "coords_scale": 0.001,
    }
    for name, tolerance in near.items():
        np.testing.assert_allclose(getattr(found, name), getattr(PUBLISHED, name), atol=tolerance, err_msg=name)


def test_constants_of_one_crystal_are_usable():
    constants = fit_constants(random_crystals(1, sizes=(1,)))
    assert min(constants.input_std) > 0
    assert min(constants.output_std) > 0
    assert constants.coords_scale == 1.0


def test_base_distribution():
    flow = module("dng", constants=PUBLISHED)
    start = flow.base(torch.ones(4000, 3, dtype=torch.bool), torch.Generator().manual_seed(0))
    lengths = start.lattice[:, :3]
    torch.testing.assert_close(lengths.log().mean(0), torch.tensor(PUBLISHED.length_log_mean), atol=0.02, rtol=0)
    torch.testing.assert_close(lengths.log().std(0), torch.tensor(PUBLISHED.length_log_std), atol=0.015, rtol=0)
    angles = torch.sigmoid(start.lattice[:, 3:])
    assert angles.mean() == pytest.approx(0.5, abs=0.01)
    assert angles.std() == pytest.approx(12**-0.5, abs=0.01)
    assert start.coords.std() == pytest.approx(12**-0.5, abs=0.01)
    assert 0 <= start.coords.min() <= start.coords.max() < 1
    assert start.types.std() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("task", ["csp", "dng"])
def test_target_is_the_derivative_of_the_path(task):
    flow, batch = module(task), whole(random_crystals(8, sizes=(5, 6, 8)))
    start, end = flow.base(batch.mask, torch.Generator().manual_seed(3)), flow.encode(batch)
    time = torch.linspace(0.1, 0.9, len(batch))
    _, target = straight_path(start, end, time, batch.mask)
    for name in ("types", "coords", "lattice"):
        _, speed = torch.func.jvp(
            lambda t, name=name: getattr(straight_path(start, end, t, batch.mask)[0], name),
            (time,),
            (torch.ones_like(time),),
        )
        expected = torus.remove_mean(speed, batch.mask) if name == "coords" else speed
        torch.testing.assert_close(getattr(target, name), expected)


def test_path_runs_from_base_to_data():
    flow, batch = module("dng"), whole(random_crystals(8, sizes=(5, 6, 8)))
    start, end = flow.base(batch.mask, torch.Generator().manual_seed(3)), flow.encode(batch)
    for moment, goal in ((0.0, start), (1.0, end)):
        point, _ = straight_path(start, end, torch.full((len(batch),), moment), batch.mask)
        torch.testing.assert_close(point.types, goal.types)
        torch.testing.assert_close(point.lattice, goal.lattice)
        assert torus.log_map(point.coords, goal.coords)[batch.mask].abs().max() < 1e-6


@pytest.mark.parametrize("task", ["csp", "dng"])
def test_loss_equals_a_slow_one(task):
    flow, batch = module(task), whole(random_crystals(6, sizes=(5, 6, 8)))
    total, parts = flow.loss(batch, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    start = flow.base(batch.mask, generator)
    time = torch.rand(len(batch), generator=generator)
    sums = {"coords": 0.0, "lattice": 0.0, "types": 0.0}
    for row in range(len(batch)):
        n, t = int(batch.mask[row].sum()), time[row].item()
        x0, x1 = start.coords[row, :n], batch.frac_coords[row, :n]
        shift = (x1 - x0 + 0.5) % 1.0 - 0.5
        l0 = start.lattice[row]
        l1 = torch.cat([batch.lengths[row], angles_to_logit(batch.angles[row])])
        a0, a1 = start.types[row, :n], flow.encode(batch).types[row, :n]
        point = State((a0 + t * (a1 - a0))[None], ((x0 + t * shift) % 1.0)[None], (l0 + t * (l1 - l0))[None])
        found = flow.velocity(
            point, time[row : row + 1], batch.atomic_numbers[row : row + 1, :n], batch.mask[row : row + 1, :n]
        )
        target = shift - shift.mean(0)
        sums["coords"] += sum(((found.coords[0, i] - target[i]) ** 2).sum() for i in range(n)) / n / 3
        sums["lattice"] += ((found.lattice[0] - (l1 - l0)) ** 2).sum() / 6
        if task == "dng":
            sums["types"] += ((found.types[0] - (a1 - a0)) ** 2).sum() / n / 7
    sums = {name: value / len(batch) for name, value in sums.items()}
    weights = {"coords": 400, "lattice": 1, **({"types": 40} if task == "dng" else {})}
    expected = sum(weights[name] * sums[name] for name in weights) / sum(weights.values())
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)
    for name in weights:
        torch.testing.assert_close(parts[name], sums[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("task", ["csp", "dng"])
def test_velocity_is_translation_invariant_and_mean_free(task):
    flow, batch = module(task), whole(random_crystals(8, sizes=(5, 6, 8)))
    point, _ = straight_path(
        flow.base(batch.mask, torch.Generator().manual_seed(3)), flow.encode(batch), torch.full((8,), 0.4), batch.mask
    )
    moved = replace(point, coords=torus.wrap(point.coords + torch.tensor([0.21, 0.5, 0.93])))
    time = torch.full((8,), 0.4)
    a = flow.velocity(point, time, batch.atomic_numbers, batch.mask)
    b = flow.velocity(moved, time, batch.atomic_numbers, batch.mask)
    assert a.coords.sum(dim=1).abs().max() < 1e-5
    assert a.coords.abs().max() > 1e-3
    for name in ("types", "coords", "lattice"):
        torch.testing.assert_close(
            getattr(b, name)[batch.mask] if name != "lattice" else b.lattice,
            getattr(a, name)[batch.mask] if name != "lattice" else a.lattice,
            rtol=1e-3,
            atol=1e-4,
        )


def test_cells_of_one_atom_do_not_move():
    flow, batch = module("dng"), whole(random_crystals(3, sizes=(1,)))
    total, parts = flow.loss(batch, torch.Generator().manual_seed(0))
    assert parts["coords"] == 0.0
    total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in flow.parameters())


def test_bits_survive():
    numbers = torch.arange(1, 129)
    assert torch.equal(from_bits(to_bits(numbers)), numbers)
    assert to_bits(torch.tensor([1, 2, 128])).tolist() == [[-1.0] * 7, [-1.0] * 6 + [1.0], [1.0] * 7]
    assert torch.equal(from_bits(to_bits(numbers) * 0.3), numbers)


def test_angles_of_cells_that_are_not_reduced_are_counted_not_trained_on():
    odd = replace(CRYSTALS[0], lattice=lattice_from_parameters(np.array([4.0, 4, 4]), np.array([55.0, 90, 90])))
    split = load_split([*CRYSTALS, odd], CRYSTALS, "cpu", angles_outside)
    assert len(split.train) == len(CRYSTALS)
    assert split.left_out["train"] == {"cell angle outside (59.9°, 120.1°), not Niggli-reduced": 1}


def decode(lengths, logits, coords=((0.1, 0.2, 0.3),), numbers=(8,)):
    lattice = torch.tensor([[*lengths, *logits]], dtype=torch.float32)
    n = len(numbers)
    return decode_state(State(torch.zeros(1, n, 0), torch.tensor([coords]), lattice), torch.tensor([numbers]), [n])[0]


def test_decoding_gives_a_cell_in_canonical_orientation():
    crystal = decode((3.0, 4.0, 5.0), (0.0, 0.0, 0.0))
    assert crystal.status == "ok"
    np.testing.assert_allclose(
        crystal.lattice, lattice_from_parameters(np.array([3.0, 4, 5]), np.full(3, 90.0)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("lengths", "logits", "numbers", "status", "has_lattice"),
    [
        ((-3.0, 4.0, 5.0), (0.0, 0.0, 0.0), (8,), "bad_lattice", True),
        ((0.0, 4.0, 5.0), (0.0, 0.0, 0.0), (8,), "bad_lattice", True),
        # 60°, 60°, 120.1°: flatter than flat
        ((3.0, 4.0, 5.0), (-9.0, -9.0, 9.0), (8,), "bad_lattice", True),
        ((3.0, 4.0, float("nan")), (0.0, 0.0, 0.0), (8,), "not_finite", False),
        ((3.0, 4.0, float("inf")), (0.0, 0.0, 0.0), (8,), "not_finite", False),
        ((3.0, 4.0, 5.0), (0.0, 0.0, 0.0), (104,), "ok", True),
        ((3.0, 4.0, 5.0), (0.0, 0.0, 0.0), (105,), "unknown_element", True),
        ((3.0, 4.0, 5.0), (0.0, 0.0, 0.0), (128,), "unknown_element", True),
    ],
)
def test_impossible_results_get_a_status(lengths, logits, numbers, status, has_lattice):
    crystal = decode(lengths, logits, numbers=numbers)
    assert crystal.status == status
    assert (crystal.lattice is not None) == has_lattice
    assert crystal.atomic_numbers.tolist() == list(numbers)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    config = Model.Config(epochs=1, batch_size=8, hidden=16, layers=2, frequencies=4)
    out = {}
    for task in ("csp", "dng"):
        folder = tmp_path_factory.mktemp(task)
        Model().train(CRYSTALS, CRYSTALS[:5], config, Job(task, 0, folder / "work", folder / "out"))
        out[task] = folder / "out" / "checkpoint.safetensors"
    return out


def test_batch_size_of_sampling_changes_nothing_but_rounding(checkpoints):
    wanted = [crystal.atomic_numbers for crystal in CRYSTALS]
    small, large = (
        list(Model().sample(checkpoints["csp"], wanted, FlowMMSampling(steps=4, batch_size=size), 3, "cpu"))
        for size in (2, 100)
    )
    for a, b in zip(small, large, strict=True):
        np.testing.assert_allclose(a.lattice, b.lattice, atol=1e-3)
        assert np.abs((a.frac_coords - b.frac_coords + 0.5) % 1 - 0.5).max() < 1e-3


def test_impossible_compositions_are_rows_too(checkpoints):
    wanted = [np.array([8]), np.array([101]), np.full(101, 6), np.array([], dtype=int), np.array([26, 8])]
    found = list(Model().sample(checkpoints["csp"], wanted, FlowMMSampling(steps=2), 0, "cpu"))
    assert [crystal.status for crystal in found][1:4] == ["unknown_element", "too_large", "no_atoms"]
    assert found[4].atomic_numbers.tolist() == [26, 8]


def test_the_wrong_task_is_refused(checkpoints):
    with pytest.raises(ValueError, match=r"checkpoint.safetensors: trained for 'csp', cannot sample 'dng'"):
        list(Model().sample(checkpoints["csp"], 3, FlowMMSampling(steps=2), 0, "cpu"))


def test_atom_counts_follow_the_training_set(checkpoints):
    sampled = Model().sample(checkpoints["dng"], 300, FlowMMSampling(steps=1), 0, "cpu")
    counts = np.bincount([crystal.n_atoms for crystal in sampled], minlength=10)
    assert set(np.flatnonzero(counts)) == {1, 2, 3, 5, 8, 9}
    # 4 of 20 crystals have one atom; 300 draws have a standard deviation of 7.
    assert 60 - 28 < counts[1] < 60 + 28


def test_anti_annealing_speeds_up_the_coordinates_only(checkpoints):
    wanted = [CRYSTALS[4].atomic_numbers]

    def end(slope):
        settings = FlowMMSampling(steps=2, slope=slope)
        return next(Model().sample(checkpoints["csp"], wanted, settings, 0, "cpu"))

    # Two steps at t = 0 and 1/2: only the second is changed, and lattices see it only through the network's next call.
    plain, fast = end(0.0), end(10.0)
    np.testing.assert_allclose(plain.lattice, fast.lattice, atol=1e-6)
    assert np.abs(plain.frac_coords - fast.frac_coords).max() > 1e-4


def test_constants_survive_json():
    assert (
        Constants.from_json({k: list(v) if isinstance(v, tuple) else v for k, v in asdict(PUBLISHED).items()})
        == PUBLISHED
    )


@pytest.mark.slow
def test_learns_64_crystals_by_heart(tmp_path):
    """Half a minute of training on small AFLOW prototypes: cells come out nearer, structures match more often."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from xtalgen.datasets.embedded import all_records
    from xtalgen.io.structure_files import read_crystal
    from xtalgen.structure.pymatgen import to_structure
    from xtalgen.structure.standard_cell import standardise

    torch.set_num_threads(1)
    cells = [standardise(read_crystal(record.text)) for record in all_records()]
    small = [cell for cell in cells if 2 <= len(cell.atomic_numbers) <= 4][:64]
    crystals = [Crystal(str(i), "ok", c.lattice, c.frac_coords, c.atomic_numbers) for i, c in enumerate(small)]
    assert len(crystals) == 64
    wanted = [crystal.atomic_numbers for crystal in crystals]
    lengths = np.stack([np.linalg.norm(crystal.lattice, axis=-1) for crystal in crystals])
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
    results, losses = {}, {}
    for epochs in (1, 500):
        config = Model.Config(
            epochs=epochs, batch_size=32, hidden=64, layers=3, frequencies=16, learning_rate=4e-3, val_every=100
        )
        out = tmp_path / str(epochs) / "out"
        Model().train(crystals, crystals, config, Job("csp", 0, tmp_path / str(epochs) / "work", out))
        sampled = list(
            Model().sample(out / "checkpoint.safetensors", wanted, FlowMMSampling(steps=50, slope=5.0), 0, "cpu")
        )
        found = np.stack([np.linalg.norm(crystal.lattice, axis=-1) for crystal in sampled])
        error = np.median(np.abs(found / lengths - 1))
        pairs = zip(crystals, sampled, strict=True)
        hits = sum(b.ok and matcher.fit(to_structure(a), to_structure(b)) for a, b in pairs)
        results[epochs] = error, hits
        with (out / "log.csv").open() as file:
            losses[epochs] = float(list(csv.DictReader(file))[-1]["lattice"])
    assert losses[500] < losses[1] / 8, losses
    assert results[500][0] < 0.5 * results[1][0], results
    assert results[500][1] >= results[1][1] + 6, results
