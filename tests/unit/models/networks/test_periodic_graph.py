"""The dense graph against pymatgen's neighbour lists; reverses; gradients; broken and extreme cells."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_crystals import random_crystals
from real_crystals import embedded, mp_20
from xtalgen.crystals import Crystal
from xtalgen.models.networks.periodic_graph import IMAGES, minimum_image, nearest_graph
from xtalgen.structure.lattice import wrap
from xtalgen.structure.pymatgen import to_structure
from xtalgen.training.batches import mask_of


def tensors(crystals, width=None):
    width = width or max(crystal.n_atoms for crystal in crystals)
    coords = torch.zeros(len(crystals), width, 3)
    for row, crystal in enumerate(crystals):
        coords[row, : crystal.n_atoms] = torch.from_numpy(crystal.frac_coords)
    lattice = torch.tensor(np.stack([crystal.lattice for crystal in crystals]), dtype=torch.float32)
    return coords, lattice, mask_of(torch.tensor([crystal.n_atoms for crystal in crystals]), width)


def edges_of(graph, row):
    """The edges of a crystal as a set (source, target, image)."""
    found = set()
    for target, slot in graph.mask[row].nonzero().tolist():
        image = tuple(int(x) for x in graph.image[row, target, slot].tolist())
        found.add((int(graph.source[row, target, slot]), target, image))
    return found


def lengths_of(graph, coords, lattice):
    """The lengths (Å) of all edges."""
    return [
        float(((coords[0, target] - coords[0, source] - torch.tensor(image)) @ lattice[0]).norm())
        for source, target, image in edges_of(graph, 0)
    ]


def brute_force(crystal, neighbours=20, cutoff=7.0):
    """CDVAE's edges by pymatgen's neighbour list, or None when a tie or a far image leaves the choice open."""
    chosen = set()
    for target, sites in enumerate(to_structure(crystal).get_all_neighbors(cutoff + 0.5)):
        near = sorted((site.nn_distance, site.index, tuple(int(x) for x in site.image)) for site in sites)
        kept = [entry for entry in near if entry[0] <= cutoff][:neighbours]
        if any(abs(entry[0] - cutoff) < 1e-4 for entry in near):
            return None
        if len(kept) < len(near) and near[len(kept)][0] - kept[-1][0] < 1e-4:
            return None
        if any(max(map(abs, image)) > 1 for _, _, image in kept):
            return None
        chosen |= {(source, target, image) for _, source, image in kept}
    kept = {(s, t, image) for s, t, image in chosen if s < t or (s == t and image < (0, 0, 0))}
    return kept | {(t, s, tuple(-x for x in image)) for s, t, image in kept}


def check_against_brute_force(crystals, least):
    """Shakes the crystals so that few distances are equal, then compares every edge."""
    rng = np.random.default_rng(0)
    shaken = [
        Crystal(c.id, "ok", c.lattice, wrap(c.frac_coords + rng.normal(0, 0.02, (c.n_atoms, 3))), c.atomic_numbers)
        for c in crystals
    ]
    graph = nearest_graph(*tensors(shaken))
    assert (graph.needed <= graph.slots).all()
    compared = 0
    for row, crystal in enumerate(shaken):
        wanted = brute_force(crystal)
        if wanted is not None:
            assert edges_of(graph, row) == wanted, crystal.id
            compared += 1
    assert compared >= least


def test_edges_equal_brute_force_on_embedded_crystals():
    check_against_brute_force([c for c in embedded(50) if c.n_atoms > 1], least=15)


def test_edges_equal_brute_force_on_mp_20(shared_data):
    check_against_brute_force(mp_20(shared_data, 60), least=25)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0, 3, 8, 40]), st.sampled_from([4, 20]))
def test_the_reverse_is_an_involution(seed, slots, neighbours):
    coords, lattice, mask = tensors(random_crystals(5, seed=seed))
    graph = nearest_graph(coords, lattice, mask, slots=slots, neighbours=neighbours)
    number = torch.arange(graph.reverse.shape[1])
    assert torch.equal(graph.reverse.gather(1, graph.reverse), number.expand_as(graph.reverse))
    present = graph.mask.flatten(1)
    assert torch.equal(present.gather(1, graph.reverse), present)
    assert (graph.reverse != number)[present].all()
    for row in range(5):
        for target, slot in graph.mask[row].nonzero().tolist():
            source, back = divmod(int(graph.reverse[row, target * graph.slots + slot]), graph.slots)
            assert (source, target) == (int(graph.source[row, target, slot]), int(graph.source[row, source, back]))
            assert torch.equal(graph.image[row, target, slot], -graph.image[row, source, back])


def test_edges_without_a_slot_are_dropped_at_both_ends_and_noticed():
    coords, lattice, mask = tensors(random_crystals(6, seed=3))
    whole, part = nearest_graph(coords, lattice, mask), nearest_graph(coords, lattice, mask, slots=5)
    assert torch.equal(whole.mask.sum(dim=2).amax(dim=1), whole.needed)
    assert torch.equal(part.needed, whole.needed)
    lost = whole.mask.sum(dim=(1, 2)) - part.mask.sum(dim=(1, 2))
    assert torch.equal(lost > 0, part.needed > 5)
    assert lost.sum() > 0
    for row in range(6):
        kept = edges_of(part, row)
        assert kept <= edges_of(whole, row)
        assert kept == {(t, s, tuple(-x for x in image)) for s, t, image in kept}


def test_padding_changes_nothing():
    crystals = random_crystals(6, seed=4)
    narrow, wide = nearest_graph(*tensors(crystals)), nearest_graph(*tensors(crystals, width=13))
    for row in range(6):
        assert edges_of(narrow, row) == edges_of(wide, row)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_shortest_image_of_27(seed):
    rng = np.random.default_rng(seed)
    lattice = random_crystals(1, seed=seed)[0].lattice
    start, end = rng.random((2, 6, 3))
    found = minimum_image(*(torch.tensor(x[None], dtype=torch.float32) for x in (start, end, lattice)))[0].numpy()
    steps = np.array([(end - start + image) @ lattice for image in IMAGES])
    wanted = np.linalg.norm(steps, axis=-1).min(axis=0)
    assert np.linalg.norm(found, axis=-1) == pytest.approx(wanted, rel=1e-4)


def test_images_are_in_lexicographic_order():
    assert list(IMAGES) == sorted(IMAGES)
    assert all(tuple(-x for x in IMAGES[r]) == IMAGES[26 - r] for r in range(27))


def test_a_cell_of_one_atom_sees_its_own_images():
    coords, lattice = torch.tensor([[[0.3, 0.4, 0.5]]]), 3.0 * torch.eye(3)[None]
    graph = nearest_graph(coords, lattice, torch.ones(1, 1, dtype=torch.bool))
    found = sorted(lengths_of(graph, coords, lattice))
    # 6 at 3 Å and, of 12 at 4.24 Å, those whose negative half was among the 20 nearest (all 12), then some of 8.
    assert found[:18] == pytest.approx([3.0] * 6 + [3.0 * 2**0.5] * 12, rel=1e-5)
    assert edges_of(graph, 0) == {(t, s, tuple(-x for x in image)) for s, t, image in edges_of(graph, 0)}


def test_an_atom_without_neighbours_has_no_edges():
    coords, lattice = torch.tensor([[[0.3, 0.4, 0.5]]]), 30.0 * torch.eye(3)[None]
    graph = nearest_graph(coords, lattice, torch.ones(1, 1, dtype=torch.bool))
    assert not graph.mask.any()
    assert graph.needed.tolist() == [0]
    assert torch.equal(graph.reverse[0], torch.arange(graph.slots))


def test_a_skewed_cell_loses_neighbours_beyond_one_image():
    # c - 3 a is short: the nearest neighbour lies three cells away, and upstream's 27 images miss it.
    lattice = torch.tensor([[[3.0, 0, 0], [0, 4.0, 0], [9.0, 0, 1.0]]])
    graph = nearest_graph(torch.zeros(1, 1, 3), lattice, torch.ones(1, 1, dtype=torch.bool))
    found = min(lengths_of(graph, torch.zeros(1, 1, 3), lattice))
    shortest = min(
        np.linalg.norm(np.array(n) @ lattice[0].numpy()) for n in itertools.product(range(-4, 5), repeat=3) if any(n)
    )
    assert shortest == pytest.approx(1.0)
    assert found == pytest.approx(3.0)


def test_geometry_that_is_not_finite_has_no_edges_and_harms_no_other_crystal():
    coords, lattice, mask = tensors(random_crystals(3, seed=5))
    clean = nearest_graph(coords, lattice, mask)
    lattice[1] = float("nan")
    broken = nearest_graph(coords, lattice, mask)
    assert edges_of(broken, 1) == set()
    assert edges_of(broken, 0) == edges_of(clean, 0)
    assert edges_of(broken, 2) == edges_of(clean, 2)


def test_atoms_in_the_same_place_do_not_see_each_other():
    coords, lattice = torch.tensor([[[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]]), 5.0 * torch.eye(3)[None]
    graph = nearest_graph(coords, lattice, torch.ones(1, 2, dtype=torch.bool))
    assert min(lengths_of(graph, coords, lattice)) == pytest.approx(5.0)
