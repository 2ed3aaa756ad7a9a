"""Columns of tables: those of other benchmarks, the ones asked for, Parquet of others and our own."""

import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from user_files import SALT, assert_salt, cif, imported, statuses
from xtalgen.crystals import Crystal, to_table, write_table
from xtalgen.io.readers.tables import find_column
from xtalgen.io.structure_files import parse_entry, read_entries

POSCAR = SALT.to(fmt="poscar")
CELLS = {
    "cif": cif(),
    "structure": json.dumps(SALT.as_dict()),
    "LeMatStructs": str(SALT.as_dict()),
    "cif_string": cif(),
    "prediction": POSCAR.replace("\n", "\\n"),  # AtomBench
}


def record():
    """Returns a structure without the empty dictionaries, which Parquet cannot hold."""
    sites = [{key: site[key] for key in ("species", "abc", "xyz", "label")} for site in SALT.as_dict()["sites"]]
    return {"lattice": SALT.as_dict()["lattice"], "sites": sites}


def table(columns):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerow(columns.values())
    return text.getvalue()


@pytest.mark.parametrize("column", CELLS)
@pytest.mark.parametrize("packed", [False, True])
def test_usual_columns_are_found(tmp_path, column, packed):
    text = table({"material_id": "mp-1", column: CELLS[column], "energy": "-3.5"}).encode()
    (crystal,) = imported(tmp_path, f"mine.csv{'.gz' if packed else ''}", gzip.compress(text) if packed else text)
    assert_salt(crystal)
    assert crystal.info == {"source_name": "mp-1", "error": None, "warning": None, "energy_given": -3.5}


def test_targets_are_read_where_their_column_is_asked_for(tmp_path):
    other = POSCAR.replace("Na Cl", "K Cl")
    path = tmp_path / "mine.csv"
    path.write_text(table({"id": "JVASP-1", "target": other, "prediction": POSCAR.replace("\n", "\\n")}))
    (prediction,) = map(parse_entry, read_entries(path))
    (target,) = map(parse_entry, read_entries(path, "Target"))
    assert (prediction.info["source_name"], target.info["source_name"]) == ("JVASP-1", "JVASP-1")
    assert prediction.atomic_numbers.tolist() == [11, 17]
    assert target.atomic_numbers.tolist() == [19, 17]


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "mine.csv").write_text(table({"id": "1", "cif": cif()}))
    with pytest.raises(ValueError, match=r"mine\.csv: no column `relaxed`; there are 'id', 'cif'\. .*--column"):
        read_entries(tmp_path / "mine.csv", "relaxed")
    pq.write_table(pa.table({"id": ["1"], "cif": [cif()]}), tmp_path / "mine.parquet")
    with pytest.raises(ValueError, match=r"mine\.parquet: no column `relaxed`; there are 'id', 'cif'"):
        read_entries(tmp_path / "mine.parquet", "relaxed")


def test_several_usual_columns_are_a_warning():
    assert find_column(["id", "CIF"], None) == ("cif", None)
    assert find_column(["structure", "cif"], None) == ("cif", "there are columns cif and structure: cif was read")
    assert find_column(["structure", "cif"], "structure") == ("structure", None)


def test_parquet_of_texts_and_of_records(tmp_path):
    for name, cells in (("texts", [cif(), None]), ("records", [record(), None])):
        rows = [{"material_id": f"mp-{index}", "structure": cell} for index, cell in enumerate(cells)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        crystals = [parse_entry(entry) for entry in read_entries(tmp_path / f"{name}.parquet")]
        assert statuses(crystals) == ["ok", "unparsable"]
        assert crystals[0].atomic_numbers.tolist() == [11, 17]
        assert [crystal.info["source_name"] for crystal in crystals] == ["mp-0", "mp-1"]


def test_our_own_tables_keep_every_row_to_the_last_digit(tmp_path):
    coordinates = np.random.default_rng(0).random((5, 3))
    rows = [
        Crystal("a-0", "ok", np.eye(3) * np.pi, coordinates, np.arange(1, 6, dtype=np.uint8), {"energy_given": -1.0}),
        Crystal("a-1", "too_close", info={"error": "atoms overlap", "source_name": "mp-7"}),
    ]
    columns = {"source_name": pa.string(), "error": pa.string(), "energy_given": pa.float64()}
    write_table(to_table(rows, columns), tmp_path / "mine.parquet")
    first, second = map(parse_entry, read_entries(tmp_path / "mine.parquet"))
    assert first.lattice.tobytes() == rows[0].lattice.tobytes()
    assert first.frac_coords.tobytes() == coordinates.tobytes()
    assert (first.info["source_name"], first.info["energy_given"]) == ("a-0", -1.0)
    assert (second.status, second.info["error"], second.info["source_name"]) == ("too_close", "atoms overlap", "mp-7")


def test_no_parquet(tmp_path):
    (tmp_path / "mine.parquet").write_text("PAR1 or not")
    with pytest.raises(ValueError, match=r"mine\.parquet: not a readable Parquet file"):
        read_entries(tmp_path / "mine.parquet")
