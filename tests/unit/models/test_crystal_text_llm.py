"""The language model: adapters, sampling, resampling, infilling, bad input."""

import json
import string
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from random_crystals import random_crystals
from tiny_language import CRYSTALS, SCRATCH, data, sample, save_base, train
from xtalgen import models
from xtalgen.models import crystal_text_llm
from xtalgen.models.crystal_text_llm import Asked, CrystalTextConfig, answer, open_checkpoint
from xtalgen.models.language.base_model import BaseError, load_base
from xtalgen.models.language.decoding import TextSampling
from xtalgen.models.language.language_model import IGNORED, LanguageModel, new_model, restore
from xtalgen.models.language.likelihood import score_answers
from xtalgen.models.language.prompts import ask_composition, ask_crystal
from xtalgen.models.language.tokenizer import END, PAD, Vocabulary
from xtalgen.structure.elements import SYMBOLS
from xtalgen.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

ATOM = "H\n0.00 0.00 0.00"
HEAD = "4.0 5.0 6.0\n90 90 90\n"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def scratch():
    return new_model(asdict(SCRATCH), 0, "cpu").eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """A checkpoint of adapters on the tiny base."""
    folder = tmp_path_factory.mktemp("tuned")
    train(folder, base=base, base_precision="float32")
    return folder / "out" / "checkpoint.safetensors"


class Script(nn.Module):
    """Stands for a network: writes the given texts, one in each try, the last one for ever."""

    def __init__(self, vocabulary, texts, *, end=True):
        super().__init__()
        self.embedding = nn.Embedding(len(vocabulary), 1)
        self.texts = [[*vocabulary.encode(text), *([vocabulary.end] if end else [])] for text in texts]
        self.tries, self.step, self.calls = -1, 0, 0

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, **_):
        first = input_ids.shape[1] > 1
        self.tries, self.step = self.tries + first, 0 if first else self.step + 1
        self.calls += 1
        text = self.texts[min(self.tries, len(self.texts) - 1)]
        logits = torch.zeros(len(input_ids), 1, len(self.embedding.weight))
        logits[:, :, text[self.step % len(text)]] = 100.0
        return SimpleNamespace(logits=logits)


def characters():
    """Returns a vocabulary of single characters, which can write nonsense."""
    places = {word: place for place, word in enumerate([PAD, END, *sorted(set(string.printable))])}
    tokenizer = Tokenizer(tokenizers.models.WordLevel(places))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    return Vocabulary(tokenizer, end=1, pad=0)


def scripted(*texts, end=True):
    vocabulary = characters()
    return LanguageModel(Script(vocabulary, texts, end=end), vocabulary, "scratch", digest="", padded=False)


# texts that are no crystals


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("I am sorry", "unparsable"),
        (f"{HEAD}Xx\n0.00 0.00 0.00", "unknown_element"),
        (f"0.0 5.0 6.0\n90 90 90\n{ATOM}", "bad_lattice"),
        (f"4.0 5.0 6.0\n90 90 179\n{ATOM}", "bad_lattice"),
        ("4.0 5.0 6.0\n90 90 90", "no_atoms"),
        (HEAD + "\n".join([ATOM] * 101), "too_large"),
    ],
)
def test_rejected_texts_keep_text_status_and_tries(text, status):
    found = answer(scripted(text), [Asked(ask_crystal({}))], TextSampling(max_tries=3, max_new_tokens=10**4), 0)[0]
    assert found.status == status
    assert text.startswith(found.info["text"].rstrip("\n"))
    assert found.info["n_tries"] == 3


def test_an_endless_text_ends_at_the_limit():
    model = scripted(HEAD + ATOM + "\n" + "\n".join([ATOM] * 90) + "\n", end=False)
    found = answer(model, [Asked(ask_crystal({}))], TextSampling(max_tries=1, max_new_tokens=100), 0)[0]
    assert found.status == "endless"
    assert model.network.calls == 100
    assert found.info["text"].startswith(HEAD + ATOM)


def test_a_hopeless_text_is_given_up_early():
    model = scripted(HEAD + "Fe\nPb\n" * 100)
    found = answer(model, [Asked(ask_crystal({}))], TextSampling(max_tries=1, max_new_tokens=400), 0)[0]
    assert found.status == "unparsable"
    assert found.info["text"] == HEAD + "Fe\nPb\n"
    assert model.network.calls < 30


def test_tries_go_on_until_one_is_a_crystal():
    model = scripted("nothing", "4.0 5.0", HEAD + ATOM)
    found = answer(model, [Asked(ask_crystal({}))] * 2, TextSampling(max_tries=5), 0)
    assert [crystal.status for crystal in found] == ["ok", "ok"]
    assert [crystal.info["n_tries"] for crystal in found] == [3, 3]
    assert found[0].info["text"] == HEAD + ATOM


def test_wrong_atoms_are_told():
    asked = np.array([1, 8])
    found = answer(scripted(HEAD + ATOM), [Asked(ask_composition(asked), asked)], TextSampling(max_tries=2), 0)[0]
    assert found.status == "wrong_composition"
    assert found.atomic_numbers.tolist() == [1, 8]
    assert found.lattice is None


def test_impossible_compositions_cost_nothing(tmp_path):
    out = train(tmp_path)
    wanted = [np.array([], dtype=np.int64), np.array([6] * 101), np.array([119]), np.array([26, 8])]
    found = sample(out / "checkpoint.safetensors", wanted, constrained=True)
    assert [crystal.status for crystal in found] == ["no_atoms", "too_large", "unknown_element", "ok"]
    assert found[3].atomic_numbers.tolist() == [26, 8]


# training


def test_the_loss_is_that_of_transformers(scratch):
    batch = next(data().batches(4))
    labels = torch.where(batch.mask, batch.ids, IGNORED)
    expected = scratch.network(input_ids=batch.ids, attention_mask=batch.mask, labels=labels).loss
    found, _ = scratch.loss(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, expected)


def test_flop_are_counted(scratch, base):
    adapted = new_model(asdict(replace(SCRATCH, base=base, base_precision="float32")), 0, "cpu")
    for model in (scratch, adapted):
        model.train()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            batch = next(data(model.vocabulary).batches(4))
            with FlopCounterMode(display=False) as counter:
                loss, _ = model.loss(batch, torch.Generator().manual_seed(0))
            forward = counter.get_total_flops() / len(batch)
            with FlopCounterMode(display=False) as counter:
                loss.backward()
        whole = forward + counter.get_total_flops() / len(batch)
        expected = model.flop(batch.ids.shape[1])
        assert forward == pytest.approx(expected[0], rel=0.01)
        assert whole == pytest.approx(expected[1], rel=0.04)
        assert model.traffic(10) > 0
        model.eval()


class Killed(BaseException):
    """Stands for a kill."""


@contextmanager
def killed_while_saving(monkeypatch, nth):
    original, count = torch.save, iter(range(1, 1000))

    def save(state, path):
        original(state, path)
        if next(count) == nth:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(Killed):
            yield


def test_killed_adapters_go_on_bit_equal(base, tmp_path, monkeypatch):
    """Their dropout draws from the global generator, which no state holds."""
    settings = {"base": base, "base_precision": "float32", "save_seconds": 0.0, "lora_dropout": 0.5}
    whole = train(tmp_path / "whole", **settings)
    with killed_while_saving(monkeypatch, 3):
        train(tmp_path / "killed", **settings)
    torch.manual_seed(99)
    resumed = train(tmp_path / "killed", **settings)
    assert (whole / "checkpoint.safetensors").read_bytes() == (resumed / "checkpoint.safetensors").read_bytes()


# bases


def test_a_checkpoint_of_adapters_holds_adapters_alone(tuned, base):
    weights, facts = load_checkpoint(tuned, "cpu")
    assert {name.split(".")[-2] for name in weights if name != "pad_embedding"} == {"lora_A", "lora_B"}
    assert {name.split(".")[-3] for name in weights if name != "pad_embedding"} == {"q_proj", "v_proj"}
    assert weights["pad_embedding"].shape == (2, 16)
    assert facts["config"]["base"] == base
    assert facts["prompts"] == "1"
    assert "tokenizer" not in facts
    assert json.loads((tuned.parent / "training.json").read_text())["n_train"] == 9


def test_adapters_change_the_base_and_come_back(tuned, base):
    weights, facts = load_checkpoint(tuned, "cpu")
    assert any(weight.abs().max() > 0 for name, weight in weights.items() if "lora_B" in name)
    found = open_checkpoint(tuned, TextSampling(), "cpu")
    plain = load_base(base, "float32", "cpu").network
    ids = torch.tensor([found.vocabulary.encode(ask_crystal({}))])
    adapted = new_model({**facts["config"], "base": base}, 0, "cpu").eval()
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(adapted.network, {k: v for k, v in weights.items() if k != "pad_embedding"})
    torch.testing.assert_close(found.network(ids).logits, adapted.network(ids).logits, atol=1e-5, rtol=1e-4)
    assert (found.network(ids).logits - plain(ids).logits).abs().max() > 1e-4


def test_samples_of_adapters(tuned):
    found = sample(tuned, 3, constrained=True)
    assert all(crystal.ok for crystal in found)


def test_a_base_that_moved_is_given_anew(tuned, base, tmp_path):
    moved = tmp_path / "moved"
    Path(base).rename(moved)
    try:
        with pytest.raises(BaseError, match=r"there is no such file or folder"):
            sample(tuned, 1)
        assert len(sample(tuned, 1, base=str(moved))) == 1
    finally:
        moved.rename(base)
    with pytest.raises(BaseError, match=r"trained on another base model than .* Set `base` to the right one"):
        sample(tuned, 1, base=save_base(tmp_path / "other", seed=1, pad=None))


def test_damaged_adapters_are_refused(tuned, tmp_path):
    weights, facts = load_checkpoint(tuned, "cpu")
    weights.pop(next(name for name in weights if "lora_A" in name))
    save_checkpoint(tmp_path / "damaged.safetensors", weights, facts)
    with pytest.raises(CheckpointError, match="its adapters are not those of its configuration"):
        sample(tmp_path / "damaged.safetensors", 1)


def test_prompts_of_another_version_are_refused(tuned, monkeypatch):
    monkeypatch.setattr(crystal_text_llm, "VERSION", "2")
    with pytest.raises(ValueError, match=r"prompts of version '1', not '2'\. Train again"):
        sample(tuned, 1)


# its own tasks


def test_scores_of_answers_are_those_of_whole_texts(scratch):
    question = ask_crystal({})
    answers = ["N", "Na", "Fe\n0.25"]
    found = score_answers(scratch, question, answers)
    asked = len(scratch.vocabulary.encode(question))
    for score, text in zip(found.tolist(), answers, strict=True):
        ids = torch.tensor([[*scratch.vocabulary.encode(question + text), scratch.vocabulary.end]])
        with torch.no_grad():
            scores = scratch.network(ids).logits.log_softmax(-1)[0, asked - 1 : -1]
        assert score == pytest.approx(scores.gather(-1, ids[0, asked:, None]).sum().item(), abs=1e-4)


def test_infilling_chooses_among_the_candidates(tuned):
    def infill(crystals, **settings):
        return list(models.load("crystal_text_llm").infill(tuned, crystals, TextSampling(**settings), 0, "cpu"))

    broken = replace(CRYSTALS[0], status="unparsable", lattice=None)
    found = infill([*CRYSTALS[:4], broken])
    for crystal in found[:4]:
        assert crystal.info["hidden"] in {SYMBOLS[number - 1] for number in crystal.atomic_numbers}
        assert 1 <= crystal.info["rank"] <= 104
        assert len(crystal.info["guesses"].split()) == 5
    assert found[4].info == {"hidden": None, "rank": None, "guesses": None}
    few = infill(CRYSTALS[:4], candidates=("O", found[0].info["hidden"]))
    assert {*few[0].info["guesses"].split()} == {"O", found[0].info["hidden"]}
    assert few[0].info["rank"] in (1, 2)
    assert [crystal.info["hidden"] for crystal in few] == [crystal.info["hidden"] for crystal in found[:4]]
    assert infill(CRYSTALS[:1], candidates=("Rf",))[0].info["rank"] is None
    with pytest.raises(ValueError, match="'Xx' is not an element"):
        infill(CRYSTALS, candidates=("O", "Xx"))


def test_conditions_fix_the_atoms_where_they_can(tuned):
    settings = TextSampling(constrained=True, max_tries=1, max_new_tokens=100)

    def generate(*asked):
        return list(models.load("crystal_text_llm").sample(tuned, asked, settings, 0, "cpu"))

    found = generate({"formula": "NaCl", "n_atoms": 4, "spg_num": 225}, {"band_gap": 1.5})
    assert sorted(found[0].atomic_numbers.tolist()) == [11, 11, 17, 17]
    assert found[1].ok
    assert generate() == []
    with pytest.raises(ValueError, match="3 atoms are not a whole number of NaCl"):
        generate({"formula": "NaCl", "n_atoms": 3})
    with pytest.raises(ValueError, match="no attribute 'colour'"):
        generate({"colour": "red"})


def test_wrong_configurations_are_named():
    with pytest.raises(ValueError, match="composition must lie between 0 and 1, not 2"):
        CrystalTextConfig(composition=2.0)
    with pytest.raises(ValueError, match="hidden must be a multiple of twice heads, not 30 with 4 heads"):
        CrystalTextConfig(hidden=30, heads=4)
    built = models.build(CrystalTextConfig, {"lora_targets": ["q_proj"], "learning_rate": "1e-4"}, "here")
    assert built.lora_targets == ("q_proj",)
    assert CrystalTextConfig().base == "meta-llama/Llama-2-7b-hf"


def test_restoring_does_not_touch_the_global_generator(tmp_path):
    weights, facts = load_checkpoint(train(tmp_path) / "checkpoint.safetensors", "cpu")
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    restore(tmp_path, weights, facts, "cpu")
    assert torch.rand(1) == expected


@pytest.mark.slow
def test_learns_to_write_crystals(tmp_path):
    """A small network learns the form of the text in seconds: most texts parse without help."""
    crystals = random_crystals(60, seed=1, sizes=(1, 2))
    out = train(tmp_path, crystals, hidden=64, layers=2, heads=4, epochs=60, batch_size=10, learning_rate=5e-3,
                val_every=60, infilling=0.0, composition=0.5)  # fmt: skip
    found = sample(out / "checkpoint.safetensors", 40, temperature=0.7)
    assert sum(crystal.ok for crystal in found) >= 20
