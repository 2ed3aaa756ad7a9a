import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_sets import crystal, unpack
from xtalgen.crystals import Crystal
from xtalgen.explorer.encoding import (
    ANGLE_STEP,
    FRAC_STEPS,
    LENGTH_STEP,
    MISSING,
    MOVE_STEPS,
    geometry,
    geometry_blocks,
    pack,
    scaled,
    unit_positions,
)
from xtalgen.structure.lattice import lattice_from_parameters


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40), st.lists(st.integers(0, 255), max_size=40))
def test_packed_numbers_come_back(first, second):
    text = pack({"ids": ["</script>"]}, {"a": ("int32", np.array(first, "i8")), "b": ("uint8", np.array(second, "i8"))})
    header, blocks = unpack(text)
    assert blocks["a"].tolist() == first
    assert blocks["b"].tolist() == second
    assert header["ids"] == ["</script>"]
    assert "<" not in text
    assert "/" not in text


def test_same_content_gives_the_same_text():
    block = {"a": ("uint16", np.arange(100))}
    assert pack({}, block) == pack({}, block)


@given(st.lists(st.none() | st.floats(-1e5, 1e5) | st.just(float("nan")), max_size=30))
def test_scaled_numbers_are_within_half_a_step(values):
    found = scaled(values, 1e-3)
    for value, number in zip(values, found.tolist(), strict=True):
        if value is None or np.isnan(value):
            assert number == MISSING
        else:
            assert abs(number * 1e-3 - value) <= 0.5001e-3


def test_scaled_numbers_that_do_not_fit_are_missing():
    assert scaled([1e300, float("inf"), -1e300], 1e-4).tolist() == [MISSING] * 3


def test_geometry_is_kept_to_its_steps():
    rows = [crystal(index, str(index)) for index in range(5)]
    found = [geometry(row) for row in rows]
    blocks = geometry_blocks(found, [None] * 5)
    assert blocks["n_atoms"].tolist() == [row.n_atoms for row in rows]
    frac_coords = blocks["frac_coords"].reshape(-1, 3) / FRAC_STEPS
    wanted = np.concatenate([row.frac_coords for row in rows])
    difference = frac_coords - wanted
    assert np.abs(difference - np.round(difference)).max() <= 0.5 / FRAC_STEPS + 1e-12
    lengths = blocks["lengths"].reshape(3, -1).T * LENGTH_STEP
    angles = blocks["angles"].reshape(3, -1).T * ANGLE_STEP
    for row, a, b in zip(rows, lengths, angles, strict=True):
        volume = abs(np.linalg.det(row.lattice))
        assert abs(np.linalg.det(lattice_from_parameters(a, b))) == pytest.approx(volume, rel=1e-3)


def test_position_that_rounds_up_to_one_becomes_zero():
    row = Crystal("a", "ok", np.eye(3) * 4, np.array([[1 - 1e-9, 0.5, 0.0]]), np.array([3], dtype=np.uint8))
    assert geometry_blocks([geometry(row)], [None])["frac_coords"].tolist() == [0, FRAC_STEPS // 2, 0]


def test_moves_go_the_short_way_and_unmoved_crystals_have_none():
    now = Crystal("a", "ok", np.eye(3) * 4, np.array([[0.99, 0.5, 0.0]]), np.array([3], dtype=np.uint8))
    then = Crystal("a", "ok", np.eye(3) * 5, np.array([[0.01, 0.5, 0.0]]), np.array([3], dtype=np.uint8))
    other = Crystal("a", "ok", np.eye(3) * 5, np.array([[0.01, 0.5, 0.0]]), np.array([4], dtype=np.uint8))
    final = [geometry(now)] * 4
    blocks = geometry_blocks(final, [geometry(then), geometry(now), None, geometry(other)])
    assert blocks["moved"].tolist() == [1, 0, 0, 0]
    assert blocks["moves"].tolist() == [round(0.02 * MOVE_STEPS), 0, 0]
    assert blocks["before_lengths"].ravel().tolist() == [50000] * 3


@pytest.mark.parametrize(
    "row",
    [
        Crystal("no arrays", "unparsable"),
        Crystal("nan", "bad_lattice", np.full((3, 3), np.nan), np.zeros((1, 3)), np.array([1], dtype=np.uint8)),
        Crystal("flat", "bad_lattice", np.zeros((3, 3)), np.zeros((1, 3)), np.array([1], dtype=np.uint8)),
        Crystal("huge", "ok", np.eye(3) * 1e6, np.zeros((1, 3)), np.array([1], dtype=np.uint8)),
        Crystal("lacks", "too_close", np.eye(3), np.zeros((2, 3)), np.array([1], dtype=np.uint8)),
        Crystal("none", "unparsable", np.eye(3), np.zeros((0, 3)), np.zeros(0, dtype=np.uint8)),
    ],
    ids=lambda row: row.id,
)
def test_what_cannot_be_drawn_has_no_geometry(row):
    assert geometry(row) is None


def test_positions_keep_the_shape_of_the_map():
    points = np.array([[0.0, 0.0], [2.0, 1.0], [1.0, 0.5]])
    assert unit_positions(points).tolist() == [0, 0, 65535, 32768, 32768, 16384]
    assert unit_positions(np.zeros((0, 2))).tolist() == []
    assert unit_positions(np.ones((2, 2))).tolist() == [0, 0, 0, 0]
