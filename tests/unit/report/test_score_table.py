"""Cells of the score tables: the best value, what may be as good, digits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtalgen.metrics.result_file import Evaluation
from xtalgen.metrics.statistics.intervals import Estimate
from xtalgen.report.score_table import DE_NOVO, SYMMETRY, best_rows, scores

NONE = "\N{EN DASH}"


def row_of(value, low=None, high=None, name="a"):
    values = {"struct_valid": Estimate(value, 10, low, high, None if value is not None else "why")}
    return Evaluation(name, "dng", 10, {}, {"dataset": "d"}, (), {}, values, {})


def test_ties_as_written_are_all_bold_and_one_row_is_not():
    rows = [row_of(0.50001), row_of(0.50004), row_of(0.4), row_of(None)]
    cells = [line[0] for line in scores(rows, DE_NOVO[:1])]
    assert cells == ["**50.0**", "**50.0**", "40.0 †", f"{NONE}¹"]
    assert scores(rows[:1], DE_NOVO[:1]) == [["50.0"]]
    assert scores([row_of(None), rows[0]], DE_NOVO[:1])[1] == ["50.0"]


def test_rows_that_may_be_as_good_are_marked():
    cells = scores([row_of(0.9, 0.8, 0.95), row_of(0.7, 0.6, 0.8), row_of(0.2, 0.1, 0.4)], DE_NOVO[:1])
    assert [line[0][-1] for line in cells] == ["*", "†", "]"]  # of ten crystals each
    distance = [Estimate(0.2, 10, 0.15, 0.25), Estimate(0.24, 10, 0.2, 0.28), Estimate(0.5, 10, 0.4, 0.6)]
    rows = [replace(row_of(0.9), metrics={"wdist_density": value}) for value in distance]
    assert [line[0][-1] for line in scores(rows, DE_NOVO[4:5])] == ["*", "†", "]"]


def test_counts_have_no_decimals():
    rows = [replace(row_of(0.9), metrics={"n_space_groups": Estimate(float(count), 10)}) for count in (99, 7)]
    assert [line[1] for line in scores(rows, SYMMETRY)] == ["**99**", "7"]


def test_rare_events_keep_their_digits():
    (line,) = scores([row_of(0.0031, 0.0022, 0.0044)], DE_NOVO[:1])
    assert line == ["0.31 [0.22, 0.44]"]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=2, max_size=6))
def test_nothing_beats_a_bold_value(values):
    for metric in ("struct_valid", "wdist_density"):
        found = [Estimate(value) for value in values]
        best = best_rows(metric, found, 12)
        there = [value for value in values if value is not None]
        assert bool(best) == (len(there) > 1)
        bound = max(there, default=0) if metric == "struct_valid" else min(there, default=0)
        assert all(values[index] == pytest.approx(bound, abs=1e-9) for index in best)
