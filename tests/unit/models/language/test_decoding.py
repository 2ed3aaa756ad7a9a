"""Writing texts: tokens chosen as transformers chooses them, the same in every batch, constrained or not."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from tiny_language import SCRATCH
from xtalgen.models.crystal_text_llm import Asked, answer
from xtalgen.models.language.decoding import Request, Text, TextSampling, choose, write_texts
from xtalgen.models.language.language_model import new_model
from xtalgen.models.language.prompts import ask_composition, ask_crystal


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scratch():
    return new_model(asdict(SCRATCH), 0, "cpu").eval()


@pytest.fixture(scope="module")
def lively(scratch):
    """The same with large weights, so that its likeliest tokens change from place to place."""
    model = copy.deepcopy(scratch)
    with torch.no_grad():
        for weight in model.network.parameters():
            if weight.dim() == 2:
                weight.mul_(15)
    return model


# choosing tokens


def test_chances_run_through_the_distribution():
    scores = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]])).repeat(5, 1)
    chances = torch.tensor([0.0, 0.09, 0.11, 0.59, 0.61])
    assert choose(scores, chances, 1.0, 1.0).tolist() == [0, 0, 1, 2, 3]
    # Nucleus: by falling likelihood, 0.4 and 0.3 of 0.7.
    assert choose(scores, chances, 1.0, 0.7).tolist() == [3, 3, 3, 2, 2]
    assert choose(scores, chances, 1.0, 0.01).tolist() == [3] * 5
    assert choose(scores, chances, 0.0, 1.0).tolist() == [3] * 5
    assert choose(scores, chances, 1e-3, 1.0).tolist() == [3] * 5


@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("size", [50, 3000])
def test_the_nucleus_is_that_of_transformers(top_p, size):
    from transformers import TopPLogitsWarper

    scores = torch.randn(20, size, generator=torch.Generator().manual_seed(0)) * 3
    kept = TopPLogitsWarper(top_p)(None, scores.clone()) > -torch.inf
    chances = torch.rand(400, generator=torch.Generator().manual_seed(1))
    found = torch.zeros_like(kept)
    for chance in chances:
        tokens = choose(scores, chance.repeat(20), 1.0, top_p)
        found[torch.arange(20), tokens] = True
    assert not (found & ~kept).any()
    assert found.sum() > 0.15 * kept.sum().clamp(max=2000)


def test_forbidden_tokens_are_never_chosen():
    scores = torch.full((3, 2000), -torch.inf)
    scores[:, 7] = 0.0
    for chance in (0.0, 0.5, 1 - 2**-24):
        assert choose(scores, torch.full((3,), chance), 0.9, 0.9).tolist() == [7] * 3
        assert choose(scores, torch.full((3,), chance), 0.9, 1.0).tolist() == [7] * 3


def test_chances_give_the_frequencies():
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05])
    chances = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    tokens = choose(torch.log(weights).repeat(20000, 1), chances, 2.0, 1.0)
    expected = weights**0.5 / (weights**0.5).sum()
    torch.testing.assert_close(torch.bincount(tokens) / 20000, expected, atol=0.012, rtol=0)


# writing texts


def questions():
    return [
        Request(ask_crystal({}), 1),
        Request(ask_composition(np.array([26, 8, 8])), 2),
        Request(ask_crystal({"spg_num": 225, "formula": "NaCl"}), 3),
        Request(ask_crystal({}), 4),
    ]


def texts_of(model, requests, **settings):
    return [str(text) for text in write_texts(model, requests, TextSampling(max_new_tokens=90, **settings))]


@pytest.mark.parametrize("constrained", [False, True])
def test_a_text_does_not_depend_on_its_batch(lively, constrained):
    alone = [texts_of(lively, [request], constrained=constrained)[0] for request in questions()]
    assert texts_of(lively, questions(), constrained=constrained) == alone
    assert texts_of(lively, questions(), constrained=constrained, batch_size=2) == alone
    assert len(set(alone)) == 4


def test_writes_what_transformers_generates(lively):
    """Greedy: cache, padding and positions are right when the texts are equal token by token."""
    never = [token for token, piece in enumerate(lively.vocabulary.pieces) if not piece]
    for request in questions():
        given = torch.tensor([lively.vocabulary.encode(request.prompt)])
        made = lively.network.generate(
            given, max_new_tokens=70, do_sample=False, suppress_tokens=never, pad_token_id=lively.vocabulary.pad
        )
        expected = lively.vocabulary.decode(made[0, given.shape[1] :].tolist())
        assert len(set(made[0].tolist())) > 10
        assert write_freely(lively, request) == expected
        # Usually a text ends where it can no longer become a crystal.
        assert expected.startswith(texts_of(lively, [request], temperature=0.0)[0])


def write_freely(model, request):
    """Returns the greedy text without the stop at a fault, written beside a longer prompt."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "hopeless", property(lambda _: False))
        settings = TextSampling(temperature=0.0, max_new_tokens=70)
        beside = Request("A crystalline solid. " * 3 + request.prompt, 0)
        return str(write_texts(model, [request, beside], settings)[0])


def test_constrained_texts_are_crystals_of_the_asked_atoms(scratch):
    asked = np.array([53, 49, 53, 49])
    for crystal in answer(
        scratch,
        [Asked(ask_crystal({}))] * 5 + [Asked(ask_composition(asked), asked)] * 5,
        TextSampling(constrained=True, max_tries=1, max_new_tokens=100),
        0,
    ):
        assert crystal.ok
        assert crystal.info["n_tries"] == 1


def test_constrained_texts_end_within_the_limit(scratch):
    settings = TextSampling(constrained=True, max_tries=1, max_new_tokens=60, temperature=5.0, top_p=1.0)
    assert all(crystal.ok for crystal in answer(scratch, [Asked(ask_crystal({}))] * 10, settings, 0))


def test_constrained_settings_need_room_for_an_atom():
    with pytest.raises(ValueError, match="max_new_tokens must be at least 45 when constrained, not 44"):
        TextSampling(constrained=True, max_new_tokens=44)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.1}, "temperature must not be negative"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"max_tries": 0}, "max_tries must be at least 1"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        TextSampling(**values)


def test_weights_that_are_not_finite_give_failed_crystals(scratch):
    bad = copy.deepcopy(scratch)
    nn.init.constant_(bad.network.model.norm.weight, float("nan"))
    for constrained in (False, True):
        settings = TextSampling(constrained=constrained, max_tries=1, max_new_tokens=50)
        found = answer(bad, [Asked(ask_crystal({}))] * 2, settings, 0)
        assert [crystal.ok for crystal in found] == [constrained] * 2
