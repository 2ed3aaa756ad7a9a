"""Annealed Langevin dynamics: a perfect decoder, recorded and compiled steps, room for neighbours, broken steps."""

import logging
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tape import WAITING, Tape
from tiny_cdvae import FAST, LATENT, batch_of, generator, tiny
from xtalgen.models.cdvae import Model
from xtalgen.models.diffusion import annealed_langevin as langevin
from xtalgen.models.diffusion.annealed_langevin import CDVAESampling, Start, anneal, decode, sample_composition
from xtalgen.models.diffusion.vae import geometric, inverse
from xtalgen.models.manifolds import torus
from xtalgen.models.networks import gemnet
from xtalgen.models.networks.periodic_graph import minimum_image


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small products only lose by more
    yield
    torch.set_num_threads(threads)


def record(step):
    with Tape() as tape:
        step()
    assert not WAITING & set(tape.names())
    return tape.replay


def start(vae, fixed=False, batch=None):
    batch = batch or batch_of()
    coords = torch.rand(batch.frac_coords.shape, generator=generator(3)) * batch.mask.unsqueeze(-1)
    latent = torch.randn(len(batch), LATENT, generator=generator(4))
    return Start(latent, batch.atomic_numbers, coords, batch.lattice, batch.mask, fixed)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20), st.floats(0.1, 5.0))
def test_initial_compositions_are_the_rounded_shares(seed, count, sharpness):
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(100, 1.0 / sharpness / 10))
    chosen = sample_composition(share, count, np.random.default_rng(seed))
    assert len(chosen) == count
    assert chosen.min() >= 1
    assert chosen.max() <= 100
    rounded = np.round(share * count).astype(int)
    found = np.bincount(chosen, minlength=101)[1:]
    if rounded.sum() <= count:
        assert (found >= rounded).all()
        assert (share[found > rounded] > rounded[found > rounded] / count).all()
    else:
        assert (found <= rounded).all()


class Oracle(torch.nn.Module):
    """A decoder that knows where the atoms belong: F = d / σ at the level it is called at."""

    def __init__(self, target, levels, steps):
        super().__init__()
        self.target, self.levels, self.steps, self.calls, self.slots = target, levels, steps, 0, 0

    def forward(self, latent, numbers, coords, lattice, mask):
        assert (coords >= 0).all()
        assert (coords < 1).all()
        sigma = self.levels[self.calls // self.steps]
        self.calls += 1
        away = minimum_image(coords, self.target, lattice) / sigma
        return numbers.unsqueeze(-1).float(), away, torch.zeros(len(mask), dtype=torch.int64)


def test_langevin_dynamics_end_at_the_target_of_a_perfect_decoder():
    vae, batch = tiny(), batch_of()
    steps = 3
    sampling = CDVAESampling(levels=12, steps=steps)
    vae.network = Oracle(torus.wrap(batch.frac_coords), geometric(10.0, 0.01, 12), steps)
    vae.head_types = torch.nn.Linear(1, 100)
    with torch.no_grad():
        vae.head_types.weight.zero_()
        vae.head_types.bias.copy_(torch.arange(100) == 27)
    latent = torch.zeros(len(batch), 6)
    begin = Start(latent, batch.atomic_numbers, torch.rand(batch.frac_coords.shape), batch.lattice, batch.mask, False)
    coords, numbers = anneal(vae, begin, sampling, generator())
    assert vae.network.calls == 12 * steps == Model().network_evaluations(sampling)
    away = minimum_image(coords, torus.wrap(batch.frac_coords), batch.lattice)[batch.mask]
    # One more step of α = σ² jumps to the target, plus noise of √2 · 0.01 Å.
    assert 0.003 < float(away.square().mean().sqrt()) < 0.03
    assert (numbers[batch.mask] == 28).all()
    assert (numbers[~batch.mask] == 0).all()
    vae.network.calls = 0
    _, kept = anneal(vae, replace(begin, fixed=True), sampling, generator())
    assert torch.equal(kept, batch.atomic_numbers)


def test_no_noise_is_added_at_and_below_the_smallest_level():
    vae, batch = tiny(), batch_of()
    vae.network = Oracle(torus.wrap(batch.frac_coords), geometric(10.0, 0.01, 5), 2)
    begin = Start(torch.zeros(5, 6), batch.atomic_numbers, batch.frac_coords * 0.9, batch.lattice, batch.mask, True)
    coords, _ = anneal(vae, begin, CDVAESampling(levels=5, steps=2, min_sigma=0.02), generator())
    away = minimum_image(coords, torus.wrap(batch.frac_coords), batch.lattice)[batch.mask]
    assert float(away.abs().max()) < 1e-3


def test_each_failure_has_its_status():
    latents = torch.randn(3, 6, generator=generator())

    def statuses(change, **given):
        vae = tiny().eval()
        with torch.no_grad():
            change(vae)
        return {crystal.status for crystal in decode(vae, latents, FAST, 0, **given)}

    assert statuses(lambda vae: vae.head_count[2].bias.copy_(torch.arange(5) * 50.0)) == {"ok"}
    assert statuses(lambda vae: vae.head_count[2].bias.copy_(-torch.arange(5) * 50.0)) == {"no_atoms"}
    assert statuses(lambda vae: vae.head_lattice[2].bias.fill_(-1e3), counts=[2] * 3) == {"bad_lattice"}
    assert statuses(lambda vae: vae.network.elements.weight.fill_(float("nan")), counts=[2] * 3) == {"not_finite"}
    broken = latents.clone()
    broken[1] = float("nan")
    found = decode(tiny().eval(), broken, FAST, 0, counts=[2, 3, 2])
    assert [crystal.status for crystal in found] == ["ok", "not_finite", "ok"]


def test_a_recorded_step_makes_the_same_crystals():
    vae, sampling = tiny().eval(), CDVAESampling(levels=3, steps=4)
    replays = []

    def counting(step):
        replay = record(step)
        return lambda: replays.append(0) or replay()

    wanted = anneal(vae, start(vae), sampling, generator())
    found = anneal(vae, start(vae), sampling, generator(), counting)
    assert len(replays) == 3 * 4 + 1  # one of them for the comparison
    assert vae.network.slots % 8 == 0
    assert vae.network.slots > 0
    assert torch.allclose(found[0], wanted[0], atol=1e-5)
    assert torch.equal(found[1], wanted[1])
    fixed = anneal(vae, start(vae, fixed=True), sampling, generator(), record)
    assert torch.equal(fixed[1], batch_of().atomic_numbers)


def test_the_host_waits_once_a_level_when_steps_are_recorded():
    vae = tiny().eval()
    with Tape() as tape:
        anneal(vae, start(vae), CDVAESampling(levels=3, steps=5, slots=40), generator(), lambda step: step)
    waits = {name: n for name, n in tape.names().items() if name in WAITING - {"aten::lift_fresh"}}
    # Beside the levels only the comparison of the first step.
    assert waits == {"aten::item": 3, "aten::equal": 1, "aten::is_nonzero": 1}


def test_neighbours_are_searched_once_a_step(monkeypatch):
    searched = []
    search = gemnet.nearest_graph
    monkeypatch.setattr(gemnet, "nearest_graph", lambda *a, **k: searched.append(0) or search(*a, **k))
    monkeypatch.setattr(langevin, "nearest_graph", None)
    vae, sampling = tiny().eval(), CDVAESampling(levels=2, steps=3)
    anneal(vae, start(vae), sampling, generator())
    assert len(searched) == 2 * 3 == Model().network_evaluations(sampling)


@pytest.mark.parametrize("recorder", [None, record])
def test_too_few_slots_are_noticed_and_the_level_runs_again(recorder, caplog):
    vae = tiny().eval()
    wanted = anneal(vae, start(vae), FAST, generator())
    with caplog.at_level(logging.INFO):
        found = anneal(vae, start(vae), replace(FAST, slots=3), generator(), recorder)
    assert "3 slots were too few" in caplog.text
    assert vae.network.slots >= 16
    assert torch.allclose(found[0], wanted[0], atol=1e-5)
    assert torch.equal(found[1], wanted[1])


def break_off(step):
    raise RuntimeError("operation not permitted when stream is capturing")


def record_wrongly(step):
    def replay():
        step.__self__.coords.add_(0.01)

    return replay


@pytest.mark.parametrize(("recorder", "reason"), [(break_off, "not permitted"), (record_wrongly, "result differs")])
def test_a_step_that_cannot_be_recorded_is_taken_plainly_with_a_warning(recorder, reason, caplog):
    vae = tiny().eval()
    wanted = anneal(vae, start(vae), replace(FAST, slots=40), generator())
    found = anneal(vae, start(vae), replace(FAST, slots=40), generator(), recorder)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert reason in caplog.text
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


COMPILED = """
from dataclasses import replace
from functools import partial
import torch
torch.set_num_threads(1)
torch.compile = partial(torch.compile, backend="eager")
from unit.models.diffusion.test_annealed_langevin import FAST, anneal, batch_of, generator, start, tiny
vae = tiny().eval()
fixed = replace(FAST, slots=40)
plain, compiled = (anneal(vae, start(vae), replace(fixed, compile=chosen), generator()) for chosen in (False, True))
assert torch.allclose(compiled[0], plain[0], atol=1e-5)
assert torch.equal(compiled[1], plain[1])
gradients = []
for _ in range(2):
    vae = tiny(slots=40)
    if gradients:
        vae.network.compile(fullgraph=True, dynamic=True, backend="eager")
    vae.loss(batch_of(), generator())[0].backward()
    gradients.append([p.grad for p in vae.network.parameters()])
assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*gradients, strict=True))
"""


def test_the_step_and_the_network_in_training_compile_as_a_whole():
    """In one graph, or it would fail: in a process of its own, without the checks of annotations, which break graphs.

    Inductor's part, the generated code, is left out.
    """
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_bfloat16_is_for_products_and_not_for_geometry():
    vae = tiny().eval()
    moved, kinds = {}, {}
    for precision in ("float32", "bfloat16"):
        with Tape() as tape:
            coords, _ = anneal(vae, start(vae), CDVAESampling(levels=1, steps=1, precision=precision), generator())
        begin = start(vae)
        moved[precision] = torus.log_map(begin.frac_coords, coords)
        assert coords.dtype == torch.float32
        products = [
            args
            for operation, args, *_ in tape.done
            if operation.name().startswith(("aten::mm", "aten::bmm", "aten::linear", "aten::addmm", "aten::matmul"))
        ]
        kinds[precision] = Counter(args[-1].dtype for args in products)
        distances = [r for operation, _, _, r in tape.done if operation.name().startswith("aten::linalg_vector_norm")]
        assert {r.dtype for r in distances} == {torch.float32}
    assert set(kinds["float32"]) == {torch.float32}
    # Images and candidates of the graph, cosines, and the way back to fractional coordinates stay exact.
    assert kinds["bfloat16"][torch.float32] == 4
    assert kinds["bfloat16"][torch.bfloat16] > 20
    assert torch.allclose(moved["bfloat16"], moved["float32"], atol=1e-2)
    assert not torch.equal(moved["bfloat16"], moved["float32"])


def test_precision_is_that_of_the_training_by_default():
    rough, exact = tiny(precision="bfloat16").eval(), tiny().eval()
    one = CDVAESampling(levels=1, steps=1)
    assert torch.equal(
        anneal(rough, start(rough), one, generator())[0],
        anneal(exact, start(exact), replace(one, precision="bfloat16"), generator())[0],
    )


def test_inverse_cells():
    lattice = batch_of().lattice
    assert torch.allclose(inverse(lattice), torch.linalg.inv(lattice), rtol=1e-4, atol=1e-6)
    assert not torch.isfinite(inverse(torch.zeros(1, 3, 3))).any()


class Pusher(torch.nn.Module):
    """A decoder that pushes the atoms of one crystal."""

    slots, cutoff, neighbours = 0, 7.0, 20

    def __init__(self, row, push):
        super().__init__()
        self.row, self.push = row, push

    def forward(self, latent, numbers, coords, lattice, mask):
        vectors = torch.zeros_like(coords)
        vectors[self.row] = self.push
        return torch.zeros(*mask.shape, 8), vectors, torch.ones(len(mask), dtype=torch.int64)


@pytest.mark.parametrize(
    ("push", "status"), [(1e6, "ok"), (1e30, "ok"), (float("inf"), "not_finite"), (float("nan"), "not_finite")]
)
def test_exploding_steps_end_in_the_cell_or_as_not_finite_and_harm_no_other(push, status):
    """A finite push of any size leads somewhere in the cell; its crystal is a sample, if a bad one."""
    vae, latents = tiny().eval(), torch.randn(3, LATENT, generator=generator())
    counts = [2, 3, 2]
    vae.network = Pusher(1, 0.0)
    calm = decode(vae, latents, FAST, 0, counts=counts)
    # Batches are sorted by size: of these three, the second row is the second crystal.
    vae.network = Pusher(1, push)
    found = decode(vae, latents, FAST, 0, counts=counts)
    assert [crystal.status for crystal in found] == ["ok", status, "ok"]
    for row in (0, 2):
        assert np.array_equal(found[row].frac_coords, calm[row].frac_coords)
    if status == "ok":
        assert ((found[1].frac_coords >= 0) & (found[1].frac_coords < 1)).all()
        assert not np.array_equal(found[1].frac_coords, calm[1].frac_coords)


@pytest.mark.parametrize(
    ("lengths", "angles", "counts"),
    [
        ((40.0, 40.0, 40.0), (90.0, 90.0, 90.0), [1, 2]),  # nothing within 7 Å
        ((3.0, 3.0, 3.0), (60.0, 60.0, 60.0), [1, 1]),  # an atom and its own images
        ((3.0, 4.0, 12.0), (90.0, 20.0, 90.0), [1, 3]),  # neighbours beyond the 27 images
    ],
)
def test_extreme_cells_are_sampled_like_others(lengths, angles, counts):
    vae = tiny().eval()
    scaled = torch.tensor([*lengths, *angles])
    with torch.no_grad():
        vae.head_lattice[2].weight.zero_()
        for n in set(counts):
            each = scaled.clone()
            each[:3] /= n ** (1 / 3)
            vae.head_lattice[2].bias.copy_((each - vae.lattice_mean) / vae.lattice_std)
            latents = torch.randn(counts.count(n), LATENT, generator=generator())
            found = decode(vae, latents, FAST, 0, counts=[n] * len(latents))
            assert [crystal.status for crystal in found] == ["ok"] * len(latents)
            for crystal in found:
                assert np.linalg.norm(crystal.lattice, axis=1) == pytest.approx(lengths, rel=1e-3)
                assert np.isfinite(crystal.frac_coords).all()
