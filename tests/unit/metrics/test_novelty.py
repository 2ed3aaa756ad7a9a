from dataclasses import replace

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher

from crystal_cases import broken, caesium_chloride, diffcsp, library, moved, mp_20, one_atom, rock_salt, with_nan
from xtalgen.crystals import Crystal
from xtalgen.metrics import novelty
from xtalgen.metrics.novelty import Matching
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.matcher import SAME, matcher
from xtalgen.structure.pymatgen import to_structure


def judge(crystals, known=(), **options):
    return Matching(**options).compare(crystals, known)


def naive(crystals, known):
    """The definition, straight: every pair compared by pymatgen, nothing cached."""
    matcher, representatives, unique, novel = StructureMatcher(), [], [], []
    references = [to_structure(crystal) for crystal in known]
    for crystal in crystals:
        structure = to_structure(crystal)
        unique.append(not any(matcher.fit(other, structure) for other in representatives))
        novel.append(not any(matcher.fit(other, structure) for other in references))
        if unique[-1]:
            representatives.append(structure)
    return unique, novel


def noisy(crystals, seed, share):
    generator, made = np.random.default_rng(seed), []
    for index, crystal in enumerate(crystals):
        moved_coords = crystal.frac_coords + generator.normal(0, share, crystal.frac_coords.shape)
        made.append(Crystal(f"noisy-{index}", "ok", crystal.lattice, moved_coords % 1.0, crystal.atomic_numbers))
    return made


def test_first_of_its_kind_is_unique():
    salt = rock_salt("first")
    rows = [
        salt,
        rock_salt("bigger", edge=5.9),
        caesium_chloride("other"),
        rock_salt("potassium", elements=("K", "Cl")),
    ]
    found = judge(rows)
    assert [kind.unique for kind in found] == [True, False, True, True]
    assert [kind.duplicate_of for kind in found] == [None, "first", None, None]
    assert [kind.novel for kind in found] == [True] * 4


@pytest.mark.parametrize("supercell", [None, [2, 1, 1], [[1, 1, 0], [0, 1, 0], [0, 0, 2]]])
def test_moved_copies_are_duplicates(supercell):
    for seed, crystal in enumerate([rock_salt(), one_atom(), library(8)[5]]):
        copy = moved(crystal, "copy", seed=seed, supercell=supercell)
        first, second = judge([crystal, copy], [crystal])
        assert first.unique
        assert not first.novel
        assert not second.unique
        assert second.duplicate_of == crystal.id
        assert second.match_id == crystal.id


def test_rows_without_geometry_are_neither():
    found = judge([broken(), with_nan(), rock_salt()])
    assert [(kind.unique, kind.novel, kind.status) for kind in found] == [
        (False, False, "no_geometry"),
        (False, False, "no_geometry"),
        (True, True, "ok"),
    ]
    assert judge([]) == []


def test_known_crystals_may_be_broken():
    assert [kind.novel for kind in judge([rock_salt()], [broken(), with_nan(), caesium_chloride()])] == [True]


def test_verdicts_equal_pymatgen_on_the_library():
    chosen = library(8)[:50]
    crystals = [*noisy(chosen, 0, 0.01), *noisy(chosen, 1, 0.03)]
    known = chosen[::2]
    found = judge(crystals, known)
    unique, novel = naive(crystals, known)
    assert [kind.unique for kind in found] == unique
    assert [kind.novel for kind in found] == novel
    assert 0 < sum(unique) < len(crystals)
    assert 0 < sum(novel) < len(crystals)


@pytest.mark.slow
def test_verdicts_equal_pymatgen_on_samples(shared_data):
    crystals = [*diffcsp(shared_data, 60), *noisy(mp_20(shared_data, "test", 40), 0, 0.02)]
    known = mp_20(shared_data, "test", 40)
    found = judge(crystals, known)
    unique, novel = naive(crystals, known)
    assert [kind.unique for kind in found] == unique
    assert [kind.novel for kind in found] == novel


@pytest.mark.long
def test_thousand_verdicts_equal_plain_pymatgen(shared_data):
    """Pairs of real crystals of one formula, as they come, with nothing reduced beforehand."""
    crystals = {}
    for crystal in mp_20(shared_data, "test", 2500):
        crystals.setdefault(reduced_counts(crystal.atomic_numbers), []).append(crystal)
    noise = [noisy(group, 3, 0.02) for group in crystals.values()]
    pairs = [(a, b) for group, moved in zip(crystals.values(), noise, strict=True) for a in group for b in moved]
    pairs = [pair for pair in pairs if pair[0].n_atoms + pair[1].n_atoms <= 20][:1000]
    assert len(pairs) == 1000
    plain, matched = matcher(SAME), 0
    for a, b in pairs:
        known = plain.fit(to_structure(a), to_structure(b))
        assert judge([b], [a])[0].novel != known, (a.id, b.id)
        matched += known
    assert 100 < matched < 1000


def test_ten_thousand_identical_crystals_are_compared_once(monkeypatch):
    calls = []
    monkeypatch.setattr(StructureMatcher, "fit", count_calls(StructureMatcher.fit, calls))
    salt = rock_salt()
    found = judge([replace(salt, id=f"c{i}") for i in range(10_000)], [rock_salt("known")])
    assert [kind.unique for kind in found] == [True] + [False] * 9999
    assert {kind.duplicate_of for kind in found[1:]} == {"c0"}
    assert {kind.match_id for kind in found} == {"known"}
    assert len(calls) == 3  # with the known one, twice, and with the first


def test_structures_of_other_size_are_not_even_reduced(monkeypatch):
    calls = []
    monkeypatch.setattr(novelty, "reduce", count_calls(novelty.reduce, calls))
    generator, perovskite = np.random.default_rng(0), np.array([8, 8, 8, 22, 56], dtype=np.uint8)
    five = Crystal("five", "ok", 4.0 * np.eye(3), generator.random((5, 3)), perovskite)
    more = Crystal("more", "ok", 6.0 * np.eye(3), generator.random((15, 3)), np.tile(perovskite, 3))
    assert judge([more], [five])[0].novel
    assert len(calls) == 1  # five atoms never make fifteen
    assert judge([five], [more])[0].novel
    assert len(calls) == 3  # but fifteen may be five in a primitive cell
    assert judge([five], [replace(five, id="twin")])[0].match_id == "twin"


def count_calls(function, calls):
    def counted(*args, **options):
        calls.append(args)
        return function(*args, **options)

    return counted


def test_hostile_cells_have_defined_verdicts():
    number = np.array([29, 29], dtype=np.uint8)
    places = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])
    cells = {
        "huge": 1e6 * np.eye(3),
        "sparse": 1e3 * np.eye(3),
        "sheet": np.diag([40.0, 40.0, 2.5]),
        "flat": np.diag([1e-3, 1.0, 1.0]),
        "sheared": np.array([[3.0, 0, 0], [60, 3, 0], [0, 40, 3]]),
        "needle": np.diag([3.0, 3.0, 1e6]),
    }
    rows = [Crystal(name, "ok", lattice, places, number) for name, lattice in cells.items()]
    rows += [Crystal("twins", "ok", 4.0 * np.eye(3), np.zeros((2, 3)), number)]
    found = dict(zip([*cells, "twins"], judge([*rows, *rows])[: len(rows)], strict=True))
    assert found["flat"].status == "no_geometry"
    assert found["needle"].status == "degenerate"
    assert found["huge"].status == "degenerate"
    assert found["sparse"].unique
    assert found["sheet"].status == found["sheared"].status == "ok"
    assert found["twins"].unique


def test_needle_that_would_fill_the_memory_has_a_status():
    needle = np.diag([0.05, 0.05, 900.0])
    rows = [Crystal(name, "ok", needle, np.zeros((1, 3)), np.array([29], dtype=np.uint8)) for name in ("a", "b")]
    found = judge([*rows, one_atom()])
    assert [kind.status for kind in found] == ["degenerate", "degenerate", "ok"]
    assert [kind.unique for kind in found] == [False, False, True]


def test_comparison_that_takes_too_long_has_a_status():
    found = judge([rock_salt("a"), rock_salt("b")], timeout=1e-5)
    assert {kind.status for kind in found} == {"timeout"}
    assert not any(kind.unique or kind.novel for kind in found)


@pytest.mark.slow
def test_workers_change_nothing():
    crystals = [*noisy(library(4), 0, 0.02), rock_salt("a"), rock_salt("b")]
    assert judge(crystals, library(4)) == judge(crystals, library(4), workers=2)
