"""The contract metrics/1: what is written is read back, and what breaks it is refused."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalgen.metrics.result_file import PUBLISHED, Evaluation, read_evaluation, write_evaluation
from xtalgen.metrics.statistics.intervals import Estimate, missing
from xtalgen.metrics.tasks import EVERY_TASK

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 10**6)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ESTIMATES = st.one_of(
    st.builds(Estimate, NUMBERS, COUNTS, NUMBERS, NUMBERS),
    st.builds(Estimate, NUMBERS, COUNTS),
    st.builds(missing, NAMES, COUNTS),
)
FACTS = st.one_of(st.none(), NUMBERS, COUNTS, NAMES)
EVALUATIONS = st.builds(
    Evaluation,
    set=NAMES,
    task=st.sampled_from(EVERY_TASK),
    n=COUNTS,
    recipe=st.dictionaries(NAMES, st.one_of(FACTS, st.dictionaries(NAMES, FACTS, max_size=2)), max_size=3),
    data=st.fixed_dictionaries({"dataset": NAMES, "published": st.sampled_from(PUBLISHED)}),
    funnel=st.lists(st.tuples(NAMES, COUNTS), max_size=3).map(tuple),
    failures=st.dictionaries(NAMES, COUNTS, max_size=3),
    metrics=st.dictionaries(NAMES, ESTIMATES, max_size=4),
    cost=st.dictionaries(NAMES, FACTS, max_size=3),
    outcomes=st.dictionaries(NAMES, FACTS, max_size=2),
)
ONE = Evaluation("a/dng", "dng", 2, {}, {"dataset": "d", "published": "no"}, (), {}, {}, {})


@settings(max_examples=60, deadline=None)
@given(EVALUATIONS)
def test_what_is_written_is_read_back(tmp_path_factory, evaluation):
    path = tmp_path_factory.mktemp("round") / "set.json"
    write_evaluation(evaluation, path)
    assert read_evaluation(path) == evaluation


def test_splits_that_are_not_the_published_ones_are_stated():
    assert ONE.has_other_splits
    for said in ("yes", "unknown"):
        assert not replace(ONE, data={"dataset": "d", "published": said}).has_other_splits


def test_misspelt_facts_and_wrong_numbers_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="published is False; choose from yes, no, unknown"):
        write_evaluation(replace(ONE, data={"dataset": "d", "published": False}), tmp_path / "x.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_evaluation(replace(ONE, metrics={"stable": Estimate(float("nan"), 1)}), tmp_path / "x.json")
    assert not (tmp_path / "x.json").exists()
