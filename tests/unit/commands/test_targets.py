"""Targets of a user's predictions: by name in every form, by order where there are no names, never half of each."""

import pytest

from xtalgen.commands.targets import pair, possible_ids

IDS = ["mp-1", "mp-22", "agm002", "7"]


@pytest.mark.parametrize(
    "form", ["{}", "{}.cif", "preds/{}.cif", "a/b/{}.CIF", "preds\\{}.cif", "mine.cif:{}", "z/mine.cif:{}", "{}/0.cif"]
)
def test_names_are_ids_in_every_form(form):
    found = pair([form.format(each) for each in reversed(IDS)], IDS)
    assert found.by_name
    assert found.targets == IDS[::-1]


@pytest.mark.parametrize("form", ["{}_{}.cif", "{}-{}.cif", "preds/{}#{}.cif", "{}/a{}.cif", "mine.cif:{}_{}"])
def test_several_predictions_for_one_id(form):
    found = pair([form.format(each, k) for k in range(3) for each in IDS], IDS)
    assert found.by_name
    assert found.targets == IDS * 3


def test_literal_ids_win():
    assert pair(["mp-1"], ["mp-1", "mp"]).targets == ["mp-1"]
    assert possible_ids(None) == []


def test_order_decides_without_names():
    found = pair([f"row {i}" for i in range(8)], IDS)
    assert not found.by_name
    assert found.targets == [each for each in IDS for _ in range(2)]


def test_some_names_are_refused_and_listed():
    with pytest.raises(ValueError, match=r"1 of 4 names are not test ids: 'mp-l.cif'\. Give every"):
        pair(["mp-l.cif", *(f"{each}.cif" for each in IDS[1:])], IDS)
    with pytest.raises(ValueError, match=r"12 of 13 names .*'x9', …"):
        pair(["7", *(f"x{i}" for i in range(12))], IDS)


def test_targets_without_prediction_are_found():
    assert pair(["mp-1", "mp-1"], IDS).missing(IDS) == IDS[1:]
