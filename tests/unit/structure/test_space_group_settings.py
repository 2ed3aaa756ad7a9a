"""Space groups by every name that a file may give them."""

import numpy as np
import pytest
from moyopy import HallSymbolEntry

from xtalgen.structure.space_group_settings import N_SETTINGS, SymbolError, find_settings, fits_cell, operations


def names(**given):
    return [setting.name for setting in find_settings(**given)]


def test_every_setting_is_found_by_its_full_name_and_by_its_hall_symbol():
    for index in range(1, N_SETTINGS + 1):
        entry = HallSymbolEntry(hall_number=index)
        name = entry.hm_full.replace("_", "") + (f" :{entry.setting}" if entry.setting else "")
        assert index in [setting.hall_number for setting in find_settings(symbol=name, number=entry.number)]
        (setting, *_) = find_settings(hall=entry.hall_symbol.replace("=", '"'))
        assert setting.number == entry.number


def test_one_spelling_names_one_space_group():
    for index in range(1, N_SETTINGS + 1):
        entry = HallSymbolEntry(hall_number=index)
        for spelling in (entry.hm_full, entry.hm_full.replace(" ", ""), entry.hm_full.upper()):
            assert {setting.number for setting in find_settings(symbol=spelling)} == {entry.number}


@pytest.mark.parametrize("index", [1, 2, 81, 230, 323, 433, 434, 459, 525, 526, 530])
def test_operations_are_a_group(index):
    affine = operations(index)
    found = {tuple(np.round(one % 1.0 if part else one, 6).ravel()) for one in affine for part in (0,)}
    assert len(found) == len(affine)
    assert any(np.array_equal(one, np.eye(4)) for one in affine)
    product = affine[-1] @ affine[len(affine) // 2]
    product[:3, 3] %= 1.0
    apart = affine - product
    apart[:, :3, 3] -= np.rint(apart[:, :3, 3])
    assert np.isclose(np.abs(apart).max(axis=(1, 2)), 0, atol=1e-9).sum() == 1


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("Fm-3m", "F 4/m -3 2/m"),
        ("F m 3 m", "F 4/m -3 2/m"),
        ("FM-3M", "F 4/m -3 2/m"),
        ("F m 3\u0305 m", "F 4/m -3 2/m"),
        (r"F m \bar{3} m", "F 4/m -3 2/m"),
        ("F m \u22123 m", "F 4/m -3 2/m"),
        ("I a 3 d", "I 4_1/a -3 2/d"),
        ("P a 3", "P 2_1/a -3"),
        ("P m 3 n", "P 4_2/m -3 2/n"),
        ("F d -3 m S", "F 4_1/d -3 2/m:1"),
        ("F d -3 m (origin choice 2)", "F 4_1/d -3 2/m:2"),
        ("I 41/a m d Z", "I 4_1/a 2/m 2/d:2"),
        ("R -3 m RS", "R -3 2/m:R"),
        ("R3cH", "R 3 c:H"),
        ("P 6(3)/m m c", "P 6_3/m 2/m 2/c"),
        ("P6_3/mmc", "P 6_3/m 2/m 2/c"),
        ("C m c a", "C 2/m 2/c 2_1/e"),
        ("A b m 2", "A e m 2"),
        ("C m m b", "C 2/m 2/m 2/e:ba-c"),
        ("C c c a :2", "C 2/c 2/c 2/e:2"),
        ("B b a b:1", "B 2/b 2/e 2/b:1a-cb"),
        ("P b n m", "P 2_1/b 2_1/n 2_1/m:cab"),
        ("P 31 2 1", "P 3_1 2 1"),
        ("B 1 1 2/b", "B 1 1 2/b:-c1"),
    ],
)
def test_spellings(symbol, name):
    assert names(symbol=symbol) == [name]


def test_short_monoclinic_symbols_leave_the_axis_open():
    assert names(symbol="P 21/c") == ["P 1 2_1/c 1:b1", "P 2_1/c 1 1:a3"]
    assert names(symbol="P 21/n")[0] == "P 1 2_1/n 1:b2"
    assert names(symbol="P 1 21/c 1") == ["P 1 2_1/c 1:b1"]
    assert names(symbol="P 21/c", number=14, hall="-P 2ybc") == ["P 1 2_1/c 1:b1"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"symbol": "Q x 7"}, "unknown space-group symbol 'Q x 7'"),
        ({"symbol": "C 4/m m m"}, "unknown space-group symbol"),
        ({"symbol": "P n m a :2"}, "unknown space-group symbol"),
        ({"hall": "-Q 3"}, "unknown Hall symbol '-Q 3'"),
        ({"number": 231}, "no space group number 231"),
        ({"symbol": "P n m a", "number": 225}, "P n m a and 225 contradict each other"),
    ],
)
def test_unknown_and_contradictory_names(given, message):
    with pytest.raises(SymbolError, match=message):
        find_settings(**given)


def test_cell_and_rotations():
    hexagonal = np.array([[3, 0, 0], [-1.5, 1.5 * np.sqrt(3), 0], [0, 0, 5]])
    assert fits_cell(operations(458)[:, :3, :3], hexagonal)
    assert not fits_cell(operations(459)[:, :3, :3], hexagonal)
    assert fits_cell(operations(459)[:, :3, :3], np.eye(3) * 4)
    assert not fits_cell(operations(523)[:, :3, :3], np.diag([5.0, 6, 5]))
