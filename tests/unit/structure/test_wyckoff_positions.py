"""Affine forms, groups from generators, orbits and primitive cells, against moyo's tables of all 230 space groups."""

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moyopy import Setting, operations_from_number

from xtalgen.structure import wyckoff_positions
from xtalgen.structure.wyckoff_positions import (
    close,
    n_centrings,
    orbit_forms,
    parse_form,
    primitive_cell,
    write_operation,
)

GROUPS = range(1, 231)


@cache
def moyo(number):
    """The texts of a group's operations, by moyo."""
    found = operations_from_number(number, setting=Setting.standard())
    pairs = zip(np.array(found.rotations), found.translations, strict=True)
    return [write_operation(rotation, translation) for rotation, translation in pairs]


@cache
def generators(number):
    """A few operations that make the group: each the first that those before it do not make."""
    chosen, known = [], close("")
    for text in moyo(number):
        if text not in known:
            chosen.append(text)
            known = close(";".join(chosen))
    return ";".join(chosen)


@st.composite
def operations(draw):
    rotation = [[draw(st.integers(-2, 2)) for _ in range(3)] for _ in range(3)]
    below = draw(st.sampled_from([2, 3, 4, 6, 8, 12, 24]))
    return np.array(rotation), tuple(Fraction(draw(st.integers(0, below - 1)), below) for _ in range(3))


@given(operations())
def test_what_is_written_is_read_again(operation):
    rotation, translation = operation
    text = write_operation(rotation, translation)
    matrix, shift = wyckoff_positions._parse(text)
    assert (matrix == rotation).all()
    assert shift == translation
    assert write_operation(rotation, [float(value) - 1 for value in translation]) == text


def test_operations_are_written_as_in_the_international_tables():
    assert write_operation(np.eye(3, dtype=int), (0.0, 0.0, 0.0)) == "x,y,z"
    rotation = np.array([[0, -1, 0], [1, -1, 0], [0, 0, 0]])
    assert write_operation(rotation, (0.5, 1 / 3, -0.25)) == "-y+1/2,x-y+1/3,3/4"


def test_a_form_tells_where_its_free_coordinates_are():
    matrix, shift, rows, axes = parse_form("x,2x,1/4")
    assert (matrix @ [0.1, 7.0, 7.0] + shift).tolist() == [0.1, 0.2, 0.25]
    assert (rows, axes) == ([0], [0])
    matrix, shift, rows, axes = parse_form("-y+1/2,y,z")
    assert (matrix @ [7.0, 0.1, 0.2] + shift).tolist() == [0.4, 0.1, 0.2]
    assert (rows, axes) == ([1, 2], [1, 2])
    assert parse_form("0,1/2,1/3")[2:] == ([], [])


@pytest.mark.parametrize("text", ["x,y", "x,y,z,x", "x,y,w", "x,y,1/2*z", "x y z"])
def test_what_is_no_form_is_refused(text):
    with pytest.raises(ValueError, match="are not coordinates"):
        parse_form(text)


def test_a_form_without_a_coordinate_of_its_own_is_refused():
    with pytest.raises(ValueError, match="no coordinate is a free one"):
        parse_form("2x,-x,0")


def test_generators_make_all_230_groups():
    for number in GROUPS:
        assert set(close(generators(number))) == set(moyo(number)), number
        assert len(generators(number).split(";")) <= 6, number


def test_primitive_cells_of_all_groups():
    for number in GROUPS:
        basis, parts = primitive_cell(generators(number)), n_centrings(generators(number))
        primitive = operations_from_number(number, setting=Setting.standard(), primitive=True)
        assert parts == len(moyo(number)) / len(primitive.rotations), number
        assert np.linalg.det(basis) == pytest.approx(1 / parts), number
        for vector in basis:
            assert write_operation(np.eye(3, dtype=int), vector) in moyo(number), number


def test_the_general_position_of_all_groups_has_a_member_for_each_operation():
    for number in GROUPS:
        matrices, shifts = orbit_forms(generators(number), "x,y,z")
        assert len(matrices) == len(shifts) == len(moyo(number)) / n_centrings(generators(number)), number
        assert ((shifts >= 0) & (shifts < 1)).all()


@pytest.mark.parametrize(
    ("number", "form", "members"),
    [
        (225, "0,0,0", 1),
        (225, "1/4,1/4,1/4", 2),
        (225, "x,x,x", 8),
        (216, "x,x,x", 4),
        (194, "1/3,2/3,1/4", 2),
        (194, "x,2x,1/4", 6),
        (166, "0,0,z", 2),
        (62, "x,1/4,z", 4),
        (44, "0,1/2,z", 1),
    ],
)
def test_special_positions_have_the_members_of_the_international_tables(number, form, members):
    """Members per primitive cell; they stay apart, and the group takes each to another one, for any x, y and z."""
    matrices, shifts = orbit_forms(generators(number), form)
    assert len(matrices) == members
    to_primitive = np.linalg.inv(primitive_cell(generators(number)))
    points = matrices @ [0.137, 0.291, 0.413] + shifts
    for rotation, translation in close(generators(number)).values():
        images = points @ rotation.T + np.array(translation, dtype=float)
        away = (images[:, None] - points[None]) @ to_primitive
        assert (np.abs(away - away.round()).max(axis=-1) < 1e-9).sum(axis=1).tolist() == [1] * members
