"""Splitting and merging lose nothing, whatever the number of shards."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtalgen.crystals import ContractError, Crystal, read_metadata, read_table, to_table, write_table
from xtalgen.io.shards import split
from xtalgen.stages.merge import merge


def crystals(n):
    geometry = {"lattice": np.eye(3), "frac_coords": np.zeros((1, 3)), "atomic_numbers": np.array([3], np.uint8)}
    return [Crystal(f"x-{i:06d}", "ok", **geometry) if i % 3 else Crystal(f"x-{i:06d}", "unparsable") for i in range(n)]


@given(n=st.integers(0, 30), shards=st.integers(1, 7))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_merge_undoes_split(tmp_path, n, shards):
    whole, again = tmp_path / "whole.parquet", tmp_path / "again.parquet"
    write_table(to_table(crystals(n)), whole, potential="chgnet")
    parts = [tmp_path / f"{i}.parquet" for i in range(shards)]
    split(whole, parts)
    merge(parts[::-1], again)
    assert read_table(again).equals(read_table(whole))
    sizes = [read_table(part).num_rows for part in parts]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1


def test_seconds_add_up_and_other_metadata_is_kept(tmp_path):
    paths = []
    for i, (device, seconds) in enumerate([("cpu", "1.5"), ("H200", "2.0"), ("cpu", "0.25")]):
        paths.append(tmp_path / f"{i}.parquet")
        write_table(to_table([Crystal(f"x-{i}", "failed")]), paths[-1], seconds=seconds, device=device, model="flowmm")
    merge(paths, tmp_path / "all.parquet")
    found = read_metadata(read_table(tmp_path / "all.parquet"))
    assert (found["seconds"], found["device"], found["model"]) == ("3.750", "cpu; H200", "flowmm")


def test_a_column_that_is_empty_in_one_shard_keeps_its_type(tmp_path):
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    write_table(to_table([Crystal("a", "failed", info={"energy": 1.0})], {"energy": pa.float64()}), paths[0])
    write_table(to_table([Crystal("b", "failed")], {"energy": pa.null()}), paths[1])
    merge(paths, tmp_path / "all.parquet")
    assert read_table(tmp_path / "all.parquet")["energy"].to_pylist() == [1.0, None]


def test_the_same_crystal_in_two_shards_is_refused(tmp_path):
    write_table(to_table([Crystal("a", "failed")]), tmp_path / "a.parquet")
    with pytest.raises(ContractError, match="'a' of row 1 occurs twice"):
        merge([tmp_path / "a.parquet", tmp_path / "a.parquet"], tmp_path / "all.parquet")
