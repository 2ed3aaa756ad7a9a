"""The dense DimeNet++ against one that walks over triplets one by one; symmetries; bonds from the table."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.utils.flop_counter import FlopCounterMode

from random_crystals import random_crystals
from xtalgen.crystals import Crystal
from xtalgen.models.networks.bonded_graph import bonded_graph, pad_bonds
from xtalgen.models.networks.dimenet import ORDERS, DenseDimeNet
from xtalgen.models.networks.radial_basis import spherical_harmonics
from xtalgen.training.batches import DeviceData


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small products only lose by more
    yield
    torch.set_num_threads(threads)


def with_bonds(crystal, rng, number=6):
    """A crystal with random bonds, each once, to itself too."""
    bonds = set()
    while len(bonds) < number:
        i, j = sorted(rng.integers(0, crystal.n_atoms, 2).tolist())
        cell = tuple(rng.integers(-2, 3, 3).tolist())
        if i < j or cell > (0, 0, 0):
            bonds.add((i, j, *cell))
    flat = [int(number) for bond in sorted(bonds) for number in bond]
    return Crystal(crystal.id, "ok", crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, {"bonds": flat})


def bonded_crystals(n, seed, sizes=(1, 2, 3, 4)):
    rng = np.random.default_rng(seed)
    return [with_bonds(crystal, rng) for crystal in random_crystals(n, seed=seed, sizes=sizes)]


def network(hidden=10, blocks=2):
    torch.manual_seed(1)
    net = DenseDimeNet(outputs=5, hidden=hidden, blocks=blocks, cutoff=25.0)
    for output in net.outputs:
        torch.nn.init.normal_(output.last.weight, std=0.1)
    return net


def encode(net, crystals):
    (batch,) = DeviceData(crystals, "cpu", pad_bonds).buckets
    graph = bonded_graph(batch.extra, batch.mask)
    return net(batch.atomic_numbers, batch.frac_coords, batch.lattice, batch.mask, graph)


def silu(x):
    return x / (1 + torch.exp(-x))


def residual(part, x):
    return x + silu(part.second(silu(part.first(x))))


def plain(net, crystal):  # noqa: C901 - written as it is said
    """The encoding of one crystal from its list of bonds, message by message."""
    frac = torch.tensor(crystal.frac_coords, dtype=torch.float32)
    lattice = torch.tensor(crystal.lattice, dtype=torch.float32)
    edges, away = [], []  # (source j, target i, vector from i to j)
    for i, j, *cell in np.reshape(crystal.info["bonds"], (-1, 5)).tolist():
        vector = (frac[j] + torch.tensor(cell) - frac[i]) @ lattice
        edges += [(j, i), (i, j)]
        away += [vector, -vector]
    lengths = torch.stack(away).norm(dim=1)
    radial, bessel = net.radial(lengths), net.bessel(lengths)
    kinds = [net.embed.elements.weight[int(z)] for z in crystal.atomic_numbers]
    m = [
        silu(net.embed.join(torch.cat([kinds[i], kinds[j], silu(net.embed.from_radial(radial[e]))])))
        for e, (j, i) in enumerate(edges)
    ]

    def out(part):
        total = []
        for atom in range(crystal.n_atoms):
            into = [m[e] * part.from_radial(radial[e]) for e, (_, i) in enumerate(edges) if i == atom]
            x = part.up(sum(into, torch.zeros(net.hidden)))
            for layer in part.layers:
                x = silu(layer(x))
            total.append(part.last(x))
        return torch.stack(total)

    atoms = out(net.outputs[0])
    for block, output in zip(net.blocks, net.outputs[1:], strict=True):
        new = []
        sent = [silu(block.down(silu(block.from_reverse(x)) * block.radial(r))) for x, r in zip(m, radial, strict=True)]
        for e, (j, i) in enumerate(edges):
            received = torch.zeros(64)
            for f, (k, middle) in enumerate(edges):
                if middle != j or k == i:
                    continue
                # α between the vectors j → i and j → k, as everywhere up to the sign of odd orders.
                cosine = (-away[e] @ away[f]) / (lengths[e] * lengths[f])
                basis = torch.stack(spherical_harmonics(cosine, ORDERS))[:, None] * bessel[f]
                received = received + sent[f] * block.circular(basis.flatten())
            x = silu(block.from_edge(m[e])) + silu(block.up(received))
            for layer in block.before_skip:
                x = residual(layer, x)
            x = silu(block.last(x)) + m[e]
            for layer in block.after_skip:
                x = residual(layer, x)
            new.append(x)
        m = new
        atoms = atoms + out(output)
    return atoms.mean(dim=0)


@torch.no_grad()
def test_equals_the_plain_network():
    net, crystals = network(), bonded_crystals(4, seed=3)
    found = encode(net, crystals)
    assert found.std() > 0.05
    for row, crystal in zip(found, crystals, strict=True):
        assert torch.allclose(row, plain(net, crystal), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_encoding_ignores_rotation_translation_and_order():
    net = network()
    (crystal,) = bonded_crystals(1, seed=5, sizes=(4,))
    turn = Rotation.random(rng=1).as_matrix()
    rng = np.random.default_rng(0)
    order = rng.permutation(4)
    place = np.argsort(order)
    bonds = []
    for i, j, *cell in np.reshape(crystal.info["bonds"], (-1, 5)).tolist():
        bonds += [int(place[i]), int(place[j]), *cell]
    same = [
        crystal,
        Crystal("t", "ok", crystal.lattice @ turn, crystal.frac_coords, crystal.atomic_numbers, crystal.info),
        Crystal("m", "ok", crystal.lattice, crystal.frac_coords + 0.37, crystal.atomic_numbers, crystal.info),
        Crystal(
            "o", "ok", crystal.lattice, crystal.frac_coords[order], crystal.atomic_numbers[order], {"bonds": bonds}
        ),
    ]
    found = encode(net, same)
    for row in found[1:]:
        assert torch.allclose(row, found[0], rtol=1e-3, atol=1e-4)
    other = Crystal("x", "ok", crystal.lattice * 1.05, crystal.frac_coords, crystal.atomic_numbers, crystal.info)
    assert not torch.allclose(encode(net, [other])[0], found[0], rtol=1e-2, atol=1e-3)


def test_starts_at_zero_as_published():
    net = DenseDimeNet(outputs=256)
    crystals = bonded_crystals(2, seed=1)
    assert torch.equal(encode(net, crystals), torch.zeros(2, 256))


def test_bonds_stand_at_both_ends():
    crystals = bonded_crystals(4, seed=2)
    extra = {name: torch.from_numpy(values) for name, values in pad_bonds(crystals, 6).items()}
    graph = bonded_graph(extra, torch.ones(4, 6, dtype=torch.bool))
    number = torch.arange(graph.reverse.shape[1])
    assert torch.equal(graph.reverse.gather(1, graph.reverse), number.expand_as(graph.reverse))
    for row, crystal in enumerate(crystals):
        wanted = set()
        for i, j, *cell in np.reshape(crystal.info["bonds"], (-1, 5)).tolist():
            wanted |= {(j, i, *cell), (i, j, *(-x for x in cell))}
        found = {
            (int(graph.source[row, t, k]), t, *(int(x) for x in graph.image[row, t, k]))
            for t, k in graph.mask[row].nonzero().tolist()
        }
        assert found == wanted
        other = graph.reverse[row].view(6, -1)
        for t, k in graph.mask[row].nonzero().tolist():
            s, back = divmod(int(other[t, k]), graph.slots)
            assert (int(graph.source[row, t, k]), t) == (s, int(graph.source[row, s, back]))
            assert torch.equal(graph.image[row, t, k], -graph.image[row, s, back])


def test_a_crystal_without_any_bond_is_encoded():
    (crystal,) = bonded_crystals(1, seed=1, sizes=(2,))
    bare = Crystal("bare", "ok", crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, {"bonds": []})
    assert torch.isfinite(encode(network(), [bare])).all()


@pytest.mark.parametrize("bonds", [[0, 1, 0, 0], [0, 7, 0, 0, 0], [-1, 0, 0, 0, 0]])
def test_bonds_that_do_not_fit_are_refused_by_name(bonds):
    (crystal,) = random_crystals(1, sizes=(2,))
    broken = Crystal("mine", "ok", crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, {"bonds": bonds})
    with pytest.raises(ValueError, match=r"'mine'.*do not fit"):
        pad_bonds([broken], 2)


def test_missing_bonds_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"'random-0' has no bonds.*bonds: radius"):
        pad_bonds(random_crystals(1), 4)


@torch.no_grad()
def test_stated_flop_are_close_to_those_that_torch_counts():
    net = DenseDimeNet(outputs=256, hidden=32, blocks=2)
    (batch,) = DeviceData(bonded_crystals(3, seed=4, sizes=(4,)), "cpu", pad_bonds).buckets
    graph = bonded_graph(batch.extra, batch.mask)
    with FlopCounterMode(display=False) as counter:
        net(batch.atomic_numbers, batch.frac_coords, batch.lattice, batch.mask, graph)
    assert 3 * net.flop(4, graph.slots) == pytest.approx(counter.get_total_flops(), rel=0.1)
