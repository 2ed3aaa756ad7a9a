"""Drawing crystals from the network of orbits."""

from collections import Counter

import numpy as np
import pytest
import torch

from real_crystals import described
from xtalgen.models.orbits.analogues import FLOOR, Retrieved
from xtalgen.models.orbits.network import BINS, Orbits, TokenBuffer
from xtalgen.models.orbits.sampling import TRUST, _Numbers, _pick, _Row, draw
from xtalgen.models.orbits.steps import GROUP, SITE, Group, Groups, Position, answers_of, build, formula_of, write
from xtalgen.structure.elements import ORDER

CRYSTALS = described(40)
GROUPS = Groups.seen([crystal.info["wyckoff"] for crystal in CRYSTALS])
FORMULAS = [formula_of(crystal.atomic_numbers) for crystal in CRYSTALS[:8]]


@pytest.fixture(scope="module")
def orbits():
    torch.manual_seed(1)
    return Orbits(GROUPS, hidden=16, layers=2, heads=2, dropout=0.0).eval()


def drawn(orbits, formulas=FORMULAS, places=range(8), *, seed=0, temperature=1.0, candidates=1, **analogues):
    return draw(
        orbits, formulas, places, seed=seed, device="cpu", temperature=temperature, candidates=candidates, **analogues
    )


def choices_of(written):
    return (written.group, *(slot for _, slot in written.sites))


def choices_and_numbers(crystal):
    """The choices and the numbers of a crystal."""
    answers, n = answers_of(crystal.info["wyckoff"], GROUPS), 1 + len(crystal.info["wyckoff"]["letters"])
    return tuple(answers[:n]), tuple(answers[n:])


def likelihood(orbits, written, formula):
    """The log-likelihood of a crystal's symmetry, by drawing it again with every other choice closed."""
    wanted = iter([written.group, *(slot for _, slot in written.sites)])
    known = torch.tensor(0.0)
    buffer, writing = TokenBuffer([formula], 60), write(formula, orbits.groups, looking_ahead=True)
    query, step = next(writing), 0
    while query.kind <= SITE:
        buffer.ask(0, step, query)
        steps = buffer.steps([0], step + 1, "cpu")
        hidden = orbits.network(steps)[:, -1]
        scores = (
            orbits.network.group_scores(hidden)
            if query.kind == GROUP
            else orbits.network.site_scores(hidden, steps.group[:, -1])
        )
        choice = next(wanted)
        known = known + scores[0, list(query.choices)].log_softmax(-1)[query.choices.index(choice)]
        buffer.answer(0, step, query, choice)
        query, step = writing.send(choice), step + 1
    return float(known)


def test_every_formula_gets_its_atoms(orbits):
    for temperature in (0.0, 1.0):
        for formula, written in zip(FORMULAS, drawn(orbits, temperature=temperature), strict=True):
            _, _, numbers = build(written, GROUPS)
            assert Counter(numbers.tolist()) == {ORDER[element]: count for element, count in formula}


def test_what_is_drawn_depends_on_seed_and_place_alone(orbits):
    together = drawn(orbits)
    for place in (1, 5):
        (alone,) = drawn(orbits, FORMULAS[place : place + 1], [place])
        assert alone.sites == together[place].sites
        assert alone.free == pytest.approx(together[place].free, abs=1e-4)
    assert drawn(orbits, seed=1) != together
    assert drawn(orbits, seed=1, temperature=0.0) == drawn(orbits, temperature=0.0)


def test_the_likeliest_of_several_symmetries_is_taken(orbits):
    one, many = drawn(orbits), drawn(orbits, candidates=12)
    scores = [
        [likelihood(orbits, written, formula) for written, formula in zip(made, FORMULAS, strict=True)]
        for made in (one, many)
    ]
    assert all(more >= less - 1e-5 for less, more in zip(*scores, strict=True))
    assert sum(scores[1]) > sum(scores[0]) + 1.0


def test_an_analogue_is_followed_where_the_network_knows_nothing(orbits):
    for crystal, formula in zip(CRYSTALS[:8], FORMULAS, strict=True):
        choices, numbers = choices_and_numbers(crystal)
        known = Retrieved([choices], [numbers], np.ones(1))
        (written,) = drawn(
            orbits, [formula], [0], temperature=0.0, retrieve=lambda _, known=known: known, n_analogues=4
        )
        assert choices_of(written) == choices
        # The untrained network's numbers hardly matter beside an analogue's, which are blurred by a bin.
        assert [*written.cell, *written.free] == pytest.approx([*numbers], abs=1.5 / BINS) or any(
            number < 0.02 or number > 0.98 for number in numbers
        )
        assert drawn(orbits, [formula], [0], temperature=0.0, retrieve=lambda _, known=known: known) == drawn(
            orbits, [formula], [0], temperature=0.0
        ), "none are asked for"


def test_network_and_analogues_decide_together(orbits):
    formula, crystal = FORMULAS[0], CRYSTALS[0]
    choices, numbers = choices_and_numbers(crystal)
    alone = choices_of(drawn(orbits, [formula], [0], temperature=0.0, candidates=1)[0])
    assert alone != choices
    scores = [
        likelihood(orbits, made, formula)
        for made in (
            drawn(orbits, [formula], [0], temperature=0.0)[0],
            drawn(
                orbits,
                [formula],
                [0],
                temperature=0.0,
                retrieve=lambda _: Retrieved([choices], [numbers], np.ones(1)),
                n_analogues=1,
            )[0],
        )
    ]
    # The network prefers its own by so much; a chance just above or below that decides.
    tie = FLOOR * np.exp(TRUST * (scores[0] - scores[1])) - FLOOR
    assert 0 < tie < 0.9, "otherwise this formula proves nothing"
    for chance, expected in ((1.1 * tie, choices), (0.9 * tie, alone)):
        known = Retrieved([choices], [numbers], np.array([chance]))
        (written,) = drawn(
            orbits, [formula], [0], temperature=0.0, retrieve=lambda _, known=known: known, n_analogues=1
        )
        assert choices_of(written) == expected


def test_analogues_that_agree_with_the_answers_gain_weight():
    known = Retrieved([(0, 1)] * 3, [(0.2, 0.9), (0.2, 0.1), (0.6, 0.5)], np.array([0.5, 0.3, 0.2]))
    row = _Row(0, 0, (query for query in ()), None, answers=[0, 1])
    numbers = _Numbers([row], [known], "cpu")
    circular = torch.tensor([False])
    first = numbers.scores([row], circular)[0]
    assert first.argmax() == round(0.2 * (BINS - 1))
    numbers.follow([row], torch.tensor([0.6], dtype=torch.float64), circular)
    row.answers.append(0.6)
    second = numbers.scores([row], circular)[0]
    assert second.argmax().item() in {47, 48}, "the third is the only one that began so"
    stranger = _Row(1, 1, (query for query in ()), None, answers=[5])
    both = _Numbers([_Row(0, 0, (query for query in ()), None, answers=[0, 1]), stranger], [known, known], "cpu")
    assert both.scores([stranger], circular).isnan().all(), "no analogue has its symmetry"


def test_circular_numbers_of_analogues_meet_at_zero():
    known = Retrieved([(0, 1)], [(0.999,)], np.ones(1))
    row = _Row(0, 0, (query for query in ()), None, answers=[0, 1])
    scores = _Numbers([row], [known], "cpu").scores([row], torch.tensor([True]))[0]
    assert scores.argmax() == 0
    assert scores[1] == pytest.approx(scores[BINS - 1].item(), abs=0.5)
    assert scores[1] > scores[BINS // 2] + 3


def test_atoms_that_fit_no_group_give_nothing():
    groups = Groups([Group(221, "", (Position("a", "0,0,0", 1),), 0)])
    lonely = Orbits(groups, hidden=16, layers=1, heads=2, dropout=0.0).eval()
    first, second = drawn(lonely, [((3, 2),), ((3, 1),)], range(2))
    assert first is None
    assert second.sites == ((3, 0),)


def test_choices_follow_their_chances():
    scores = torch.log(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)).expand(5, 3)
    chances = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71], dtype=torch.float64)
    ones = torch.ones(5, dtype=torch.float64)
    assert _pick(scores, chances, ones).tolist() == [0, 0, 1, 1, 2]
    assert _pick(scores, chances, 0 * ones).tolist() == [1] * 5
    # Half as warm, chances are squared: 0.105, 0.658 and 0.237.
    assert _pick(scores, chances, 0.5 * ones).tolist() == [0, 1, 1, 1, 1]
    assert _pick(scores, chances + 0.06, 0.5 * ones).tolist() == [0, 1, 1, 1, 2]
