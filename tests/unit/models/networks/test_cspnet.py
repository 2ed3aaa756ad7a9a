"""The dense network against an obviously correct one, crystal by crystal, edge by edge."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from xtalgen.models.networks.cspnet import DenseCSPNet
from xtalgen.training.batches import MAX_ATOMS, mask_of

KINDS = {
    "flowmm": {"edge_vector": True, "counts": True, "self_edges": False},
    "diffcsp": {"edge_vector": False, "counts": False, "self_edges": True},
}
SIZES = (1, 2, 3, 5, 7)


def network(kind, hidden=24, layers=2, frequencies=5):
    torch.manual_seed(3)
    return DenseCSPNet(
        node_inputs=6,
        crystal_inputs=6,
        time_inputs=4,
        hidden=hidden,
        layers=layers,
        frequencies=frequencies,
        **KINDS[kind],
    )


def inputs(sizes=SIZES, width=None, seed=0):
    rng = torch.Generator().manual_seed(seed)
    n_atoms, width = torch.tensor(sizes), width or max(sizes)
    vectors = torch.randn(len(sizes), 3, 3, generator=rng)
    return {
        "nodes": torch.randn(len(sizes), width, 6, generator=rng),
        "time": torch.rand(len(sizes), 4, generator=rng),
        "crystal": torch.randn(len(sizes), 6, generator=rng),
        "frac_coords": torch.rand(len(sizes), width, 3, generator=rng),
        "gram": vectors @ vectors.mT,
        "mask": mask_of(n_atoms, width),
    }


def silu(x):
    return x / (1 + torch.exp(-x))


def norm(layer, x):
    return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + layer.eps) * layer.weight + layer.bias


def messages_into(net, layer, i, *, normed, frac, gram, crystal):
    """Plain messages to atom i: concatenated inputs, one edge at a time."""
    n, found = len(normed), []
    for j in range(n):
        if i == j and not net.self_edges:
            continue
        shift = frac[j] - frac[i]
        shift = torch.atan2(torch.sin(2 * np.pi * shift), torch.cos(2 * np.pi * shift)) / (2 * np.pi)
        waves = [2 * np.pi * k * shift[axis] for axis in range(3) for k in range(len(net.waves))]
        sines, cosines = torch.stack([torch.sin(w) for w in waves]), torch.stack([torch.cos(w) for w in waves])
        direction = gram @ shift
        vector = [direction / direction.norm()] if net.edge_vector else []
        parts = [*vector, sines, normed[i], normed[j], cosines, crystal]
        if layer.count is not None:
            parts.append(layer.count.weight[:, n - 1])
        hidden = silu(layer.edge_in.weight @ torch.cat(parts) + layer.edge_in.bias)
        found.append(silu(layer.edge_out.weight @ hidden + layer.edge_out.bias))
    return found


def plain(net, *, nodes, time, crystal, frac, gram):
    """Returns hidden atoms and pooled crystal of one crystal without padding."""
    atoms = [net.embed_both.weight @ torch.cat([net.embed_node.weight @ node, time]) for node in nodes]
    for layer in net.layers:
        normed = [norm(layer.norm, atom) for atom in atoms]
        updated = []
        for i, atom in enumerate(atoms):
            found = messages_into(net, layer, i, normed=normed, frac=frac, gram=gram, crystal=crystal)
            mean = sum(found) / len(found) if found else torch.zeros_like(atom)
            hidden = silu(layer.node_in.weight @ torch.cat([normed[i], mean]) + layer.node_in.bias)
            updated.append(atom + silu(layer.node_out.weight @ hidden + layer.node_out.bias))
        atoms = updated
    atoms = torch.stack([norm(net.norm, atom) for atom in atoms])
    return atoms, torch.cat([atoms.mean(0), atoms.sum(0)])


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_plain_network(kind):
    net, given = network(kind), inputs(width=9)
    with torch.no_grad():
        atoms, pooled = net(**given)
        for row, n in enumerate(SIZES):
            one = [given[name][row] for name in ("nodes", "time", "crystal", "frac_coords", "gram")]
            expected_atoms, expected_pooled = plain(
                net, nodes=one[0][:n], time=one[1], crystal=one[2], frac=one[3][:n], gram=one[4]
            )
            torch.testing.assert_close(atoms[row, :n], expected_atoms, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(pooled[row], expected_pooled, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind):
    net, narrow = network(kind), inputs(width=7)
    wide = dict(narrow)
    for name in ("nodes", "frac_coords"):
        wide[name] = torch.cat([narrow[name], torch.randn(len(SIZES), 4, narrow[name].shape[-1])], dim=1)
    wide["mask"] = mask_of(torch.tensor(SIZES), 11)
    with torch.no_grad():
        (atoms, pooled), (padded_atoms, padded_pooled) = net(**narrow), net(**wide)
    mask = narrow["mask"]
    torch.testing.assert_close(padded_atoms[:, :7][mask], atoms[mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(padded_pooled, pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_atoms_in_another_order_give_the_same_in_that_order(kind):
    net, given = network(kind), inputs(sizes=(6, 6))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = {**given, "nodes": given["nodes"][:, order], "frac_coords": given["frac_coords"][:, order]}
    with torch.no_grad():
        (atoms, pooled), (shuffled_atoms, shuffled_pooled) = net(**given), net(**shuffled)
    torch.testing.assert_close(shuffled_atoms, atoms[:, order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shuffled_pooled, pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_translation_changes_nothing(kind):
    net, given = network(kind), inputs()
    moved = {**given, "frac_coords": torch.remainder(given["frac_coords"] + torch.tensor([0.3, 0.71, 0.05]), 1.0)}
    with torch.no_grad():
        atoms, pooled = net(**given)
        moved_atoms, moved_pooled = net(**moved)
    torch.testing.assert_close(moved_atoms[given["mask"]], atoms[given["mask"]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved_pooled, pooled, rtol=1e-4, atol=2e-5)


def test_a_cell_of_one_atom_gets_no_message_but_is_finite():
    net, given = network("flowmm"), inputs(sizes=(1, 1))
    atoms, pooled = net(**given)
    assert atoms.shape == (2, 1, 24)
    (atoms.sum() + pooled.sum()).backward()
    assert torch.isfinite(atoms).all()
    assert not net.layers[0].edge_out.weight.grad.any()


def test_atoms_on_the_same_place_give_finite_gradients():
    net, given = network("flowmm"), inputs(sizes=(4,))
    given["frac_coords"] = torch.zeros_like(given["frac_coords"])
    net(**given)[0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 4, 9])
def test_stated_flop_are_those_that_torch_counts(kind, n):
    net = network(kind)
    given = inputs(sizes=(n,))
    given["time"].requires_grad_()
    forward, training = net.flop(n)
    with FlopCounterMode(display=False) as counted:
        atoms, pooled = net(**given)
    assert counted.get_total_flops() == forward
    with FlopCounterMode(display=False) as counted:
        (atoms.sum() + pooled.sum()).backward()
    assert counted.get_total_flops() + forward == training


def test_counts_above_the_limit_have_no_embedding():
    assert network("flowmm").layers[0].count.in_features == MAX_ATOMS
