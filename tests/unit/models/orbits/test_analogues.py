"""Training crystals with as many atoms of each element, and the distances of elements learnt from them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from real_crystals import described
from xtalgen.models.orbits.analogues import (
    FLOOR,
    AnalogueBatch,
    AnalogueData,
    Analogues,
    Memory,
    Retrieved,
    counts_of,
    load_analogues,
)
from xtalgen.models.orbits.dataset import OrbitData
from xtalgen.models.orbits.steps import Groups, answers_of, formula_of
from xtalgen.structure.elements import ORDER
from xtalgen.training.batches import Split
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, fit

CRYSTALS = described(80)
GROUPS = Groups.seen([crystal.info["wyckoff"] for crystal in CRYSTALS])
MEMORY = Memory.of(CRYSTALS, GROUPS)


def made(memory=MEMORY, seed=0):
    torch.manual_seed(seed)
    return Analogues(memory.arrays())


def of(elements, choices):
    """A memory of crystals AB with these elements and choices, and one number each."""
    formulas = [tuple((ORDER.index(z), 1) for z in pair) for pair in elements]
    return Memory(formulas, choices, [(0.1 * place,) for place in range(len(elements))])


def batch_of(memory, own):
    """All crystals of a memory, asked for as themselves or as strangers."""
    symmetries = memory.symmetries()
    arrays = memory.arrays()
    places = torch.arange(len(memory.choices))
    return AnalogueBatch(
        arrays["elements"].long(),
        arrays["counts"].long(),
        torch.tensor([symmetries[choices] for choices in memory.choices]),
        places if own else torch.full_like(places, -1),
    )


def test_what_is_remembered_are_the_answers_of_the_steps():
    again = Memory.from_arrays(MEMORY.arrays())
    assert again.formulas == MEMORY.formulas == [formula_of(crystal.atomic_numbers) for crystal in CRYSTALS]
    for crystal, choices, numbers in zip(CRYSTALS, again.choices, again.numbers, strict=True):
        answers = answers_of(crystal.info["wyckoff"], GROUPS)
        assert [*choices, *numbers] == pytest.approx(answers, abs=1e-6)
        assert len(choices) == 1 + len(crystal.info["wyckoff"]["letters"])


def test_positions_that_the_groups_lack_are_named():
    few = Groups.seen([CRYSTALS[0].info["wyckoff"]])
    unknown = next(c for c in CRYSTALS if answers_of(c.info["wyckoff"], few) is None)
    with pytest.raises(ValueError, match=f"{unknown.id}: one of its Wyckoff positions"):
        Memory.of([CRYSTALS[0], unknown], few)


def test_every_epoch_has_every_crystal_once_and_keeps_equal_counts_together():
    data = AnalogueData(CRYSTALS, GROUPS, MEMORY, "cpu", within=True)
    first, again, other = (list(data.epoch(16, (0, epoch))) for epoch in (0, 0, 1))
    owns = [torch.cat([batch.own for batch in batches]).tolist() for batches in (first, again, other)]
    assert sorted(owns[0]) == list(range(len(CRYSTALS))) == sorted(owns[2])
    assert owns[0] == owns[1] != owns[2]
    assert [len(batch) for batch in first] == [end - begin for begin, end in data.plan(16)]
    assert torch.cat([batch.own for batch in data.epoch(16, (0, 0), skip=2)]).tolist() == owns[0][32:]
    kinds = [counts_of(MEMORY.formulas[place]) for place in owns[0]]
    assert sum(a != b for a, b in pairwise(kinds)) == len(set(kinds)) - 1
    assert data.digest == AnalogueData(CRYSTALS, GROUPS, MEMORY, "cpu", within=True).digest
    assert data.digest != AnalogueData(CRYSTALS, GROUPS, MEMORY, "cpu", within=False).digest
    assert data.digest != AnalogueData(CRYSTALS[1:], GROUPS, MEMORY, "cpu", within=True).digest


def test_a_crystal_is_no_analogue_of_itself():
    memory = of([(11, 17), (19, 17), (3, 9)], [(0, 1), (0, 1), (2, 3)])
    module = made(memory)
    generator = torch.Generator()
    with torch.no_grad():
        alone = module._chances(batch_of(memory, own=True))
        seen = module._chances(batch_of(memory, own=False))
    assert alone[2] == 0, "no other crystal has its symmetry"
    assert 0 < alone[0] < 1
    assert (seen > alone).all()
    wanted = -np.log((1 - FLOOR) * alone.numpy() + FLOOR).mean()
    with torch.no_grad():
        assert float(module.loss(batch_of(memory, own=True), generator)[0]) == pytest.approx(float(wanted), rel=1e-5)


def test_crystals_without_company_have_no_chance_and_no_bad_gradient():
    memory = of([(11, 17)], [(0, 1)])
    module = made(memory)
    loss, _ = module.loss(batch_of(memory, own=True), torch.Generator())
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(FLOOR))
    assert all(torch.isfinite(weight.grad).all() for weight in module.parameters() if weight.grad is not None)
    batch = batch_of(memory, own=False)
    strange = AnalogueBatch(batch.elements, 2 * batch.counts, batch.symmetry, batch.own)
    assert float(module._chances(strange)) == 0, "nothing in memory has these counts"


def test_loss_of_a_batch_is_that_of_its_crystals():
    module, batch = made(), batch_of(MEMORY, own=True)
    with torch.no_grad():
        whole = module.loss(batch, torch.Generator())[0]
        single = [module.loss(batch.take(torch.tensor([row])), torch.Generator())[0] for row in range(len(batch))]
    assert float(whole) == pytest.approx(float(torch.stack(single).mean()), rel=1e-5)


def test_alike_elements_come_to_have_alike_structures(tmp_path):
    # Alkali metals with chlorine and bromine have one symmetry, with copper and silver another; gold is asked for.
    pairs = [(metal, halogen) for metal in (3, 11, 19, 37, 29, 47) for halogen in (17, 35)]
    memory = of(pairs, [(0, 1) if metal not in {29, 47} else (2, 3) for metal, _ in pairs])
    data = AnalogueData(CRYSTALS[: len(pairs)], GROUPS, MEMORY, "cpu", within=True)
    data.all, data.lengths, data.kinds = batch_of(memory, own=True), np.full(len(pairs), 2), [np.arange(len(pairs))]
    module = made(memory)
    config = FitConfig(epochs=30, batch_size=12, learning_rate=0.05, clip="norm", clip_at=1.0, ema_decay=0.9)
    asked = tuple((ORDER.index(z), 1) for z in (79, 17))
    before = module.retriever()(asked).symmetries()[2, 3]
    fit(module, data, data, config, Job("shared", 0, tmp_path / "work", tmp_path))
    after = module.retriever()(asked).symmetries()[2, 3]
    assert after > 0.9 > before
    assert [*module.retriever()(asked).symmetries()] == [(2, 3), (0, 1)]


def test_the_likeliest_come_first_with_their_numbers():
    module = made()
    formula = MEMORY.formulas[5]
    found = module.retriever()(formula)
    assert found.weights.sum() == pytest.approx(1.0)
    assert (np.diff(found.weights) <= 0).all()
    assert len(found.choices) == sum(counts_of(one) == counts_of(formula) for one in MEMORY.formulas)
    assert sum(found.symmetries().values()) == pytest.approx(1.0)
    numbers, weights = found.numbers_of(MEMORY.choices[5])
    assert any(each == pytest.approx(MEMORY.numbers[5]) for each in numbers)
    assert weights.sum() == pytest.approx(found.symmetries()[MEMORY.choices[5]])
    assert module.retriever()(((0, 97),)) is None


def test_equal_symmetries_add_up():
    found = Retrieved([(0, 1), (2, 3), (2, 3)], [(0.1,), (0.2,), (0.3,)], np.array([0.4, 0.35, 0.25]))
    assert found.symmetries() == pytest.approx({(2, 3): 0.6, (0, 1): 0.4})
    assert [*found.symmetries()] == [(2, 3), (0, 1)]
    numbers, weights = found.numbers_of((2, 3))
    assert numbers == [(0.2,), (0.3,)]
    assert weights.tolist() == [0.35, 0.25]


def test_an_empty_one_takes_the_weights_of_another():
    module = made()
    other = Analogues.empty(module.sizes())
    other.load_state_dict(module.state_dict())
    formula = MEMORY.formulas[0]
    assert np.array_equal(other.retriever()(formula).weights, module.retriever()(formula).weights)


def test_a_split_remembers_its_training_crystals():
    data = [OrbitData(part, GROUPS, "cpu") for part in (CRYSTALS[:60], CRYSTALS[60:])]
    train, val = load_analogues(Split(*data, {}), GROUPS)
    assert train.all.own.tolist() == list(range(60))
    assert set(val.all.own.tolist()) == {-1}
    known = Memory.of(CRYSTALS[:60], GROUPS).symmetries()
    assert val.all.symmetry.tolist() == [known.get(choices, -1) for choices in MEMORY.choices[60:]]
    assert len(val) == len(CRYSTALS) - 60


def test_products_are_counted():
    forward, both = made().flop(3)
    others = np.mean([sum(counts_of(a) == counts_of(b) for b in MEMORY.formulas) for a in MEMORY.formulas])
    assert both == 3 * forward
    assert forward == pytest.approx(9 * others, abs=9)
    assert made().traffic(3) > 0
