"""The dense GemNet-T against one that walks over edges and triplets one by one; symmetries; scale factors; FLOP."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.utils.flop_counter import FlopCounterMode

from random_crystals import random_crystals
from xtalgen.models.networks.gemnet import ORDERS, DenseGemNetT, Scale, ScaledSiLU, fitting_scales, he_orthogonal_
from xtalgen.models.networks.periodic_graph import nearest_graph
from xtalgen.models.networks.radial_basis import spherical_harmonics
from xtalgen.training.batches import DeviceData

LATENT = 6


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small products only lose by more
    yield
    torch.set_num_threads(threads)


def network(hidden=12, blocks=2, trip=5, **settings):
    torch.manual_seed(2)
    net = DenseGemNetT(latent=LATENT, hidden=hidden, blocks=blocks, trip=trip, **settings)
    for part in net.modules():
        if isinstance(part, Scale):
            part.factor.fill_(3.0)  # as large as fitted ones, so that every path counts
    return net


def inputs(crystals, seed=0):
    data = DeviceData(crystals, "cpu")
    (batch,) = data.buckets
    latent = torch.randn(len(batch), LATENT, generator=torch.Generator().manual_seed(seed))
    return latent, batch.atomic_numbers, batch.frac_coords, batch.lattice, batch.mask


def dense(layer, x):
    y = layer.weight @ x
    return y / (1 + torch.exp(-y)) / 0.6 if layer.activated else y


def residual(layers, x):
    return (x + dense(layers[1], dense(layers[0], x))) / 2**0.5


def chain(layers, x):
    for layer in layers:
        x = residual(layer, x) if hasattr(layer, "__getitem__") else dense(layer, x)
    return x


def messages_of_triplets(part, m, edges, *, vectors, small, rbf, circular):
    """Sums over triplets edge by edge: `edges` maps (source, target, image) to a number."""
    radial = part.scale_radial.factor
    sent = [
        dense(part.down, radial * dense(part.from_edge, x) * dense(part.from_radial, s))
        for x, s in zip(m, small, strict=True)
    ]
    found = []
    for edge, number in edges.items():
        total = torch.zeros(part.bilinear.shape[2])
        for other, k in edges.items():
            if other[1] != edge[1] or k == number:
                continue
            harmonics = torch.stack(spherical_harmonics(vectors[number] @ vectors[k], ORDERS))
            basis = torch.einsum("l,lri,r->i", harmonics, circular, rbf[number])
            total = total + torch.einsum("i,c,cio->o", basis, sent[k], part.bilinear)
        found.append(part.scale_sum.factor * total)
    ups = []
    for (s, t, image), number in edges.items():
        reverse = edges[t, s, tuple(-x for x in image)]
        ups.append((dense(part.up_forward, found[number]) + dense(part.up_reverse, found[reverse])) / 2**0.5)
    return ups


def plain(net, latent, numbers, coords, lattice):
    """Returns hidden atoms and vectors of one crystal from lists of edges, without padding."""
    graph = nearest_graph(coords[None], lattice[None], torch.ones(1, len(coords), dtype=torch.bool))
    edges, vectors, rbf = {}, [], []
    for t, slot in graph.mask[0].nonzero().tolist():
        s, image = int(graph.source[0, t, slot]), tuple(int(x) for x in graph.image[0, t, slot])
        edges[s, t, image] = len(edges)
        away = (coords[t] - coords[s] - torch.tensor(image)) @ lattice
        x = away.norm() / net.cutoff
        vectors.append(away / away.norm())
        envelope = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7 if x < 1 else 0 * x
        rbf.append(envelope * torch.exp(-0.5 * ((x - net.basis.centres) * 127) ** 2))
    small = {name: [dense(layer, r) for r in rbf] for name, layer in net.down.items()}
    h = [net.with_latent(torch.cat([net.elements.weight[z], latent])) for z in numbers]

    def embed(layer, features):
        return [dense(layer, torch.cat([h[s], h[t], features[number]])) for (s, t, _), number in edges.items()]

    def out(block, m):
        return [
            dense(block.last, block.scale.factor * chain(block.layers, x) * dense(block.from_radial, s))
            for x, s in zip(m, small["output"], strict=True)
        ]

    m = embed(net.embed_edge, rbf)
    total = out(net.outputs[0], m)
    for block, output in zip(net.blocks, net.outputs[1:], strict=True):
        received = messages_of_triplets(
            block.triplets, m, edges, vectors=vectors, small=small["triplet"], rbf=rbf, circular=net.circular
        )
        new = [
            chain(block.before_skip, (dense(block.from_edge, x) + y) / 2**0.5) for x, y in zip(m, received, strict=True)
        ]
        m = [chain(block.after_skip, (x + y) / 2**0.5) for x, y in zip(m, new, strict=True)]
        for atom in range(len(h)):
            into = [m[k] * dense(block.update.from_radial, small["atom"][k]) for e, k in edges.items() if e[1] == atom]
            summed = block.update.scale.factor * sum(into, torch.zeros_like(m[0]))
            h[atom] = (h[atom] + chain(block.update.layers, summed)) / 2**0.5
        joined = embed(block.concat, m)
        m = [(x + chain(block.after_concat, y)) / 2**0.5 for x, y in zip(m, joined, strict=True)]
        total = [x + y for x, y in zip(total, out(output, m), strict=True)]
    moved = torch.zeros(len(h), 3)
    for (_, t, _), number in edges.items():
        moved[t] += total[number] * vectors[number]
    return torch.stack(h), moved


@torch.no_grad()
def test_equals_the_plain_network():
    net = network()
    latent, numbers, coords, lattice, mask = inputs(random_crystals(4, seed=1, sizes=(1, 2, 3, 4)))
    atoms, vectors, _ = net(latent, numbers, coords, lattice, mask)
    assert vectors.abs().max() > 0.1
    for row in range(4):
        n = int(mask[row].sum())
        wanted, moved = plain(net, latent[row], numbers[row, :n], coords[row, :n], lattice[row])
        assert torch.allclose(atoms[row, :n], wanted, rtol=1e-3, atol=1e-4)
        assert torch.allclose(vectors[row, :n], moved, rtol=1e-3, atol=1e-3 * float(moved.abs().max() + 1))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
@torch.no_grad()
def test_vectors_turn_with_the_cell_and_atoms_stay(seed):
    net = network(hidden=8)
    latent, numbers, coords, lattice, mask = inputs(random_crystals(3, seed=seed, sizes=(5,)))
    axis = random_crystals(1, seed=seed, sizes=(1,))[0].frac_coords[0] + 0.1
    turn = torch.tensor(Rotation.from_rotvec(2 * axis / np.linalg.norm(axis)).as_matrix(), dtype=torch.float32)
    atoms, vectors, _ = net(latent, numbers, coords, lattice, mask)
    turned_atoms, turned, _ = net(latent, numbers, coords, lattice @ turn, mask)
    assert torch.allclose(turned, vectors @ turn, atol=2e-3 * float(vectors.abs().max()))
    assert torch.allclose(turned_atoms, atoms, atol=1e-3)
    assert not torch.allclose(turned, vectors, atol=0.05 * float(vectors.abs().max()))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
@torch.no_grad()
def test_moving_the_whole_crystal_changes_nothing(seed):
    net = network(hidden=8, cutoff=4.0)
    latent, numbers, coords, lattice, mask = inputs(random_crystals(2, seed=seed, sizes=(6,)))
    lattice = 1.4 * lattice
    # Else a neighbour may lie beyond the 27 images, depending on where atoms are wrapped.
    assume(float(1 / torch.linalg.inv(lattice).norm(dim=1).max()) > 4.0)
    # In steps of 1/8 float32 coordinates stay exact, so that no tie between neighbours is broken by rounding.
    coords = torch.round(coords * 1024) / 1024
    step = torch.from_numpy(np.random.default_rng(seed).integers(0, 8, 3)) / 8
    atoms, vectors, _ = net(latent, numbers, coords, lattice, mask)
    moved_atoms, moved, _ = net(latent, numbers, (coords + step) % 1.0, lattice, mask)
    assert torch.allclose(moved, vectors, atol=2e-3 * float(vectors.abs().max() + 1))
    assert torch.allclose(moved_atoms, atoms, atol=1e-3)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
@torch.no_grad()
def test_order_of_atoms_matters_only_through_the_one_sided_rule(seed):
    """With room for every neighbour no choice is left, and the result follows the atoms."""
    net = network(hidden=8, neighbours=500, cutoff=4.0)
    latent, numbers, coords, lattice, mask = inputs(random_crystals(3, seed=seed, sizes=(5,)))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(5))
    atoms, vectors, _ = net(latent, numbers, coords, lattice, mask)
    other_atoms, other, _ = net(latent, numbers[:, order], coords[:, order], lattice, mask)
    assert torch.allclose(other, vectors[:, order], atol=2e-3 * float(vectors.abs().max() + 1))
    assert torch.allclose(other_atoms, atoms[:, order], atol=1e-3)


@torch.no_grad()
def test_padding_and_company_change_nothing():
    net = network()
    crystals = random_crystals(6, seed=3, sizes=(5, 6, 8))
    latent, numbers, coords, lattice, mask = inputs(crystals)
    atoms, vectors, _ = net(latent, numbers, coords, lattice, mask)
    assert torch.equal(vectors[~mask], torch.zeros_like(vectors[~mask]))
    for row in range(6):
        n, one = int(mask[row].sum()), slice(row, row + 1)
        alone, moved, _ = net(latent[one], numbers[one, :n], coords[one, :n], lattice[one], mask[one, :n])
        assert torch.allclose(alone[0], atoms[row, :n], atol=1e-3)
        assert torch.allclose(moved[0], vectors[row, :n], atol=1e-3 * float(vectors.abs().max()))


def test_without_neighbours_vectors_are_zero_and_gradients_finite():
    net = network()
    mask = torch.tensor([[True, False], [True, True]])
    lattice = torch.stack([40.0 * torch.eye(3), 4.0 * torch.eye(3)]).requires_grad_()
    coords = torch.tensor([[[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]], [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]]])
    atoms, vectors, _ = net(torch.zeros(2, LATENT), torch.tensor([[3, 0], [3, 8]]), coords, lattice, mask)
    assert torch.equal(vectors[0], torch.zeros(2, 3))
    (atoms.sum() + vectors.square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert torch.isfinite(lattice.grad).all()


def test_scale_factors_restore_the_variance():
    scale = Scale()
    reference, value = torch.randn(500, 4), 0.01 * torch.randn(500, 4)
    mask = torch.arange(500) < 400
    value[~mask] = 100.0  # padding must not count
    with fitting_scales(scale):
        fitted = scale(reference, mask, value, mask)
    assert float(fitted[mask].var()) == pytest.approx(float(reference[mask].var()), rel=0.1)
    kept = scale.factor.clone()
    scale(reference, mask, 10 * value, mask)
    assert torch.equal(scale.factor, kept)
    assert "factor" in scale.state_dict()


def test_gradient_of_the_activation():
    values = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(ScaledSiLU.apply(values), torch.nn.functional.silu(values) / 0.6)
    assert torch.autograd.gradcheck(ScaledSiLU.apply, values)


def test_weights_start_with_orthogonal_standardised_rows():
    weight = he_orthogonal_(torch.empty(24, 16))
    assert weight.mean(dim=1) == pytest.approx(np.zeros(24), abs=1e-6)
    assert weight.var(dim=1).numpy() == pytest.approx(np.full(24, 1 / 16), rel=1e-3)


def test_size_of_the_published_network():
    assert sum(p.numel() for p in DenseGemNetT(latent=256).parameters()) == 1_864_960


@torch.no_grad()
def test_stated_flop_are_those_that_torch_counts():
    net = DenseGemNetT(latent=LATENT, hidden=32, blocks=2, trip=8, slots=20)
    latent, numbers, coords, lattice, mask = inputs(random_crystals(3, seed=1, sizes=(7,)))
    with FlopCounterMode(display=False) as counter:
        net(latent, numbers, coords, lattice, mask)
    assert net.flop(7, 20) * 3 == pytest.approx(counter.get_total_flops(), rel=0.02)
