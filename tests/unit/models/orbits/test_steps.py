"""Crystals as steps: what is asked, what is possible, and the crystal that the answers tell."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher

from real_crystals import described
from xtalgen.crystals import Crystal
from xtalgen.models.orbits.steps import (
    GROUP,
    SITE,
    VOLUME,
    Group,
    Groups,
    Position,
    answers_of,
    build,
    crystal_of_answers,
    formula_of,
    write,
)
from xtalgen.structure.elements import ORDER
from xtalgen.structure.pymatgen import to_structure

CRYSTALS = described(60)
GROUPS = Groups.seen([crystal.info["wyckoff"] for crystal in CRYSTALS])
# In the primitive cell: two single positions of one atom, one of two, one of three atoms with a free coordinate.
SMALL = Groups(
    [
        Group(
            225,
            "",
            (
                Position("a", "0,0,0", 1),
                Position("b", "1/2,1/2,1/2", 1),
                Position("c", "1/4,1/4,1/4", 2),
                Position("e", "x,0,0", 3),
            ),
            0,
        )
    ]
)


def follow(writing, answer):
    """What the steps of a crystal asked for, and what they tell, when `answer` answers each."""
    asked, query = [], next(writing, None)
    while query is not None:
        asked.append(query)
        try:
            query = writing.send(answer(query))
        except StopIteration as end:
            return asked, end.value
    return asked, None


def replay(crystal, *, looking_ahead):
    answers = iter(answers_of(crystal.info["wyckoff"], GROUPS))
    return follow(
        write(formula_of(crystal.atomic_numbers), GROUPS, looking_ahead=looking_ahead), lambda _: next(answers)
    )


def random_answers(seed):
    rng = np.random.default_rng(seed)
    return lambda query: int(rng.choice(query.choices)) if query.kind <= SITE else float(rng.random())


def test_every_embedded_crystal_comes_back():
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    for crystal in CRYSTALS:
        _, written = replay(crystal, looking_ahead=True)
        lattice, coords, numbers = build(written, GROUPS)
        made = Crystal("made", "ok", lattice, coords, numbers.astype(np.uint8))
        found = matcher.get_rms_dist(to_structure(crystal), to_structure(made))
        assert found is not None, crystal.id
        assert found[0] < 0.01, crystal.id


def test_what_crystals_have_is_always_among_the_choices():
    for crystal in CRYSTALS:
        answers = answers_of(crystal.info["wyckoff"], GROUPS)
        for looking_ahead in (False, True):
            asked, _ = replay(crystal, looking_ahead=looking_ahead)
            chosen = [(query, answer) for query, answer in zip(asked, answers, strict=True) if query.kind <= SITE]
            assert all(answer in query.choices for query, answer in chosen)


def test_steps_come_in_order_and_know_what_is_left():
    crystal = next(c for c in CRYSTALS if len(set(c.atomic_numbers.tolist())) == 3)
    asked, written = replay(crystal, looking_ahead=False)
    assert [query.kind for query in asked] == sorted((q.kind for q in asked), key=lambda kind: min(kind, 8))
    assert asked[0].kind == GROUP
    sites = [query for query in asked if query.kind == SITE]
    counts = Counter(crystal.atomic_numbers.tolist())
    firsts = {}
    for query in sites:
        firsts.setdefault(query.element, query.left)
    assert {ORDER[element]: left for element, left in firsts.items()} == counts
    assert [query.ordinal for query in sites] == list(range(len(sites)))
    assert len(written.sites) == len(sites)
    assert sum(query.kind == VOLUME for query in asked) == 1


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_looking_ahead_always_ends_with_all_atoms(counts, seed):
    formula = tuple(enumerate(counts))
    _, written = follow(write(formula, GROUPS, looking_ahead=True), random_answers(seed))
    assert written is not None, "space group 1 takes any atoms"
    _, coords, numbers = build(written, GROUPS)
    assert Counter(numbers.tolist()) == {ORDER[element]: count for element, count in formula}
    assert coords.shape == (sum(counts), 3)
    single = [(written.group, slot) for _, slot in written.sites if not GROUPS[written.group].positions[slot].axes]
    assert len(single) == len(set(single)), "a position without free coordinates is taken once"


@pytest.mark.parametrize(
    ("counts", "possible"),
    [
        ((1,), True), ((1, 1), True), ((1, 1, 1), False), ((2,), True), ((2, 2), True), ((2, 2, 2), False),
        ((3,), True), ((3, 3, 3), True), ((6,), True), ((5, 2), True), ((5, 2, 2), False), ((4, 4), True),
        ((3, 1, 1, 2), True), ((3, 1, 1, 1), False),
    ],
)  # fmt: skip
def test_what_is_possible_is_counted_right(counts, possible):
    # 1: a or b; 2: c, or a and b; 3: e, or c and a; and so on: a, b and c once, e as often as you like.
    assert SMALL.possible(0, 0, counts[0], counts[1:], 0) == possible
    asked, written = follow(write(tuple(enumerate(counts)), SMALL, looking_ahead=True), random_answers(0))
    assert (written is not None) == possible
    assert bool(asked) == possible


def test_without_looking_ahead_only_what_excludes_itself_is_closed():
    writing = write(((0, 3), (1, 1)), SMALL, looking_ahead=False)
    next(writing)
    assert writing.send(0).choices == (0, 1, 2, 3)
    assert writing.send(1).choices == (2,), "two atoms left: neither b again, nor a, which stands before, nor e"


def test_what_the_groups_lack_is_refused():
    lacking = Groups.seen([CRYSTALS[0].info["wyckoff"]])
    other = next(c for c in CRYSTALS if c.info["wyckoff"]["spg_num"] != CRYSTALS[0].info["wyckoff"]["spg_num"])
    assert answers_of(other.info["wyckoff"], lacking) is None
    same = {**CRYSTALS[0].info["wyckoff"], "letters": "Z"}
    assert answers_of(same, lacking) is None


def test_groups_come_back_from_json():
    again = Groups.from_json(GROUPS.to_json())
    assert again.to_json() == GROUPS.to_json()
    assert again.groups == GROUPS.groups
    assert again.positions == GROUPS.positions
    assert [group.first for group in again] == np.cumsum([0, *(len(g.positions) for g in GROUPS)])[:-1].tolist()


def test_impossible_angles_make_a_flat_cell():
    crystal = next(c for c in CRYSTALS if c.info["wyckoff"]["spg_num"] <= 2)
    answers = answers_of(crystal.info["wyckoff"], GROUPS)
    first = 1 + len(crystal.info["wyckoff"]["letters"])
    answers[first + 3 : first + 6] = [0.0, 0.0, 1.0]  # 30, 30 and 150 degrees
    rest = iter(answers)
    writing = write(formula_of(crystal.atomic_numbers), GROUPS, looking_ahead=True)
    lattice, _, _ = build(follow(writing, lambda _: next(rest))[1], GROUPS)
    assert abs(np.linalg.det(lattice)) < 1e-6


def test_answers_tell_the_crystal_and_nothing_less():
    for crystal in CRYSTALS[:10]:
        formula, answers = formula_of(crystal.atomic_numbers), answers_of(crystal.info["wyckoff"], GROUPS)
        written = crystal_of_answers(formula, answers, GROUPS)
        assert [written.group, *(slot for _, slot in written.sites), *written.cell, *written.free] == answers
        with pytest.raises(ValueError, match="answers are too few for this formula"):
            crystal_of_answers(formula, answers[:-1], GROUPS)
