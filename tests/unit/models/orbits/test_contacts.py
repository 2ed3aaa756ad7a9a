"""Distances that pairs of elements keep, and atoms that are moved apart where they are nearer."""

from dataclasses import replace

import numpy as np
import pytest

from real_crystals import described
from xtalgen.crystals import Crystal
from xtalgen.models.orbits.contacts import TOO_NEAR, _shortest, move_apart, pair_distances
from xtalgen.models.orbits.steps import Groups, WyckoffCrystal, answers_of, build
from xtalgen.structure.wyckoff_positions import ELEMENT_RANK

SALT = Crystal("salt", "ok", 2.82 * (1.0 - np.eye(3)), np.array([[0.0] * 3, [0.5] * 3]), np.array([11, 17], np.uint8))
CRYSTALS = described(60)
GROUPS = Groups.seen([crystal.info["wyckoff"] for crystal in CRYSTALS])
DISTANCES = pair_distances(CRYSTALS)


def written(crystal):
    """What the steps of a crystal tell."""
    answers = answers_of(crystal.info["wyckoff"], GROUPS)
    n, n_cell = len(crystal.info["wyckoff"]["letters"]), len(GROUPS[answers[0]].cell_kinds)
    elements = [ELEMENT_RANK[number] for number in crystal.info["wyckoff"]["atomic_numbers"]]
    sites = tuple(zip(elements, answers[1 : 1 + n], strict=True))
    return WyckoffCrystal(answers[0], sites, tuple(answers[1 + n : 1 + n + n_cell]), tuple(answers[1 + n + n_cell :]))


def nearest(one):
    """The shortest distance over what the pair keeps."""
    lattice, coords, numbers = build(one, GROUPS)
    apart = _shortest(Crystal("", "ok", lattice, coords, numbers.astype(np.uint8)))
    return (apart / DISTANCES[np.ix_(numbers, numbers)]).min()


def clashing(n=4):
    """Crystals with free coordinates, two of whose orbits are put on the same place."""
    found = []
    for crystal in CRYSTALS:
        one = written(crystal)
        group = GROUPS[one.group]
        axes = [len(group.positions[slot].axes) for _, slot in one.sites]
        if axes[-2:] == [3, 3]:
            found.append(replace(one, free=(*one.free[:-3], *one.free[-6:-3])))
    return found[:n]


def test_distances_of_salt():
    table = pair_distances([SALT])
    assert table[11, 17] == table[17, 11] == pytest.approx(2.82)
    assert table[11, 11] == table[17, 17] == pytest.approx(2.82 * 2**0.5)
    assert table[3, 17] == table[3, 3] == 0.0, "lithium is unknown"
    other = replace(SALT, atomic_numbers=np.array([3, 9], np.uint8), lattice=2.0 * (1.0 - np.eye(3)))
    table = pair_distances([SALT, other])
    assert table[3, 17] == pytest.approx((2.0 + 2.82) / 2), "an unseen pair keeps the mean of both elements' shortest"


def test_a_few_odd_crystals_do_not_count():
    squeezed = replace(SALT, lattice=0.3 * SALT.lattice)
    assert pair_distances([SALT] * 600 + [squeezed])[11, 17] == pytest.approx(2.82)


def test_crystals_of_the_training_set_stay_as_they_are():
    given = [written(crystal) for crystal in CRYSTALS]
    moved = move_apart(given, GROUPS, DISTANCES, 50)
    assert all(one is other for one, other in zip(given, moved, strict=True))


def test_atoms_on_the_same_place_are_moved_apart():
    given = clashing()
    assert len(given) >= 3
    assert max(nearest(one) for one in given) < 0.1
    moved = move_apart(given, GROUPS, DISTANCES, 200)
    for before, after in zip(given, moved, strict=True):
        assert nearest(after) > TOO_NEAR - 1e-6
        assert (after.group, after.sites, after.cell) == (before.group, before.sites, before.cell)
        assert all(0 <= value < 1 for value in after.free)
        assert after.swelling < 0.7


def test_a_cell_without_freedom_swells():
    one = next(w for w in map(written, CRYSTALS) if not w.free and len(w.sites) > 1)
    small = replace(one, swelling=-2.0)
    (moved,) = move_apart([small], GROUPS, DISTANCES, 400)
    assert nearest(small) < TOO_NEAR - 0.05
    assert nearest(moved) > nearest(small)
    assert moved.swelling > small.swelling


def test_what_comes_of_a_crystal_does_not_depend_on_others():
    given = clashing()
    together = move_apart(given, GROUPS, DISTANCES, 40)
    for one, expected in zip(given, together, strict=True):
        (alone,) = move_apart([one], GROUPS, DISTANCES, 40)
        assert alone.free == pytest.approx(expected.free, abs=1e-9)
        assert alone.swelling == pytest.approx(expected.swelling, abs=1e-9)


def test_nothing_to_do_gives_back_what_was_given():
    given = clashing()
    assert move_apart([], GROUPS, DISTANCES, 10) == []
    assert move_apart(given, GROUPS, DISTANCES, 0) == given
    assert move_apart(given, GROUPS, np.zeros_like(DISTANCES), 10) == given, "no element is known"
