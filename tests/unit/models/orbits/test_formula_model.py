"""The model of formulas: its steps, its likelihood, what it draws."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from pymatgen.core import Element

from random_crystals import random_crystals
from xtalgen.models.orbits.formula_model import END, Formulas, period_and_column, steps_of
from xtalgen.structure.elements import ORDER
from xtalgen.training.batches import DeviceData
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, fit

SIZES = {"2": 5, "4": 10, "7": 5}
SMALL = {"hidden": 16, "layers": 1, "heads": 2, "dropout": 0.0, "most": 3, "histogram": SIZES}


@pytest.fixture
def formulas():
    torch.manual_seed(1)
    return Formulas(**SMALL).eval()


def counts(formula):
    """The atoms of {symbol: count}, in an order of no meaning, padded."""
    numbers = [Element(symbol).Z for symbol, count in formula.items() for _ in range(count)]
    return torch.tensor([[*numbers[::-1], 0, 0]])


def test_elements_come_by_electronegativity():
    assert sorted(ORDER) == list(range(1, 101))
    known = [Element.from_Z(z).X for z in ORDER if z not in (2, 10, 18)]
    assert known == sorted(known)
    assert set(ORDER[-3:]) == {2, 10, 18}, "those without one stand last"


def test_steps_of_a_formula():
    steps = steps_of(counts({"O": 4, "Fe": 2, "Li": 1}), most=5)
    named = [("Li", 1), ("Fe", 2), ("O", 4)]
    assert [ORDER[place] for place in steps.elements[0, :3]] == [Element(symbol).Z for symbol, _ in named]
    assert steps.counts[0].tolist() == [1, 2, 4, 0, 0]
    assert steps.left[0].tolist() == [7, 6, 4, 0, 0]
    assert steps.elements[0, 3:].tolist() == [END] * 2


def test_period_and_column():
    assert period_and_column(Element("H").Z) == (1, 1)
    assert period_and_column(Element("Li").Z) == (2, 1)
    assert period_and_column(Element("Ba").Z) == (6, 2)
    assert {period_and_column(Element(symbol).Z)[1] for symbol in ("F", "Cl", "Br", "I", "At")} == {31}
    assert {period_and_column(Element(symbol).Z)[1] for symbol in ("Ti", "Zr", "Hf")} == {18}
    assert period_and_column(Element("La").Z)[0] == period_and_column(Element("Hf").Z)[0] == 6


def chance(model, formula):
    """The probability of a formula {place: count} given its number of atoms."""
    numbers = torch.tensor([[ORDER[place] for place, count in formula.items() for _ in range(count)]])
    with torch.no_grad():
        return float(torch.exp(-sum(model.log_losses(steps_of(numbers, model.most)).values())))


def test_chances_of_all_formulas_add_up_to_one_and_are_those_drawn():
    """Every formula of four atoms of the last four elements, enumerated."""
    torch.manual_seed(3)
    model = Formulas(**{**SMALL, "most": 4, "histogram": {"4": 1}}).eval()
    with torch.no_grad():
        model.network.bias[:96] = -1e9
    places = range(96, 100)
    formulas = [
        dict(zip(chosen, counts, strict=True))
        for n in range(1, 5)
        for chosen in itertools.combinations(places, n)
        for counts in itertools.product(range(1, 5), repeat=n)
        if sum(counts) == 4
    ]
    assert len(formulas) == 35
    # The last element takes what is left: its count needs no chance, which the likelihood gives it all the same.
    whole = [formula for formula in formulas if 99 not in formula]
    drawn = Counter(tuple(sorted(found.items())) for found in model.draw(4000, 0, "cpu"))
    assert set(drawn) <= {tuple(sorted((ORDER[place], n) for place, n in formula.items())) for formula in formulas}
    for formula in whole:
        expected = chance(model, formula)
        seen = drawn[tuple(sorted((ORDER[place], n) for place, n in formula.items()))] / 4000
        assert seen == pytest.approx(expected, abs=4 * (expected / 4000) ** 0.5 + 0.003)
    assert 0.2 < sum(chance(model, formula) for formula in formulas) <= 1.0 + 1e-5


def test_formulas_are_possible_and_depend_on_seed_and_place_alone(formulas):
    drawn = formulas.draw(200, 5, "cpu")
    assert all(1 <= len(found) <= SMALL["most"] for found in drawn)
    atoms = Counter(sum(found.values()) for found in drawn)
    assert set(atoms) == {2, 4, 7}
    assert atoms[4] == pytest.approx(100, abs=35), "half of the histogram"
    assert all(count >= 1 for found in drawn for count in found.values())
    assert formulas.draw(50, 5, "cpu") == drawn[:50]
    assert formulas.draw(200, 6, "cpu") != drawn
    cold = formulas.draw(200, 5, "cpu", temperature=1e-3, count_temperature=1e-3)
    assert len({tuple(found.items()) for found in cold}) == len(SIZES)
    rigid = formulas.draw(200, 5, "cpu", temperature=1e-3)
    assert len({next(iter(found)) for found in rigid}) <= len(SIZES) < len({tuple(found.items()) for found in rigid})
    even = formulas.draw(200, 5, "cpu", count_temperature=1e-3)
    firsts = [[next(iter(found)) for found in made] for made in (drawn, even)]
    assert firsts[0] == firsts[1], "elements follow their own temperature"
    first_counts = [{(sum(found.values()), *next(iter(found.items()))) for found in made} for made in (drawn, even)]
    assert len(first_counts[1]) == len({one[:2] for one in first_counts[1]}) < len(first_counts[0]), (
        "the likeliest count of each"
    )


def test_the_past_alone_decides(formulas):
    """What comes later must not change what is known before it."""
    steps = [steps_of(counts(formula), 3) for formula in ({"Li": 1, "Fe": 2, "O": 4}, {"Li": 1, "Co": 3, "F": 3})]
    known = [formulas.network(one.elements, one.counts, one.left) for one in steps]
    torch.testing.assert_close(known[0][:, :2], known[1][:, :2])
    assert not torch.allclose(known[0][:, 2], known[1][:, 2])


def test_learns_a_rule(tmp_path):
    """Salts of one alkali metal and one halogen, as many of each: what is drawn afterwards obeys, new pairs too."""
    crystals = random_crystals(160, seed=1, sizes=(2, 4))
    rng = np.random.default_rng(0)
    for crystal in crystals:
        half = crystal.n_atoms // 2
        numbers = [rng.choice([3, 11, 19, 37])] * half + [rng.choice([9, 17, 35, 53])] * half
        object.__setattr__(crystal, "atomic_numbers", np.array(numbers, dtype=np.uint8))
    data = DeviceData(crystals, "cpu")
    torch.manual_seed(0)
    model = Formulas(**{**SMALL, "hidden": 32, "histogram": {"2": 1, "4": 1}})
    config = FitConfig(
        epochs=40, batch_size=40, learning_rate=1e-2, clip="norm", clip_at=1.0, val_every=10, ema_decay=0.9
    )
    job = Job("dng", 0, tmp_path / "work", tmp_path / "out")
    job.out.mkdir()
    fit(model, data, data, config, job)
    drawn = model.eval().draw(100, 0, "cpu")
    right = [
        len(found) == 2
        and len(set(found.values())) == 1
        and {3, 11, 19, 37} & set(found)
        and {9, 17, 35, 53} & set(found)
        for found in drawn
    ]
    assert sum(map(bool, right)) >= 95
    assert model.flop(4)[1] == 3 * model.flop(4)[0] > 0
