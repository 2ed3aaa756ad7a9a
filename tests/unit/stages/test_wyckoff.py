"""Stage `wyckoff`: failed rows, chunks that fail, metadata, the command."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import wyckoff as script
from crystal_cases import BROKEN, NOT_DESCRIBED, SALT
from real_crystals import embedded
from xtalgen.crystals import read_crystals, read_metadata, read_table, replace_columns, to_table, write_table
from xtalgen.runtime.parallel import Failure
from xtalgen.stages import wyckoff as stage
from xtalgen.stages.wyckoff import add_wyckoff
from xtalgen.structure import wyckoff


def table(tmp_path, crystals):
    path = tmp_path / "val.parquet"
    extra = {"formula": (pa.string(), [f"formula of {one.id}" for one in crystals])}
    write_table(replace_columns(to_table(crystals), extra), path, dataset="mine", caveat="few")
    return path


def in_process(function, items, **_):
    for one in items:
        try:
            yield function(one)
        except (RuntimeError, MemoryError) as error:
            yield Failure("error", str(error))


def test_failed_rows_stay_and_are_counted(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(stage, "map_items", in_process)
    monkeypatch.setattr(stage, "CHUNK", 2)
    crystals = [SALT, BROKEN, *NOT_DESCRIBED.values(), embedded(250)[1]]
    given, out = table(tmp_path, crystals), tmp_path / "out.parquet"
    add_wyckoff(given, out=out, workers=1, timeout=60.0)
    read = read_table(out)
    assert [row is None for row in read["wyckoff"].to_pylist()] == [False, True, True, True, False]
    assert read.drop_columns("wyckoff").equals(read_table(given)), "other columns are left alone"
    assert read_metadata(read) == {
        "contract": "crystals/1",
        "dataset": "mine",
        "caveat": "few",
        "wyckoff_symprec": "0.1",
        "wyckoff_missing": "2",
    }
    assert "no Wyckoff positions for 2 of 5 crystals" in caplog.text
    assert read_crystals(out)[0].info["wyckoff"] == wyckoff.describe(SALT)


def fails_as_a_chunk(crystals):
    raise MemoryError("all of them")


def test_a_chunk_that_fails_is_done_again_one_by_one(tmp_path, monkeypatch):
    real = wyckoff.describe

    def dies(given):
        if given.id == "second":
            raise RuntimeError("bad luck")
        return real(given)

    monkeypatch.setattr(stage, "describe_chunk", fails_as_a_chunk)
    monkeypatch.setattr(stage, "describe", dies)
    monkeypatch.setattr(stage, "map_items", in_process)
    out = tmp_path / "out.parquet"
    crystals = [SALT, replace(SALT, id="second"), replace(SALT, id="third")]
    add_wyckoff(table(tmp_path, crystals), out=out, workers=1, timeout=60.0)
    read = read_table(out)
    assert [row and row["spg_num"] for row in read["wyckoff"].to_pylist()] == [225, None, 225]
    assert read_metadata(read)["wyckoff_missing"] == "1"


def test_an_empty_table_gets_the_column(tmp_path):
    out = tmp_path / "out.parquet"
    add_wyckoff(table(tmp_path, []), out=out, workers=1, timeout=60.0)
    read = read_table(out)
    assert read.num_rows == 0
    assert read.schema.field("wyckoff").type == wyckoff.KIND


def test_command(tmp_path):
    given, out = table(tmp_path, [SALT, BROKEN]), tmp_path / "out.parquet"
    script.main(["--table", str(given), "--workers", "1", "--out", str(out)])
    assert pq.read_table(out)["wyckoff"].to_pylist()[0]["letters"] == "ab"
    given.write_bytes(b"no table")
    with pytest.raises(SystemExit, match="not a readable Parquet file"):
        script.main(["--table", str(given), "--workers", "1", "--out", str(out)])
