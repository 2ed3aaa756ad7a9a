"""Asked against obtained, by attribute, and the ranks of hidden elements."""

import numpy as np
import pytest

from crystal_cases import listed
from xtalgen.crystals import Crystal
from xtalgen.metrics.registry import for_task
from xtalgen.metrics.tasks.conditional import Requests, score_requests
from xtalgen.metrics.tasks.infilling import score_guesses
from xtalgen.metrics.types import MetricConfig
from xtalgen.models.language.prompts import SENTENCES
from xtalgen.structure.attributes import conditions_of
from xtalgen.structure.lattice import lattice_from_parameters

ROCK_SALT = (lattice_from_parameters(np.full(3, 3.99), np.full(3, 60.0)), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
QUICK = MetricConfig(resamples=50)


def crystal(identifier, numbers, **info):
    return Crystal(identifier, "ok", *ROCK_SALT, np.array(numbers, dtype=np.uint8), info)


SALT = crystal("salt", [11, 17], spg_num=225, band_gap=5.0, e_form_per_atom=-2.0, e_above_hull=0.0)
BROKEN = Crystal("broken", "unparsable", info={"text": "x", "n_tries": 3})


def test_conditions_are_what_the_crystal_has():
    bare = crystal("bare", [11, 17], spg_num=225, band_gap=np.nan, e_above_hull=None)
    assert conditions_of(bare, list(SENTENCES)) == {"formula": "NaCl", "n_atoms": 2, "spg_num": 225}
    with pytest.raises(ValueError, match="no attribute 'colour'; there are formula, n_atoms"):
        conditions_of(bare, ["colour"])


def test_rates_count_failures_and_compare_reduced_formulas():
    made = [crystal("a", [17, 11]), crystal("b", [11, 11]), BROKEN]
    requests = listed(Requests, made, [SALT] * 3, ["formula", "n_atoms", "spg_num"])
    scores = score_requests(requests, QUICK)
    values = {name: (found.value, found.n) for name, found in scores.metrics.items() if found.value is not None}
    third, two = pytest.approx(1 / 3), pytest.approx(2 / 3)
    assert values == {
        "struct_valid": (two, 3),
        "comp_valid": (two, 3),
        "valid": (two, 3),
        "formula_matched": (third, 3),
        "n_atoms_matched": (two, 3),
        "spg_num_matched": (third, 3),
    }, "sodium on both places of rock salt is simple cubic"
    assert set(scores.metrics) == {metric.name for metric in for_task("conditional")}
    assert scores.columns["asked_formula"][1] == ["NaCl"] * 3
    assert scores.columns["spg_num"][1][:2] == [225, 221]
    assert scores.failures == {"sample: unparsable": 1}
    assert dict(scores.funnel)["formula as asked"] == 1
    assert set(scores.outcomes["bits"]) == {"formula_matched", "n_atoms_matched", "spg_num_matched"}


def test_a_target_that_lacks_an_attribute_was_not_asked_for_it():
    bare = crystal("bare", [11, 17], spg_num=None)
    scores = score_requests(listed(Requests, [crystal("a", [11, 17])] * 2, [SALT, bare], ["spg_num"]), QUICK)
    assert (scores.metrics["spg_num_matched"].value, scores.metrics["spg_num_matched"].n) == (1.0, 1)
    assert scores.metrics["formula_matched"].reason == "not asked for"
    assert scores.outcomes["bits"] == {}, "rows that were not all asked the same cannot be paired"


def test_energies_are_those_after_relaxation():
    made = [crystal("a", [11, 17]), crystal("b", [11, 17]), BROKEN]
    relaxed = [crystal("a", [11, 17], energy=-10.0), crystal("b", [11, 17], energy=-7.0), BROKEN]
    hull = [
        Crystal("Na", "ok", np.eye(3) * 3, np.zeros((1, 3)), np.array([11], np.uint8), {"energy": -1.0}),
        Crystal("Cl", "ok", np.eye(3) * 3, np.zeros((1, 3)), np.array([17], np.uint8), {"energy": -2.0}),
        crystal("ground", [11, 17], energy=-9.0),
    ]
    attributes = ["e_form_per_atom", "e_above_hull"]
    scores = score_requests(listed(Requests, made, [SALT] * 3, attributes, relaxed, hull), QUICK)
    # By hand: the elements lie at -3 eV, so -10 eV is -3.5 eV/atom above them and 0.5 eV/atom below -9 eV.
    assert scores.columns["e_form_per_atom"][1] == [pytest.approx(-3.5), pytest.approx(-2.0), None]
    assert scores.columns["e_above_hull"][1] == [pytest.approx(-0.5), pytest.approx(1.0), None]
    assert scores.metrics["e_form_per_atom_deviation"].value == pytest.approx(0.75)
    assert scores.metrics["e_above_hull_deviation"].value == pytest.approx(0.75)
    assert scores.metrics["e_above_hull_deviation"].n == 2
    unrelaxed = score_requests(listed(Requests, made, [SALT] * 3, attributes), QUICK)
    assert unrelaxed.metrics["e_above_hull_deviation"].reason == "not relaxed"


def test_guesses_count_what_could_be_hidden():
    rows = [Crystal(str(i), "ok", info={"hidden": "O", "rank": rank}) for i, rank in enumerate([1, 2, 4, 30, None])]
    nothing = {"hidden": None, "rank": None}
    left_out = [Crystal("x", "unparsable", info=nothing), Crystal("y", "ok", info=nothing)]
    scores = score_guesses([*rows, *left_out])
    assert [(scores.metrics[f"top_{k}"].value, scores.metrics[f"top_{k}"].n) for k in (1, 3, 5, 10)] == [
        (0.2, 5), (0.4, 5), (0.6, 5), (0.6, 5),
    ]  # fmt: skip
    assert scores.funnel[:2] == [("asked", 7), ("hidden", 5)]
    assert scores.failures == {"infilling: unparsable": 1, "infilling: unwritable": 1}
    assert score_guesses(left_out).metrics["top_1"].reason == "no crystal could be written"
