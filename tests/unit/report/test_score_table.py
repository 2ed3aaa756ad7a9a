"""Cells of the score tables: the best value, what may be as good, digits."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtalgen.metrics.result_file import Evaluation
from xtalgen.metrics.statistics.intervals import Estimate
from xtalgen.report.marks import best_rows
from xtalgen.report.score_table import DE_NOVO, SYMMETRY, explain_marks, scores

NONE = "\N{EN DASH}"


def row_of(value, low=None, high=None, name="a"):
    values = {"struct_valid": Estimate(value, 10, low, high, None if value is not None else "why")}
    return Evaluation(name, "dng", 10, {}, {"dataset": "d"}, (), {}, values, {})


def column(*rows, **options):
    return [line[0] for line in scores(rows, DE_NOVO[:1], **options)]


def test_ties_as_written_are_all_bold_and_one_row_is_not():
    rows = [row_of(0.50001), row_of(0.50004), row_of(0.4), row_of(None)]
    assert column(*rows) == ["**50.0** =", "**50.0** =", "40.0 ≈", f"{NONE}¹"]
    assert column(rows[0]) == ["50.0"]
    assert column(row_of(None), rows[0])[1] == "50.0"


def test_where_all_are_equal_nothing_is_best():
    for value in (0.0, 1.0):
        assert column(row_of(value), row_of(value), row_of(None), plain=True)[:2] == [f"{100 * value:.1f} "] * 2
        assert "*" not in "".join(column(row_of(value), row_of(value)))


def test_rows_that_may_be_as_good_are_marked():
    cells = column(row_of(0.9, 0.8, 0.95), row_of(0.7, 0.6, 0.8), row_of(0.2, 0.1, 0.4))
    assert cells == ["**90.0 [80.0, 95.0]** ≈", "70.0 [60.0, 80.0] ≈", "20.0 [10.0, 40.0]"]  # of ten crystals each
    distance = [Estimate(0.2, 10, 0.15, 0.25), Estimate(0.24, 10, 0.2, 0.28), Estimate(0.5, 10, 0.4, 0.6)]
    rows = [replace(row_of(0.9), metrics={"wdist_density": value}) for value in distance]
    assert [line[0][-1] for line in scores(rows, DE_NOVO[4:5])] == ["≈", "≈", "]"]


def test_a_lead_beyond_noise_has_a_star_everywhere():
    rows = [row_of(1.0, 0.7, 1.0), row_of(0.1, 0.0, 0.4)]
    assert column(*rows) == ["**100.0 [70.0, 100.0]** ★", "10.0 [0.0, 40.0]"]
    assert column(*rows, plain=True) == ["100.0★", "10.0 "]
    assert explain_marks(rows, DE_NOVO[:1]) == "★ best"
    assert explain_marks(rows[:1], DE_NOVO[:1]) == ""


def test_counts_have_no_decimals():
    rows = [replace(row_of(0.9), metrics={"n_space_groups": Estimate(float(count), 10)}) for count in (99, 7)]
    assert [line[1] for line in scores(rows, SYMMETRY)] == ["**99** ★", "7"]


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
