import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher

from crystal_cases import broken, caesium_chloride, diffcsp, library, moved, mp_20, one_atom, rock_salt, with_nan
from xtalgen.crystals import Crystal
from xtalgen.metrics.uniqueness import unique_and_novel
from xtalgen.structures import to_structure


def judge(crystals, known=(), **options):
    return unique_and_novel(crystals, known, **({"workers": 1, "timeout": 60.0} | options))


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
