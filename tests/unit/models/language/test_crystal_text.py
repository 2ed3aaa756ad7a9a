"""Texts of crystals, their grammar, the prompts, and the traps of the published code."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from random_crystals import random_crystals
from xtalgen.crystals import Crystal
from xtalgen.models.language import prompts
from xtalgen.models.language.crystal_text import MASK, TextError, read_crystal_text, unwritable, write_crystal
from xtalgen.models.language.grammar import ALL_SYMBOLS, LONGEST_ATOM, TokenMasks, start
from xtalgen.models.language.tokenizer import UNKNOWN, own_vocabulary, read_vocabulary
from xtalgen.structure.composition import formula, read_formula
from xtalgen.structure.elements import SYMBOLS
from xtalgen.structure.lattice import lattice_from_parameters, lattice_to_parameters

ROCK_SALT = "3.9 3.9 3.9\n60 60 60\nNa\n0.00 0.00 0.00\nCl\n0.50 0.50 0.50"
CHARACTERS = ["", *"0123456789. \n", *sorted({letter for symbol in SYMBOLS for letter in symbol})]


def crystal(lengths=(4.0, 5.0, 6.0), angles=(90.0, 90.0, 90.0), numbers=(26, 8), coords=None):
    coords = np.zeros((len(numbers), 3)) if coords is None else np.array(coords)
    lattice = lattice_from_parameters(np.array(lengths), np.array(angles))
    return Crystal("x", "ok", lattice, coords, np.array(numbers, dtype=np.uint8))


def test_a_known_text():
    made = crystal((3.94, 3.949, 3.951), (60.9, 60.0, 90.0), (11, 17), [[0, 0.004, 0.996], [0.5, 0.25, 0.333]])
    assert write_crystal(made) == "3.9 3.9 4.0\n60 60 90\nNa\n0.00 0.00 0.00\nCl\n0.50 0.25 0.33"


def test_right_angles_stay_right():
    """Plain truncation of 89.99999999999999 would write 89."""
    angles = lattice_to_parameters(crystal().lattice)[1]
    assert (angles <= 90.0).all()
    for angle in (60.0, 90.0, 120.0):
        for error in (-1e-10, 0.0, 1e-10):
            text = write_crystal(crystal(angles=(angle if angle != 120.0 else 90.0, 90.0, angle + error)))
            assert text.split("\n")[1].split()[2] == str(int(angle))


def test_a_text_reads_back():
    found = read_crystal_text(ROCK_SALT)
    assert found.ok
    assert found.atomic_numbers.tolist() == [11, 17]
    np.testing.assert_allclose(found.frac_coords, [[0, 0, 0], [0.5, 0.5, 0.5]])
    lengths, angles = lattice_to_parameters(found.lattice)
    np.testing.assert_allclose(lengths, 3.9)
    np.testing.assert_allclose(angles, 60.0)
    assert found.info["text"] == ROCK_SALT


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.tuples(*[st.floats(0, 1)] * 3))
def test_round_trip_within_the_precision_of_the_text(seed, shift):
    made = random_crystals(1, seed=seed, sizes=(1, 2, 7, 20))[0]
    text = write_crystal(made, np.array(shift))
    found = read_crystal_text(text)
    assert found.ok
    assert write_crystal(found) == text
    assert found.atomic_numbers.tolist() == made.atomic_numbers.tolist()
    apart = found.frac_coords - made.frac_coords - shift
    assert np.abs(apart - np.rint(apart)).max() <= 0.005 + 1e-9
    (lengths, angles), (old_lengths, old_angles) = map(lattice_to_parameters, (found.lattice, made.lattice))
    assert np.abs(lengths - old_lengths).max() <= 0.05 + 1e-9
    assert (angles <= old_angles + 0.002).all()
    assert (angles > old_angles - 1.002).all()


HEAD = "4.0 5.0 6.0\n90 90 90\n"
REJECTED = [
    ("", "unparsable"),
    ("no crystal at all", "unparsable"),
    ("4.0 5.0\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("4.00 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("4 5 6\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("nan 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("04.0 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("4.0 5.0 6.0\n090 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("-4.0 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("4.0  5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("٤.0 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    ("4.0 5.0 6.0\n90.0 90 90\nH\n0.00 0.00 0.00", "unparsable"),
    (HEAD + "H", "unparsable"),
    (HEAD + "H\n", "unparsable"),
    (HEAD + "H\n0.00 0.00", "unparsable"),
    (HEAD + "H\n0.00 0.00 1.00", "unparsable"),
    (HEAD + "H\n0.00 0.00 0.000", "unparsable"),
    (HEAD + "H\n0.00 0.00 0.00\n", "unparsable"),
    (HEAD + "H\n0.00 0.00 0.00\n\n", "unparsable"),
    (HEAD + "H 0.00 0.00 0.00", "unparsable"),
    (HEAD + "hydrogen\n0.00 0.00 0.00", "unparsable"),
    ("0.0 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "bad_lattice"),
    ("100.0 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "bad_lattice"),
    ("99999999999999999999.0 5.0 6.0\n90 90 90\nH\n0.00 0.00 0.00", "bad_lattice"),
    ("4.0 5.0 6.0\n0 90 90\nH\n0.00 0.00 0.00", "bad_lattice"),
    ("4.0 5.0 6.0\n90 90 180\nH\n0.00 0.00 0.00", "bad_lattice"),
    ("4.0 5.0 6.0\n120 120 120\nH\n0.00 0.00 0.00", "bad_lattice"),
    ("4.0 5.0 6.0\n30 40 100\nH\n0.00 0.00 0.00", "bad_lattice"),
    (HEAD + "Xx\n0.00 0.00 0.00", "unknown_element"),
    (HEAD + "Xx", "unknown_element"),
    (HEAD + "D\n0.00 0.00 0.00", "unknown_element"),
    (HEAD + "Og\n0.00 0.00 0.00", "unknown_element"),
    (HEAD.rstrip(), "no_atoms"),
    (HEAD + "\n".join(["H\n0.00 0.00 0.00"] * 101), "too_large"),
]


@pytest.mark.parametrize(("text", "status"), REJECTED)
def test_every_fault_has_a_status_and_keeps_the_text(text, status):
    found = read_crystal_text(text)
    assert found.status == status
    assert found.info["text"] == text
    assert found.lattice is None


def test_composition_is_exact_and_comes_in_the_asked_order():
    asked = np.array([8, 26, 8, 26, 8])
    lines = [f"{symbol}\n0.{place}0 0.00 0.00" for place, symbol in enumerate(["Fe", "Fe", "O", "O", "O"])]
    found = read_crystal_text(HEAD + "\n".join(lines), asked)
    assert found.ok
    assert found.atomic_numbers.tolist() == asked.tolist()
    np.testing.assert_allclose(found.frac_coords[:, 0], [0.2, 0.0, 0.3, 0.1, 0.4])
    for wrong in (lines[:-1], [*lines, lines[0]], [lines[2], *lines[1:]]):
        failed = read_crystal_text(HEAD + "\n".join(wrong), asked)
        assert failed.status == "wrong_composition"
        assert failed.atomic_numbers.tolist() == asked.tolist()


def test_cells_that_cannot_be_written_are_refused():
    assert unwritable(crystal((200.0, 5.0, 5.0))) == "bad_lattice"
    assert unwritable(crystal(numbers=(112,))) == "unknown_element"
    assert unwritable(crystal()) is None
    with pytest.raises(TextError, match="outside 1"):
        write_crystal(crystal((0.5, 5.0, 5.0)))


def test_hiding_an_element_spares_those_whose_symbols_contain_it():
    """A replacement in the text would turn Ca and Cl into [MASK]a and [MASK]l."""
    made = crystal(numbers=(6, 20, 17, 6, 27))
    hidden = write_crystal(made, masked=6)
    assert hidden.split("\n")[2::2] == [MASK, "Ca", "Cl", MASK, "Co"]
    assert write_crystal(made, masked=20).split("\n")[2::2] == ["C", MASK, "Cl", "C", "Co"]


def test_formulas():
    assert formula(np.array([26, 26, 8, 8, 8])) == "Fe2O3"
    assert formula(np.array([8, 8])) == "O"
    assert read_formula("Fe2O3") == {"Fe": 2, "O": 3}
    for wrong in ("fe2O3", "", "Fe2 O3", "Fe0O"):
        with pytest.raises(ValueError, match="write symbols and whole numbers"):
            read_formula(wrong)
    with pytest.raises(ValueError, match="there is no element 'Xx'"):
        read_formula("XxO")


def test_grammar_accepts_what_the_parser_accepts():
    texts = [write_crystal(made) for made in random_crystals(20, seed=3)]
    for text, status in [*REJECTED, *((text, "ok") for text in texts)]:
        state = start().follow(text)
        assert (state is not None and state.ended) == (status == "ok"), text


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 200), st.sampled_from("0123456789. \nHCaOXx-"), st.booleans())
def test_grammar_and_parser_agree_on_damaged_texts(seed, place, character, insert):
    text = write_crystal(random_crystals(1, seed=seed, sizes=(1, 2, 3))[0])
    place = min(place, len(text))
    damaged = text[:place] + character + text[place + (not insert) :]
    state = start().follow(damaged)
    assert (state is not None and state.ended) == read_crystal_text(damaged).ok


def test_a_text_that_cannot_become_a_crystal_is_known_at_once():
    for text in ("4.0 5.0 6.0\n90 90 180", "4.0 5.0 6.0\n120 120 120", "0", "4.0 5.0 6.0 ", HEAD + "Q", HEAD + "Fe "):
        assert start().follow(text) is None
        assert start().follow(text[:-1]) is not None
    assert start({"Fe": 1}).follow(HEAD + "O") is None
    assert start({"Fe": 1}).follow(HEAD + "Fe\n0.00 0.00 0.00\n") is None
    assert not start({"Fe": 2}).follow(HEAD + "Fe\n0.00 0.00 0.00").ended


def random_walk(masks, pieces, seed, wanted=None, limit=150):
    rng, state, text = np.random.default_rng(seed), start(wanted), ""
    for length in range(10**4):
        allowed = masks.mask(state, room=wanted is not None or limit - length >= LONGEST_ATOM + 1).nonzero().flatten()
        assert len(allowed) > 0, text
        token = int(rng.choice(allowed.numpy()))
        if token == masks.end:
            return text
        text, state = text + pieces[token], state.follow(pieces[token])
    raise AssertionError


@pytest.mark.parametrize("pieces", [CHARACTERS, list(own_vocabulary().pieces)], ids=["characters", "own"])
def test_random_tokens_within_the_grammar_are_always_crystals(pieces):
    end = 0 if pieces is CHARACTERS else own_vocabulary().end
    masks = TokenMasks(pieces, end, torch.device("cpu"))
    for seed in range(8):
        text = random_walk(masks, pieces, seed)
        assert read_crystal_text(text).ok
        assert pieces is not CHARACTERS or len(text) < 150
    asked = np.array([49, 53, 53, 7, 28])
    counts = Counter(SYMBOLS[number - 1] for number in asked.tolist())
    for seed in range(4):
        assert read_crystal_text(random_walk(masks, pieces, seed, dict(counts)), asked).ok


def test_masks_allow_what_is_asked_for_and_forbid_the_rest():
    """The published code hands the allowed elements over as the forbidden ones."""
    masks = TokenMasks(CHARACTERS, 0, torch.device("cpu"))
    allowed = masks.mask(start({"Fe": 1, "O": 2}).follow(HEAD), room=True)
    assert [CHARACTERS[token] for token in allowed.nonzero().flatten().tolist()] == ["F", "O"]
    begin = masks.mask(start(), room=True)
    assert {CHARACTERS[token] for token in begin.nonzero().flatten().tolist()} == set("123456789")


def test_a_vocabulary_without_a_character_cannot_be_constrained():
    with pytest.raises(ValueError, match=r"no token for '7'.*Set `constrained` to false"):
        TokenMasks([piece for piece in CHARACTERS if piece != "7"], 0, torch.device("cpu"))


def test_own_vocabulary_writes_everything_exactly():
    vocabulary = own_vocabulary()
    unknown = vocabulary.tokenizer.token_to_id(UNKNOWN)
    for seed, made in enumerate(random_crystals(60, seed=4, sizes=(1, 4, 20))):
        info = {"spg_num": seed + 1, "band_gap": -1.2345678 * seed, "e_form_per_atom": 0.12, "e_above_hull": 1e-9}
        question, answer = prompts.draw(replace(made, info=info), prompts.Mixture(), np.random.default_rng(seed))
        tokens = vocabulary.encode(question + answer)
        assert unknown not in tokens
        assert vocabulary.decode(tokens) == question + answer
        assert tokens[: len(vocabulary.encode(question))] == vocabulary.encode(question)
    assert len(vocabulary.encode("Fe\n0.25 0.50 0.75\n")) == 6
    assert read_vocabulary(vocabulary.tokenizer.to_str()).pieces == vocabulary.pieces


def test_prompts_say_what_is_asked():
    assert prompts.ask_crystal({}) == f"{prompts.LEAD} {prompts.ASK}\n"
    asked = prompts.ask_crystal({"band_gap": 1.234567, "formula": "Fe2O3", "e_above_hull": -0.00001})
    assert "Its formula is Fe2O3. Its band gap is 1.2346 eV. It lies 0.0 eV" in asked
    assert prompts.ask_composition(np.array([26, 26, 8, 8, 8] * 2)).count("Fe2O3. Its cell holds 10 atoms.") == 1
    with pytest.raises(ValueError, match="no attribute 'colour'"):
        prompts.ask_crystal({"colour": 1})


def test_prompts_of_this_version():
    """A changed word needs a new version, since checkpoints know only the words they were trained with."""
    every = {
        "formula": "NaCl",
        "n_atoms": 2,
        "spg_num": 225,
        "band_gap": 5.0,
        "e_form_per_atom": -2.1,
        "e_above_hull": 0.0,
    }
    assert prompts.VERSION == "1"
    assert prompts.ask_crystal(every) == (
        "A crystalline solid. Its formula is NaCl. Its cell holds 2 atoms. Its space group has number 225. Its band "
        "gap is 5.0 eV. Its formation energy is -2.1 eV per atom. It lies 0.0 eV per atom above the convex hull. Cell "
        "lengths, cell angles, then each atom's element and coordinates:\n"
    )
    assert prompts.ask_hidden("TEXT") == (
        "A crystalline solid with one element hidden as [MASK].\nTEXT\nThe hidden element:\n"
    )


def drawn(n, mixture=None, **info):
    made = replace(crystal(), info=info)
    return [prompts.draw(made, mixture or prompts.Mixture(), np.random.default_rng(seed)) for seed in range(n)]


def test_shares_of_the_tasks():
    info = {"spg_num": 221, "band_gap": 0.0, "e_form_per_atom": -1.0, "e_above_hull": 0.0}
    texts = [question for question, _ in drawn(4000, **info)]
    hidden = [question for question in texts if question.startswith(prompts.HIDDEN_LEAD)]
    composition = [question for question in texts if question == prompts.ask_composition(np.array([26, 8]))]
    unconditional = [question for question in texts if question == prompts.ask_crystal({})]
    assert len(hidden) / 4000 == pytest.approx(0.34, abs=0.025)
    assert len(composition) / 4000 == pytest.approx(0.66 * 0.2, abs=0.02)
    assert len(unconditional) / 4000 == pytest.approx(0.66 * 0.8 * 0.2, abs=0.02)
    # k attributes of four, each k as likely, so each is stated in half of the rest.
    rest = 4000 - len(hidden) - len(composition)
    assert sum("band gap" in question for question in texts) / rest == pytest.approx(0.5, abs=0.04)


def test_absent_properties_are_not_stated():
    texts = [question for question, _ in drawn(300, band_gap=float("nan"), e_above_hull=None, spg_num=5)]
    assert not any(word in question for question in texts for word in ("band gap", "nan", "None", "hull"))
    assert any("space group has number 5" in question for question in texts)
    assert any(question == prompts.ask_crystal({"formula": "FeO"}) for question in texts)


def test_the_answer_to_a_hidden_element_is_that_element():
    for question, answer in drawn(200, prompts.Mixture(infilling=1.0)):
        lines = question.split("\n")
        assert {*lines[3:-2:2]} - {MASK, "Fe", "O"} == set()
        assert ({"Fe", "O"} - {*lines[3:-2:2]}) == {answer}


def test_every_serialisation_is_shifted_anew():
    answers = {answer for _, answer in drawn(20, prompts.Mixture(infilling=0.0))}
    assert len(answers) == 20


def test_wrong_mixtures_are_named():
    with pytest.raises(ValueError, match=r"infilling must lie between 0 and 1, not 1\.5"):
        prompts.Mixture(infilling=1.5)


def test_grammar_knows_every_symbol():
    assert start().follow(HEAD).symbols() == ALL_SYMBOLS
    assert len(ALL_SYMBOLS) == 104
