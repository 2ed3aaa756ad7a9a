"""Wyckoff descriptions: crystals come back from theirs, which is one for all ways of giving them."""

import csv
import gzip
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from moyopy import Cell, MoyoDataset
from pymatgen.analysis.structure_matcher import StructureMatcher
from scipy.spatial.transform import Rotation

from crystal_cases import BROKEN, NOT_DESCRIBED, SALT
from random_crystals import random_crystals
from real_crystals import crystal, embedded
from xtalgen.crystals import Crystal
from xtalgen.structure import wyckoff
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.structure.pymatgen import to_structure
from xtalgen.structure.space_group import SYMPREC, space_group
from xtalgen.structure.wyckoff_positions import ELEMENT_RANK, n_centrings, orbit_forms, parse_form, primitive_cell

POLAR = {1, 3, 4, 5, 8, 9, 31, 36, 38, 43, 44, 99, 160, 161, 186}


ALONE = random_crystals(1, seed=1, sizes=(5,))[0]  # in P1, whose origin is free


@cache
def all_described():
    """The embedded crystals, each with its description."""
    return [(given, wyckoff.describe(given)) for given in embedded(250)]


def item(given):
    return given.lattice, given.frac_coords, given.atomic_numbers


def rebuilt(described):
    """The crystal in a primitive cell given by a description."""
    free, members, numbers = iter(described["free"]), [], []
    for form, number in zip(described["forms"], described["atomic_numbers"], strict=True):
        values = np.zeros(3)
        axes = parse_form(form)[3]
        values[axes] = [next(free) for _ in axes]
        matrices, shifts = orbit_forms(described["generators"], form)
        members.append(matrices @ values + shifts)
        numbers += [number] * len(shifts)
    assert next(free, None) is None
    basis = primitive_cell(described["generators"])
    lattice = basis @ lattice_from_parameters(np.array(described["cell"][:3]), np.array(described["cell"][3:]))
    coords = np.concatenate(members) @ np.linalg.inv(basis) % 1.0
    return Crystal("rebuilt", "ok", lattice, coords, np.array(numbers, dtype=np.uint8))


def away(given, described):
    """How far the atoms of the rebuilt crystal are from a crystal's, by pymatgen: rms over the size of an atom."""
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    found = matcher.get_rms_dist(to_structure(given), to_structure(rebuilt(described)))
    return np.inf if found is None else found[0]


def test_every_embedded_crystal_comes_back():
    # The crystals of the library are symmetric to the digits that are printed; the tolerance is 0.1 Å.
    for given, described in all_described()[::3]:
        assert Counter(rebuilt(described).atomic_numbers) == Counter(given.atomic_numbers), given.id
        assert away(given, described) < 2e-3, given.id


def test_crystals_of_mp_20_come_back(shared_data):
    with gzip.open(shared_data / "mp_20" / "val.csv.gz", "rt") as file:
        rows = [row for _, row in zip(range(400), csv.DictReader(file), strict=False)][::10]
    for given in (crystal(row["material_id"], row["cif"]) for row in rows):
        described = wyckoff.describe(given)
        assert described is None or away(given, described) < 5e-3, given.id


def test_groups_and_multiplicities_are_moyos():
    for given, described in all_described():
        parts = n_centrings(described["generators"])
        found = MoyoDataset(Cell(*(part.tolist() for part in item(given))), symprec=SYMPREC)
        orbits = Counter(found.orbits)
        theirs = sorted((int(given.atomic_numbers[atom]), count * parts) for atom, count in orbits.items())
        assert described["spg_num"] == space_group(item(given)) == found.number
        assert sorted(zip(described["atomic_numbers"], described["multiplicities"], strict=True)) == theirs, given.id
        members = [len(orbit_forms(described["generators"], form)[0]) for form in described["forms"]]
        assert [count * parts for count in members] == described["multiplicities"], given.id


def test_orbits_come_by_element_then_letter_then_coordinates():
    for given, described in all_described():
        free = iter(described["free"])
        coordinates = [[round(next(free), 3) for _ in parse_form(form)[3]] for form in described["forms"]]
        ranks = [ELEMENT_RANK[number] for number in described["atomic_numbers"]]
        order = list(zip(ranks, described["letters"], coordinates, strict=True))
        assert order == sorted(order), given.id
        assert all(0.0 <= value < 1.0 for value in described["free"]), given.id


def test_rock_salt():
    described = wyckoff.describe(SALT)
    assert described["spg_num"] == 225
    assert described["cell"] == pytest.approx([5.6, 5.6, 5.6, 90.0, 90.0, 90.0])
    assert described["letters"] == "ab"
    assert described["atomic_numbers"] == [11, 17], "the less electronegative first"
    assert described["multiplicities"] == [4, 4]
    assert described["forms"] == ["0,0,0", "1/2,1/2,1/2"]
    assert described["free"] == []


def permuted(given, rng):
    order = rng.permutation(given.n_atoms)
    return replace(given, frac_coords=given.frac_coords[order], atomic_numbers=given.atomic_numbers[order])


def shifted(given, rng):
    return replace(given, frac_coords=(given.frac_coords + rng.random(3)) % 1.0)


def turned(given, rng):
    return replace(given, lattice=given.lattice @ Rotation.random(random_state=int(rng.integers(1000))).as_matrix())


def other_axes(given, rng):
    change = np.eye(3)
    for _ in range(3):
        row, column = rng.permutation(3)[:2]
        change[row] += rng.choice([-1, 1]) * change[column]
    coords = given.frac_coords @ np.linalg.inv(change) % 1.0
    return replace(given, lattice=change @ given.lattice, frac_coords=coords)


def one_of_each_group():
    """One crystal per label of a space group: all crystal systems are there, and most polar ones."""
    by_label = {given.id.split("_")[2]: (given, described) for given, described in reversed(all_described())}
    return [(ALONE, wyckoff.describe(ALONE)), *by_label.values()]


@pytest.mark.parametrize("disguise", [permuted, shifted, turned, other_axes])
def test_a_crystal_in_disguise_has_the_same_description(disguise):
    rng, seen = np.random.default_rng(0), set()
    for given, described in one_of_each_group():
        assert_same(wyckoff.describe(disguise(given, rng)), described, given.id)
        seen.add(described["spg_num"])
    assert seen >= POLAR


def assert_same(one, other, name):
    for field in ("spg_num", "generators", "atomic_numbers", "letters", "multiplicities", "forms"):
        assert one[field] == other[field], (name, field)
    assert one["cell"] == pytest.approx(other["cell"], abs=1e-3), name
    differences = np.subtract(one["free"], other["free"])
    assert np.abs(differences - differences.round()).max(initial=0.0) < 1e-3, name


@pytest.mark.parametrize("letters", ["ac", "ad", "bc", "ca", "db"])
def test_zinc_blende_is_written_alike_from_every_origin_and_seen_in_a_mirror(letters):
    """F-43m has four positions without freedom, which its normaliser exchanges."""
    places = dict(zip("abcd", (0.0, 0.5, 0.25, 0.75), strict=True))
    given = replace(SALT, frac_coords=np.array([[places[letter]] * 3 for letter in letters]))
    assert wyckoff.describe(given)["letters"] == "ac"


def test_a_chiral_crystal_is_written_as_its_mirror_image():
    for given, described in all_described():
        if described["spg_num"] in (19, 198):
            mirrored = replace(given, frac_coords=-given.frac_coords % 1.0)
            assert_same(wyckoff.describe(mirrored), described, given.id)


def distances(given):
    """All distances of atoms in Å, which pymatgen's matcher, with its fractional coordinates, does not look at."""
    return np.sort(to_structure(given).distance_matrix, axis=None)


def test_nearly_equal_axes_keep_their_lengths():
    """Where letters or coordinates ask for other axes, the cell follows: the atoms of P222 with a ≈ b."""
    given, described = next(pair for pair in all_described() if pair[0].id.startswith("ABC4_oP12_16"))
    coords = given.frac_coords[:, [1, 0, 2]]
    lattice = given.lattice[[1, 0, 2]][:, [1, 0, 2]]
    assert distances(rebuilt(described)) == pytest.approx(distances(given), abs=1e-3)
    assert_same(wyckoff.describe(replace(given, lattice=lattice, frac_coords=coords)), described, given.id)


def test_three_nearly_equal_axes_keep_their_lengths():
    """P222 allows any order of the axes, and here moyo's tolerance does too."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        description = {
            "generators": "-x,-y,z;x,-y,-z",
            "cell": [5.60, 5.63, 5.66, 90.0, 90.0, 90.0],
            "atomic_numbers": [11, 17],
            "forms": ["x,y,z"] * 2,
            "free": (0.05 + 0.15 * rng.random(6) + [0.0, 0.0, 0.0, 0.05, 0.1, 0.15]).tolist(),
        }
        given = rebuilt(description)
        described = wyckoff.describe(given)
        assert described["spg_num"] == 16
        assert distances(rebuilt(described)) == pytest.approx(distances(given), abs=1e-3)


@pytest.mark.parametrize("number", [2, 62, 225])
def test_atoms_beside_their_positions_are_no_way_of_writing(number):
    given = next(given for given, described in all_described() if described["spg_num"] == number)
    found = MoyoDataset(Cell(*(part.tolist() for part in item(given))), symprec=SYMPREC)
    cell, normaliser = found.std_cell, found.normalizer_wyckoff_positions()
    coords = np.array(cell.positions)
    standard = wyckoff.Standard(found.hall_number, np.array(cell.basis), coords, np.array(cell.numbers))
    assert list(wyckoff._settings(standard, normaliser))
    freest = np.argmax([position.multiplicity for position in normaliser.wyckoffs])
    coords = coords + 0.01 * (np.arange(len(coords)) == freest)[:, None]
    assert not list(wyckoff._settings(replace(standard, coords=coords), normaliser))


@pytest.mark.parametrize("name", NOT_DESCRIBED)
def test_what_cannot_be_described_is_null(name):
    assert wyckoff.describe(NOT_DESCRIBED[name]) is None


@pytest.mark.parametrize("given", [BROKEN, replace(SALT, status="too_close")])
def test_a_crystal_that_is_not_ok_is_null(given):
    assert wyckoff.describe(given) is None
