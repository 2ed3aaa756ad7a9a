"""CDVAE: loss against a slow reference, teacher forcing, Langevin dynamics, statuses, reconstruction, property."""

import csv
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import cdvae_latent
from random_crystals import random_crystals
from real_crystals import embedded, mp_20
from tape import WAITING, Tape
from tiny_cdvae import CRYSTALS, FAST, TINY, batch_of, generator, tiny
from xtalgen.crystals import Crystal, read_crystals, to_table, write_table
from xtalgen.featurizers import bonds
from xtalgen.models import cdvae as cdvae_model
from xtalgen.models.cdvae import (
    CDVAEConfig,
    Model,
    build,
    encode,
    extra_of,
    load_module,
    optimise_property,
    reconstruct,
)
from xtalgen.models.diffusion.annealed_langevin import CDVAESampling
from xtalgen.models.diffusion.vae import Constants, fit_constants, geometric
from xtalgen.models.networks.gemnet import Scale
from xtalgen.models.networks.periodic_graph import nearest_graph
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.training.batches import DeviceData, mix_seed
from xtalgen.training.job import Job


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small products only lose by more
    yield
    torch.set_num_threads(threads)


def train(folder, crystals=CRYSTALS, task="dng", **changes):
    config = CDVAEConfig(**{**TINY, "epochs": 2, "batch_size": 4, "val_every": 1, **changes})
    Model().train(crystals, crystals, config, Job(task, 0, folder / "work", folder / "out"))
    return folder / "out" / "checkpoint.safetensors"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return {task: train(tmp_path_factory.mktemp(task), task=task) for task in ("dng", "csp")}


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def reference(vae, batch, *, true_cells):
    """The parts of the loss crystal by crystal in NumPy; draws in the order of the loss."""
    draw, n = generator(7), len(batch)
    mean, log_variance = (x.detach() for x in vae.encode(batch))
    latent = mean + torch.exp(log_variance / 2) * torch.randn(mean.shape, generator=draw)
    sigmas, weights = vae.coords_levels, vae.types_levels
    sigma = sigmas[torch.randint(len(sigmas), (n,), generator=draw)]
    weight = weights[torch.randint(len(weights), (n,), generator=draw)]
    logits = vae.composition(latent).detach()
    chances = torch.nn.functional.one_hot((batch.atomic_numbers - 1).clamp_min(0), 100) + (
        logits.softmax(-1) * weight[:, None]
    ).unsqueeze(1)
    noisy = (chances / torch.empty_like(chances).exponential_(generator=draw)).argmax(dim=-1) + 1
    noise = torch.randn(batch.frac_coords.shape, generator=draw)
    parts = {name: [] for name in ("count", "lattice", "kl", "composition", "coords", "types")}
    for i in range(n):
        atoms = int(batch.mask[i].sum())
        numbers = batch.atomic_numbers[i, :atoms].numpy()
        lengths, angles = batch.lengths[i].double().numpy(), batch.angles[i].double().numpy()
        found = vae.head_lattice(latent[i : i + 1]).detach()[0].double().numpy()
        target = (np.concatenate([lengths / atoms ** (1 / 3), angles]) - vae.constants.lattice_mean) / np.array(
            vae.constants.lattice_std
        )
        parts["lattice"].append(((found - target) ** 2).mean())
        parts["count"].append(-log_softmax(vae.head_count(latent[i]).detach().double().numpy())[atoms])
        m, v = mean[i].double().numpy(), log_variance[i].double().numpy()
        parts["kl"].append(0.5 * (m**2 + np.exp(v) - 1 - v).sum())
        parts["composition"].append(np.mean(-log_softmax(logits[i].double().numpy())[numbers - 1]))
        true = lattice_from_parameters(lengths, angles)
        used = true
        if not true_cells:
            values = found * vae.constants.lattice_std + vae.constants.lattice_mean
            used = lattice_from_parameters(values[:3] * atoms ** (1 / 3), values[3:])
        frac = batch.frac_coords[i, :atoms].double().numpy()
        cart = frac @ used + float(sigma[i]) * noise[i, :atoms].double().numpy()
        moved = (cart @ np.linalg.inv(used)) % 1.0
        hidden, vectors, _ = vae.network(
            latent[i : i + 1],
            noisy[i : i + 1, :atoms],
            torch.tensor(moved[None], dtype=torch.float32),
            torch.tensor(used[None], dtype=torch.float32),
            torch.ones(1, atoms, dtype=torch.bool),
        )
        wanted = np.stack([minimum_of_27(moved[a], frac[a], true) for a in range(atoms)]) / float(sigma[i])
        parts["coords"].append(np.mean(0.5 * ((wanted - vectors[0].detach().double().numpy()) ** 2).sum(axis=1)))
        types = vae.head_types(hidden[0]).detach().double().numpy()
        wrong = [-log_softmax(row)[z - 1] for row, z in zip(types, numbers, strict=True)]
        parts["types"].append(np.mean(wrong) / float(weight[i]))
    return {name: float(np.mean(values)) for name, values in parts.items()}


def minimum_of_27(start, end, lattice):
    images = np.array([[a, b, c] for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)])
    steps = (end - start + images) @ lattice
    return steps[np.linalg.norm(steps, axis=1).argmin()]


@pytest.mark.parametrize("true_cells", [True, False])
def test_parts_of_the_loss_equal_a_slow_reference(true_cells):
    vae, batch = tiny(), batch_of()
    vae.train()
    vae.epoch = 0 if true_cells else 10_000
    total, parts = vae.loss(batch, generator(7))
    wanted = reference(vae, batch, true_cells=true_cells)
    assert {name: parts[name].item() for name in wanted} == pytest.approx(wanted, rel=2e-3)
    weights = {"count": 1, "lattice": 10, "coords": 10, "types": 1, "kl": 0.01, "composition": 1}
    assert float(total.detach()) == pytest.approx(sum(weights[name] * wanted[name] for name in wanted), rel=2e-3)
    assert float(parts["replaced"]) == 0


def test_validation_counts_coordinates_and_types_only():
    vae, batch = tiny(), batch_of()
    vae.eval()
    total, parts = vae.loss(batch, generator())
    assert total.item() == pytest.approx(10 * parts["coords"].item() + parts["types"].item())
    total, parts = tiny("csp").eval().loss(batch, generator())
    assert total.item() == pytest.approx(10 * parts["coords"].item())


class Seen(torch.nn.Module):
    """Stands for the decoder and keeps what it saw."""

    def __init__(self, network):
        super().__init__()
        self.inner, self.calls = [network], []
        self.cutoff, self.neighbours, self.slots = network.cutoff, network.neighbours, 0

    def forward(self, *inputs):
        self.calls.append(inputs)
        return self.inner[0](*inputs)


def test_true_cells_are_seen_up_to_epoch_500_and_never_in_validation():
    vae, batch = tiny(), batch_of()
    vae.network = Seen(vae.network)

    def sees_true_cells(epoch):
        vae.epoch = epoch
        vae.loss(batch, generator())
        seen = vae.network.calls[-1][3]
        return torch.allclose(seen, batch.lattice, atol=1e-3)

    vae.train()
    assert [sees_true_cells(epoch) for epoch in (0, 500, 501, 999)] == [True, True, False, False]
    vae.eval()
    assert not sees_true_cells(0)


def test_the_loop_tells_the_module_its_epoch(tmp_path, monkeypatch):
    seen = []
    loss = cdvae_model.CrystalVAE.loss
    monkeypatch.setattr(
        cdvae_model.CrystalVAE, "loss", lambda self, *a: seen.append((self.training, self.epoch)) or loss(self, *a)
    )
    train(tmp_path, epochs=3, batch_size=100)
    assert {epoch for training, epoch in seen if training} == {0, 1, 2}


@pytest.mark.parametrize("epoch", [0, 501])
def test_denoising_never_teaches_the_lattice_head(epoch):
    vae, batch = tiny(), batch_of()
    vae.train()
    vae.epoch = epoch

    def gradient(*names):
        vae.zero_grad()
        parts = vae.loss(batch, generator())[1]
        sum(parts[name] for name in names).backward()
        assert all(torch.isfinite(p.grad).all() for p in vae.parameters() if p.grad is not None)
        return [p.grad for p in vae.head_lattice.parameters()]

    assert all(each is None for each in gradient("coords", "types"))
    assert any(bool(each.abs().max() > 0) for each in gradient("lattice"))


@pytest.mark.parametrize("bias", [-1e4, float("nan"), 1e4])
def test_predicted_cells_that_cannot_exist_are_replaced_by_true_ones(bias):
    vae, batch = tiny(), batch_of()
    vae.train()
    vae.epoch = 501
    with torch.no_grad():
        vae.head_lattice[2].bias.fill_(bias)
    _, parts = vae.loss(batch, generator())
    assert float(parts["replaced"]) == 1
    assert torch.isfinite(parts["coords"])
    (parts["coords"] + parts["types"]).backward()
    assert all(torch.isfinite(p.grad).all() for p in vae.network.parameters())


def test_corrupted_types_follow_their_chances():
    vae = tiny()
    numbers, mask = torch.full((1, 4000), 8), torch.ones(1, 4000, dtype=torch.bool)
    mask[0, -1] = False
    composition = torch.full((1, 100), -100.0)
    composition[0, [25, 7]] = torch.log(torch.tensor([0.75, 0.25]))
    drawn = vae.corrupt_types(numbers, mask, composition, torch.tensor([4.0]), generator())
    assert drawn[0, -1] == 0
    share = (drawn[0, :-1] == 26).float().mean()
    assert float(share) == pytest.approx(3.0 / 5.0, abs=0.03)  # 4 · 0.75 of 1 + 4
    assert set(drawn[0, :-1].tolist()) == {8, 26}


def test_levels_of_noise_are_geometric():
    levels = geometric(10.0, 0.01, 50)
    assert (float(levels[0]), float(levels[-1]), len(levels)) == (10.0, pytest.approx(0.01), 50)
    assert (levels[1:] / levels[:-1]).numpy() == pytest.approx(np.full(49, 1e-3 ** (1 / 49)))
    assert geometric(10.0, 0.01, 1).tolist() == pytest.approx([0.01])


def test_constants_standardise_scaled_lengths_and_angles():
    constants = fit_constants(CRYSTALS, None)
    batch = batch_of()
    scaled = torch.cat([batch.lengths / batch.mask.sum(1, keepdim=True) ** (1 / 3), batch.angles], dim=1).double()
    assert constants.lattice_mean == pytest.approx(scaled.mean(0).tolist(), rel=1e-5)
    assert constants.lattice_std == pytest.approx((scaled.std(0, correction=0) + 1e-5).tolist(), rel=1e-4)
    assert constants.max_atoms == 4
    lengths, angles, exists = tiny().parameters_of(
        ((scaled - torch.tensor(constants.lattice_mean)) / torch.tensor(constants.lattice_std)).float(),
        batch.mask.sum(1),
    )
    assert torch.allclose(lengths, batch.lengths, rtol=1e-4)
    assert torch.allclose(angles, batch.angles, rtol=1e-4)
    assert exists.all()


def test_size_of_the_published_model():
    constants = Constants((0.0,) * 6, (1.0,) * 6, 0.0, 1.0, 20)
    found = sum(p.numel() for p in build("dng", constants, asdict(CDVAEConfig())).parameters())
    # About 4.9 million are reported; ours lacks GemNet's head for energies, which CDVAE never reads.
    assert found == 4_453_737


def test_a_step_that_is_not_finite_is_survived(tmp_path):
    """A loss of NaN is skipped by the loop; drawing types from NaN must not end the training before."""
    vae, batch = tiny(), batch_of()
    vae.train()
    with torch.no_grad():
        vae.mean.bias.fill_(float("nan"))
    total, _ = vae.loss(batch, generator())
    assert not torch.isfinite(total)


def test_prediction_has_exactly_the_atoms_asked_for(checkpoints):
    wanted = [np.array([26, 8, 8]), np.array([8, 26, 8, 1, 1]), np.array([118]), np.ones(101, dtype=int), np.array([3])]
    found = list(Model().sample(checkpoints["csp"], wanted, FAST, 0, "cpu"))
    assert [crystal.atomic_numbers.tolist() for crystal in found] == [numbers.tolist() for numbers in wanted]
    assert [crystal.status for crystal in found] == ["ok", "ok", "unknown_element", "too_large", "ok"]


def test_a_crystal_does_not_depend_on_those_beside_it(checkpoints):
    one = CDVAESampling(levels=1, steps=1, batch_size=1, min_sigma=1.0)
    wanted = [np.array([26, 8, 8]), np.array([3]), np.array([1, 1])]
    alone = list(Model().sample(checkpoints["csp"], wanted, one, 0, "cpu"))
    together = list(Model().sample(checkpoints["csp"], wanted, replace(one, batch_size=50), 0, "cpu"))
    for a, b in zip(alone, together, strict=True):
        assert a.lattice == pytest.approx(b.lattice, rel=1e-4)
        assert np.abs(np.sin(np.pi * (a.frac_coords - b.frac_coords))).max() < 1e-3


def test_prediction_needs_a_checkpoint_of_its_task(checkpoints):
    with pytest.raises(ValueError, match="trained for 'dng', cannot sample 'csp'"):
        list(Model().sample(checkpoints["dng"], [np.array([3])], FAST, 0, "cpu"))


def test_reconstruction_keeps_order_ids_and_failures(checkpoints):
    broken = Crystal("broken", "unparsable")
    found = reconstruct(checkpoints["dng"], [CRYSTALS[0], broken, *CRYSTALS[1:]], FAST, 0, "cpu", true_numbers=True)
    assert [crystal.id for crystal in found] == ["random-0", "broken", *(f"random-{i}" for i in range(1, 5))]
    assert found[1] is broken
    assert [c.atomic_numbers.tolist() for c in found if c.ok] == [c.atomic_numbers.tolist() for c in CRYSTALS]
    counted = reconstruct(checkpoints["dng"], CRYSTALS, FAST, 0, "cpu", true_counts=True)
    assert [c.n_atoms for c in counted] == [c.n_atoms for c in CRYSTALS]
    again = reconstruct(checkpoints["dng"], CRYSTALS, FAST, 0, "cpu", true_counts=True)
    assert all(np.array_equal(a.frac_coords, b.frac_coords) for a, b in zip(counted, again, strict=True))
    assert reconstruct(checkpoints["csp"], [broken], FAST, 0, "cpu") == [broken]
    assert len(reconstruct(checkpoints["csp"], CRYSTALS, FAST, 0, "cpu")) == 5


def test_encoding_is_the_same_alone_and_in_a_batch(checkpoints):
    vae = load_module(checkpoints["dng"], "cpu")
    alone = encode(vae, CRYSTALS, 0, "cpu")
    mean, log_variance = vae.encode(batch_of())
    noise = torch.stack([torch.randn(6, generator=generator(mix_seed(0, 0, place))) for place in range(5)])
    assert torch.allclose(alone, mean + torch.exp(0.5 * log_variance) * noise, atol=1e-5)


def with_property(crystals):
    return [replace(c, info={"e_form_per_atom": float(c.n_atoms)}) for c in crystals]


def test_property_descends_in_latent_space(tmp_path):
    crystals = with_property(random_crystals(12, seed=2, sizes=(1, 2, 3, 4)))
    unknown = replace(crystals[0], info={"e_form_per_atom": None})
    checkpoint = train(
        tmp_path,
        [*crystals, unknown],
        property="e_form_per_atom",
        epochs=60,
        learning_rate=5e-3,
        batch_size=16,
        val_every=60,
    )
    found = optimise_property(checkpoint, crystals, FAST, 0, "cpu", starts=3, steps=40, snapshots=5, learning_rate=0.05)
    steps = sorted({crystal.info["step"] for crystal in found})
    assert steps == [0, 10, 20, 30, 39]
    assert len({crystal.id for crystal in found}) == len(found) == 15
    mean = [np.mean([c.info["predicted"] for c in found if c.info["step"] == step]) for step in steps]
    assert all(later < earlier for earlier, later in pairwise(mean))
    assert len(optimise_property(checkpoint, [], FAST, 0, "cpu", starts=2, steps=2, snapshots=1)) == 4


def test_property_needs_its_head(checkpoints):
    with pytest.raises(ValueError, match="trained without a property"):
        optimise_property(checkpoints["dng"], [], FAST, 0, "cpu")


def test_standardised_property_is_what_the_head_learns(tmp_path):
    crystals = with_property(CRYSTALS)
    constants = fit_constants(crystals, "e_form_per_atom")
    values = extra_of("radius", "e_form_per_atom", constants)(crystals, 4)["property"]
    assert values.mean() == pytest.approx(0, abs=1e-6)
    assert values.std() == pytest.approx(1, rel=1e-3)


def test_missing_bonds_and_properties_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="has no bonds"):
        train(tmp_path, bonds="crystal_nn")
    with pytest.raises(ValueError, match="5 no band_gap"):
        train(tmp_path, property="band_gap")


def test_a_compiled_training_needs_a_fixed_number_of_slots():
    with pytest.raises(ValueError, match="above 0 with compile"):
        CDVAEConfig(compile=True)
    assert CDVAEConfig(compile=True, slots=40).compile


def test_bfloat16_and_fixed_slots_give_a_close_loss():
    vae, batch = tiny(slots=12, neighbours=6), batch_of()
    wide = tiny(slots=0, neighbours=6)
    wide.load_state_dict(vae.state_dict())
    exact, _ = vae.loss(batch, generator())
    assert exact.item() == pytest.approx(wide.loss(batch, generator())[0].item(), rel=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = vae.loss(batch, generator())
    assert rough.item() == pytest.approx(exact.item(), rel=0.1)


@pytest.mark.parametrize("task", ["dng", "csp"])
@pytest.mark.parametrize("epoch", [0, 501])
def test_with_fixed_slots_a_training_step_never_makes_the_host_wait(task, epoch):
    vae, batch = tiny(task, slots=40), batch_of()
    vae.graph = lambda _: graph  # bonds come with the data
    graph = nearest_graph(batch.frac_coords, batch.lattice, batch.mask, slots=40)
    vae.train()
    vae.epoch = epoch
    with Tape() as tape:
        vae.loss(batch, generator())[0].backward()
    waits = WAITING & set(tape.names())
    # The encoder counts its bonds, on a CPU alone.
    assert waits <= {"aten::nonzero"}
    assert tape.names()["aten::nonzero"] == 1


def test_edges_without_a_slot_are_counted_in_the_log(tmp_path):
    _, parts = tiny(slots=3).loss(batch_of(), generator())
    assert 0 < float(parts["overflow"]) <= 1
    assert float(tiny(slots=40).loss(batch_of(), generator())[1]["overflow"]) == 0
    assert "overflow" not in tiny().loss(batch_of(), generator())[1]
    train(tmp_path, slots=3)
    with (tmp_path / "out" / "log.csv").open() as file:
        assert float(next(csv.DictReader(file))["overflow"]) > 0


@pytest.mark.parametrize(
    ("lengths", "angles", "atoms"),
    [
        ((40.0, 40.0, 40.0), (90.0, 90.0, 90.0), 2),  # no atom has a neighbour
        ((40.0, 40.0, 40.0), (90.0, 90.0, 90.0), 1),
        ((2.5, 2.5, 2.5), (60.0, 60.0, 60.0), 1),  # an atom and its own images
        ((3.0, 4.0, 14.0), (90.0, 12.0, 90.0), 3),  # neighbours beyond the 27 images
    ],
)
def test_extreme_cells_are_learnt_like_others(lengths, angles, atoms):
    lattice = lattice_from_parameters(np.array(lengths), np.array(angles))
    coords = np.linspace(0, 0.9, 3 * atoms).reshape(-1, 3)
    extreme = Crystal("extreme", "ok", lattice, coords, np.full(atoms, 8, dtype=np.uint8))
    usual = [crystal for crystal in CRYSTALS if crystal.n_atoms <= 4]
    for crystals in ([extreme], [*usual, extreme]):
        vae, batch = tiny(crystals=usual), batch_of(crystals)
        vae.train()
        for vae.epoch in (0, 501):
            vae.zero_grad()
            total, parts = vae.loss(batch, generator())
            total.backward()
            assert all(torch.isfinite(part) for part in parts.values())
            assert all(torch.isfinite(p.grad).all() for p in vae.parameters() if p.grad is not None)


def test_scales_are_fitted_before_training_and_stored(tmp_path):
    found = load_module(train(tmp_path), "cpu")
    factors = [float(part.factor) for part in found.modules() if isinstance(part, Scale)]
    assert len(factors) == 5
    assert all(factor != 1.0 for factor in factors)


def test_bonds_of_real_crystals_train_a_model(tmp_path):
    crystals = [replace(c, info={"bonds": bonds.bonds_of(c)[0]}) for c in embedded(8)]
    checkpoint = train(tmp_path, crystals, bonds="crystal_nn")
    assert len(reconstruct(checkpoint, crystals, FAST, 0, "cpu")) == 8


@pytest.mark.slow
def test_a_few_crystals_of_mp_20_are_learnt_by_heart(tmp_path, shared_data):
    """Eight crystals, some 50 seconds of one core; all match with seeds 0 to 2, one thread or two.

    benchmarks/cdvae_by_heart.py does it for 64. The settings are those of a small budget in docs/models/cdvae.md.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    from xtalgen.structure.pymatgen import to_structure

    crystals = [replace(c, info={"bonds": bonds.bonds_of(c)[0]}) for c in mp_20(shared_data, 8, largest=4)]
    checkpoint = train(
        tmp_path, crystals * 4, bonds="crystal_nn", hidden=48, triplet=8, latent=32, decoder_blocks=2, neighbours=12,
        epochs=500, batch_size=32, val_every=500, schedule="cosine", learning_rate=3e-3, final_learning_rate=1e-5,
        clip="norm", clip_at=1.0, kl_weight=1e-3, teacher_forcing=10_000, coords_begin=3.0, coords_end=0.05,
        types_begin=0.5, types_end=0.05,
    )  # fmt: skip
    sampling = CDVAESampling(levels=30, steps=20, step_rate=0.05**2)
    found = reconstruct(checkpoint, crystals, sampling, 0, "cpu")
    matcher = StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)
    matched = [
        made.ok and matcher.fit(to_structure(c), to_structure(made)) for c, made in zip(crystals, found, strict=True)
    ]
    assert np.mean(matched) >= 0.85  # seven of eight


def test_command_walks_latent_space(checkpoints, tmp_path):
    write_table(to_table(CRYSTALS), tmp_path / "in.parquet")
    common = ["--checkpoint", str(checkpoints["dng"]), "--settings", '{"levels": 2, "steps": 1}', "--device", "cpu"]
    out = tmp_path / "out.parquet"
    cdvae_latent.main(
        [
            "reconstruct",
            *common,
            "--table",
            str(tmp_path / "in.parquet"),
            "--out",
            str(out),
            "--options",
            '{"true_counts": true}',
        ]
    )
    assert [c.n_atoms for c in read_crystals(out)] == [c.n_atoms for c in CRYSTALS]
    with pytest.raises(SystemExit, match="trained without a property"):
        cdvae_latent.main(["optimise", *common, "--out", str(out)])


def test_bonds_and_property_stay_with_their_crystals_and_count_in_the_digest():
    crystals = [replace(c, info={"bonds": [0, 0, 0, 0, i + 1], "e": float(i)}) for i, c in enumerate(CRYSTALS)]
    extra = extra_of("crystal_nn", "e", fit_constants(crystals, "e"))
    data = DeviceData(crystals, "cpu", extra)
    taken = data.buckets[0].take(torch.tensor([3, 1]))
    assert taken.extra["bond_image"][:, 0, :, 2].abs().amax(dim=1).tolist() == [4, 2]
    assert taken.extra["property"].tolist() == data.buckets[0].extra["property"][[3, 1]].tolist()
    other = [replace(crystals[0], info={"bonds": [0, 0, 0, 1, 0], "e": 0.0}), *crystals[1:]]
    assert DeviceData(other, "cpu", extra).digest != data.digest
    assert DeviceData(crystals, "cpu").digest != data.digest
