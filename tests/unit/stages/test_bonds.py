"""Stage `bonds`: failed rows, chunks that fail, metadata, the command."""

import pyarrow.parquet as pq
import pytest

import bonds as script
from real_crystals import embedded
from xtalgen.crystals import Crystal, read_crystals, read_metadata, read_table, to_table, write_table
from xtalgen.featurizers import bonds
from xtalgen.runtime.parallel import Failure
from xtalgen.stages import bonds as stage

BROKEN = Crystal("broken", "unparsable")


def table(tmp_path, crystals):
    path = tmp_path / "val.parquet"
    write_table(to_table(crystals), path, dataset="mine", caveat="few")
    return path


def test_failed_rows_stay_and_metadata_is_kept(tmp_path):
    crystals = [embedded(20)[0], BROKEN, embedded(20)[1]]
    out = tmp_path / "out.parquet"
    stage.add_bonds(table(tmp_path, crystals), out=out, work=tmp_path / "work", workers=1, timeout=60.0)
    read = read_table(out)
    assert read["id"].to_pylist() == [c.id for c in crystals]
    assert read["bonds"].to_pylist()[1] is None
    assert read["bonds_source"].to_pylist() == ["crystal_nn", None, "crystal_nn"]
    assert read_metadata(read) == {"contract": "crystals/1", "dataset": "mine", "caveat": "few", "bonds_fallbacks": "0"}
    assert read_crystals(out)[0].info["bonds"] == bonds.bonds_of(crystals[0])[0]
    assert not (tmp_path / "work").exists()


def dies_of_the_second(crystal):
    if crystal.id == "second":
        raise RuntimeError("bad luck")
    return [0, 0, 1, 0, 0], "crystal_nn"


def fails_as_a_chunk(crystals):
    raise MemoryError("all of them")


def test_a_chunk_that_fails_is_done_again_one_by_one(tmp_path, monkeypatch, caplog):
    first, second = embedded(20)[:2]
    crystals = [first, Crystal("second", "ok", second.lattice, second.frac_coords, second.atomic_numbers)]
    monkeypatch.setattr(stage, "bonds_of_chunk", fails_as_a_chunk)
    monkeypatch.setattr(stage, "bonds_of", dies_of_the_second)
    monkeypatch.setattr(stage, "map_items", in_process)
    monkeypatch.setattr(stage, "map_resumably", lambda f, items, **_: list(in_process(f, items)))
    out = tmp_path / "out.parquet"
    stage.add_bonds(table(tmp_path, crystals), out=out, work=tmp_path / "work", workers=1, timeout=60.0)
    read = read_table(out)
    assert read["bonds_source"].to_pylist() == ["crystal_nn", "radius"]
    assert read_metadata(read)["bonds_fallbacks"] == "1"
    assert "1 of 2 crystals" in caplog.text


def in_process(function, items, **_):
    for item in items:
        try:
            yield function(item)
        except (RuntimeError, MemoryError) as error:
            yield Failure("error", str(error))


def test_command(tmp_path):
    out = tmp_path / "out.parquet"
    given = table(tmp_path, embedded(20)[:2])
    script.main(["--table", str(given), "--workers", "1", "--work", str(tmp_path / "work"), "--out", str(out)])
    assert pq.read_table(out).num_rows == 2
    given.write_bytes(b"no table")
    with pytest.raises(SystemExit, match="not a readable Parquet file"):
        script.main(["--table", str(given), "--workers", "1", "--work", str(tmp_path / "work"), "--out", str(out)])
