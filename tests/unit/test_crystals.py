from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtalgen.crystals import (
    CONTRACT,
    GEOMETRY,
    ContractError,
    Crystal,
    check_table,
    from_table,
    read_crystals,
    read_metadata,
    read_table,
    replace_columns,
    to_table,
    write_table,
)


def crystal(identifier="a", n=2, **changes):
    made = Crystal(identifier, "ok", np.eye(3) * 4, np.arange(3 * n).reshape(n, 3) / 100, np.full(n, 14, np.uint8))
    return replace(made, **changes)


def assert_same(first, second):
    assert (first.id, first.status, first.info) == (second.id, second.status, second.info)
    for name in ("lattice", "frac_coords", "atomic_numbers"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@st.composite
def crystals(draw, identifier):
    status = draw(st.sampled_from(["ok", "ok", "unparsable", "bad_lattice"]))
    if status == "unparsable":
        return Crystal(identifier, status, info={"x": None, "note": "why"})
    n = draw(st.integers(1, 20))
    numbers = draw(st.lists(st.integers(1, 118), min_size=n, max_size=n))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    info = {"x": draw(st.none() | st.floats(allow_nan=False)), "note": draw(st.none() | st.text())}
    lattice, frac_coords = generator.normal(size=(3, 3)), generator.random((n, 3))
    return Crystal(identifier, status, lattice, frac_coords, np.array(numbers, np.uint8), info)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.data(), st.integers(0, 12))
def test_tables_survive_the_round_trip(tmp_path, data, n):
    rows = [data.draw(crystals(f"c{i}")) for i in range(n)]
    path = tmp_path / "table.parquet"
    write_table(to_table(rows, {"x": pa.float64(), "note": pa.string()}), path, seed="0")
    back = read_crystals(path)
    assert len(back) == n
    for first, second in zip(rows, back, strict=True):
        assert_same(first, second)
    assert read_metadata(read_table(path)) == {"contract": CONTRACT, "seed": "0"}


def test_slices_of_a_table_give_their_own_rows():
    rows = [crystal(f"c{i}", n=i + 1) for i in range(6)]
    table = pa.concat_tables([to_table(rows[:4]), to_table(rows[4:])])
    for first, second in zip(rows[2:5], from_table(table.slice(2, 3)), strict=True):
        assert_same(first, second)


def test_a_crystal_knows_its_size():
    assert crystal(n=3).n_atoms == 3
    assert crystal().ok
    assert Crystal("a", "unparsable").n_atoms == 0
    assert not Crystal("a", "unparsable").ok


def test_only_asked_for_columns_are_kept():
    table = to_table([crystal(info={"x": 1.0, "y": 2.0})], {"x": pa.float64()})
    assert table.column_names == [*GEOMETRY.names, "x"]
    assert from_table(table)[0].info == {"x": 1.0}
    assert to_table([crystal()], {"x": pa.float64()})["x"].to_pylist() == [None]


def test_arrays_of_a_read_crystal_may_be_changed():
    table = to_table([crystal("a"), crystal("b")])
    first, second = from_table(table)
    first.frac_coords[:] = 7.0
    assert second.frac_coords.max() < 1
    assert from_table(table)[0].frac_coords.max() < 1


def test_duplicate_ids_are_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "table.parquet"
    with pytest.raises(ContractError, match=r"table\.parquet: id 'b' of row 2 occurs twice"):
        write_table(to_table([crystal("a"), crystal("b"), crystal("b")]), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "broken",
    [
        crystal("b", lattice=None),
        crystal("b", frac_coords=None),
        crystal("b", atomic_numbers=None),
        crystal("b", lattice=np.eye(2)),
        crystal("b", frac_coords=np.zeros((3, 3))),
        crystal("b", frac_coords=np.zeros((0, 3)), atomic_numbers=np.zeros(0, np.uint8)),
    ],
)
def test_an_ok_row_needs_geometry_that_fits(broken):
    table = to_table([crystal("a"), broken])
    with pytest.raises(ContractError, match=r"x\.parquet: row 1 \('b'\) is 'ok' but has"):
        check_table(table, Path("x.parquet"))
    check_table(to_table([crystal("a"), replace(broken, status="bad_lattice")]), Path("x.parquet"))


@pytest.mark.parametrize("name", GEOMETRY.names)
def test_missing_or_mistyped_columns_are_named(name):
    table = to_table([crystal()])
    with pytest.raises(ContractError, match=f"column '{name}'"):
        check_table(table.drop_columns([name]), Path("x.parquet"))
    with pytest.raises(ContractError, match=f"column '{name}'"):
        check_table(replace_columns(table, {name: (pa.int32(), [1])}), Path("x.parquet"))


def test_truncated_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "table.parquet"
    write_table(to_table([crystal(f"c{i}") for i in range(100)]), path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], b"", b"not a table at all"):
        path.write_bytes(content)
        with pytest.raises(ContractError, match=r"table\.parquet: not a readable Parquet file.*rerun its stage"):
            read_table(path)
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.parquet")


@pytest.mark.parametrize("contract", [None, "crystals/0", "metrics/1"])
def test_other_contracts_are_refused(tmp_path, contract):
    path = tmp_path / "table.parquet"
    metadata = {} if contract is None else {"contract": contract}
    pq.write_table(to_table([crystal()]).replace_schema_metadata(metadata), path)
    with pytest.raises(ContractError, match=f"contract is {contract!r}, expected '{CONTRACT}'"):
        read_table(path)


def test_tables_broken_behind_our_back_are_refused(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(to_table([crystal(), crystal()]).replace_schema_metadata({"contract": CONTRACT}), path)
    with pytest.raises(ContractError, match="occurs twice"):
        read_table(path)


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "table.parquet"
    write_table(to_table([crystal("old")]), path)

    def fail(table, target, **_):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table(to_table([crystal("new")]), path)
    monkeypatch.undo()
    assert [row.id for row in read_crystals(path)] == ["old"]
    assert list(path.parent.iterdir()) == [path]


def test_rewriting_the_same_rows_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_table(to_table([crystal(f"c{i}", n=i + 1) for i in range(9)]), tmp_path / name, dataset="x")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_columns_are_replaced_in_place_or_appended():
    table = to_table([crystal("a"), crystal("b")], {"x": pa.float64()})
    changed = replace_columns(table, {"x": (pa.int64(), [1, 2]), "y": (pa.string(), ["p", None])})
    assert changed.column_names == [*GEOMETRY.names, "x", "y"]
    assert changed["x"].to_pylist() == [1, 2]
    assert changed["y"].to_pylist() == ["p", None]
    check_table(changed, Path("x.parquet"))


def test_empty_tables_are_tables(tmp_path):
    write_table(to_table([]), tmp_path / "table.parquet")
    assert read_crystals(tmp_path / "table.parquet") == []


def test_a_column_of_another_type_is_not_called_missing(tmp_path):
    table = to_table([]).set_column(0, "id", pa.array([], pa.int64()))
    with pytest.raises(ContractError, match=r"column 'id' has type int64, expected string"):
        write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ContractError, match=r"column 'status' is missing"):
        write_table(to_table([]).drop_columns("status"), tmp_path / "t.parquet")
