"""Rows of edges, all slots or the edges alone: geometry against pymatgen, values passed along, and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_crystals import random_crystals
from real_crystals import embedded
from xtalgen.models.networks.edges import (
    edge_vectors,
    edges_of,
    from_source,
    from_target,
    sum_at_target,
    swap,
    to_rows,
    to_slots,
)
from xtalgen.models.networks.periodic_graph import nearest_graph
from xtalgen.structure.pymatgen import to_structure
from xtalgen.training.batches import DeviceData

packed_or_not = pytest.mark.parametrize("packed", [False, True])


def tensors(crystals):
    batches = DeviceData(crystals, "cpu").buckets
    assert len(batches) == 1
    return batches[0].frac_coords, batches[0].lattice, batches[0].mask


@packed_or_not
def test_vectors_point_from_source_to_target(packed):
    crystals = [crystal for crystal in embedded(40) if crystal.n_atoms <= 4]
    coords, lattice, mask = tensors(crystals)
    graph = nearest_graph(coords, lattice, mask)
    edges = edges_of(graph, packed=packed)
    directions, lengths = edge_vectors(edges, coords, lattice)
    assert len(lengths) == (int(graph.mask.sum()) if packed else graph.mask.numel())
    for row in edges.present.nonzero().squeeze(1).tolist()[::13]:
        number, target = divmod(int(edges.target[row]), mask.shape[1])
        source = int(edges.source[row]) - number * mask.shape[1]
        image, crystal = edges.image[row].numpy(), crystals[number]
        wanted = to_structure(crystal).get_distance(source, target, jimage=-image)
        assert float(lengths[row]) == pytest.approx(wanted, rel=1e-4)
        step = crystal.frac_coords[target] - crystal.frac_coords[source] - image
        assert directions[row].numpy() == pytest.approx(step @ crystal.lattice / wanted, abs=1e-4)


@packed_or_not
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), slots=st.sampled_from([0, 3, 40]))
def test_the_reverse_is_an_involution_and_turns_vectors_round(packed, seed, slots):
    coords, lattice, mask = tensors(random_crystals(5, seed=seed, sizes=(1, 2, 4)))
    edges = edges_of(nearest_graph(coords, lattice, mask, slots=slots), packed=packed)
    number = torch.arange(len(edges.reverse))
    assert torch.equal(edges.reverse[edges.reverse], number)
    assert torch.equal(edges.source[edges.reverse], edges.target)
    assert torch.equal(edges.reverse == number, ~edges.present)
    directions, lengths = edge_vectors(edges, coords, lattice)
    assert torch.allclose(swap(edges, directions), -directions, atol=1e-5)
    assert torch.allclose(swap(edges, lengths.unsqueeze(-1)).squeeze(-1), lengths, atol=1e-5)


@packed_or_not
def test_passing_along_edges_and_its_gradient(packed):
    coords, lattice, mask = tensors(random_crystals(2, seed=1, sizes=(1, 2)))
    graph = nearest_graph(coords, lattice, mask, neighbours=3)
    edges = edges_of(graph, packed=packed)
    rows = torch.randn(len(edges.source), 2, dtype=torch.float64, requires_grad=True)
    atoms = torch.randn(*mask.shape, 2, dtype=torch.float64, requires_grad=True)
    slots = torch.randn(*graph.mask.shape, 2, dtype=torch.float64, requires_grad=True)
    crystal = torch.arange(2)[:, None, None]
    there = graph.mask if packed else torch.ones_like(graph.mask)
    assert torch.equal(from_source(edges, atoms), atoms[crystal, graph.source][there])
    assert torch.equal(from_target(edges, atoms), atoms.unsqueeze(2).expand(slots.shape)[there])
    assert torch.equal(to_rows(edges, slots), slots[there])
    assert torch.equal(to_slots(edges, rows)[there], rows)
    assert torch.equal(to_slots(edges, rows)[~there], torch.zeros(int((~there).sum()), 2, dtype=torch.float64))
    summed = torch.zeros(mask.numel(), 2, dtype=torch.float64).index_add(0, edges.target, rows)
    assert torch.allclose(sum_at_target(edges, rows).flatten(0, 1), summed)
    for way, values in (
        (swap, rows),
        (from_source, atoms),
        (from_target, atoms),
        (sum_at_target, rows),
        (to_slots, rows),
        (to_rows, slots),
    ):
        assert torch.autograd.gradcheck(lambda x, way=way: way(edges, x), values)


@packed_or_not
def test_gradient_of_lengths_is_that_of_the_cell(packed):
    coords, lattice, mask = tensors(random_crystals(3, seed=2, sizes=(3,)))
    edges = edges_of(nearest_graph(coords, lattice, mask), packed=packed)
    lattice = lattice.double().requires_grad_()
    _, lengths = edge_vectors(edges, coords.double(), lattice)
    (lengths * edges.present).sum().backward()
    assert torch.isfinite(lattice.grad).all()
    # Lengths grow in proportion when the cell does (Euler).
    assert (lattice.grad * lattice).sum().item() == pytest.approx((lengths * edges.present).sum().item())


@packed_or_not
def test_without_any_edge_vectors_are_zero_and_gradients_finite(packed):
    coords, lattice = torch.tensor([[[0.3, 0.4, 0.5]]]), 30.0 * torch.eye(3)[None]
    edges = edges_of(nearest_graph(coords, lattice, torch.ones(1, 1, dtype=torch.bool)), packed=packed)
    directions, lengths = edge_vectors(edges, coords, lattice.requires_grad_())
    assert torch.equal(directions, torch.zeros_like(directions))
    (lengths.sum() + directions.sum()).backward()
    assert torch.isfinite(lattice.grad).all()
    assert edges.reached.tolist() == [[False]]
