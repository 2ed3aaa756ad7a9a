"""Answers of OPTIMADE servers, lines of OPTIMADE, and tables with its columns (LeMat-Bulk, Alexandria)."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from user_files import assert_salt, imported, statuses

SITES = {
    "lattice_vectors": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]],
    "cartesian_site_positions": [[0.4, 0.8, 1.2], [2.4, 2.8, 3.2]],
    "species_at_sites": ["Na", "Cl1"],
    "species": [
        {"name": "Na", "chemical_symbols": ["Na"], "concentration": [1.0]},
        {"name": "Cl1", "chemical_symbols": ["Cl"], "concentration": [1.0]},
    ],
    "dimension_types": [1, 1, 1],
}


def entry(identifier, **changes):
    return {"id": identifier, "type": "structures", "attributes": {**SITES, **changes}}


def test_an_answer_of_a_server(tmp_path):
    mixed = [{"name": "Na", "chemical_symbols": ["Na", "K"], "concentration": [0.5, 0.5]}, SITES["species"][1]]
    vacant = [{"name": "Na", "chemical_symbols": ["Na", "vacancy"], "concentration": [0.9, 0.1]}, SITES["species"][1]]
    content = {
        "data": [
            entry("mp-1"),
            entry("mp-2", species=mixed),
            entry("mp-3", species=vacant),
            entry("mp-4", dimension_types=[1, 1, 0]),
            entry("mp-5", cartesian_site_positions=[[0, 0, None], [1, 1, 1]]),
        ],
        "meta": {"api_version": "1.2.0", "more_data_available": False},
        "links": {"next": None},
    }
    crystals = imported(tmp_path, "mine.json", json.dumps(content))
    assert statuses(crystals) == ["ok", "disordered", "disordered", "bad_lattice", "unparsable"]
    assert_salt(crystals[0])
    assert [crystal.info["source_name"] for crystal in crystals] == [f"mp-{index}" for index in range(1, 6)]


def test_one_structure_and_lines(tmp_path):
    (crystal,) = imported(tmp_path, "mine.json", json.dumps({"data": entry("mp-1"), "meta": {}}))
    assert_salt(crystal)
    lines = [{"x-optimade": {"meta": {"api_version": "1.2.0"}}}, entry("mp-1"), entry("mp-2")]
    crystals = imported(tmp_path, "lines.jsonl", "\n".join(map(json.dumps, lines)))
    assert [crystal.info["source_name"] for crystal in crystals] == ["mp-1", "mp-2"]
    assert_salt(crystals[1], prefix="lines")


def test_tables_with_its_columns(tmp_path):
    plain = {key: SITES[key] for key in ("lattice_vectors", "cartesian_site_positions")} | {
        "species_at_sites": ["Na", "Cl"],
        "immutable_id": "agm1",
        "id": "agm1",
        "energy": -7.5,
    }
    pq.write_table(pa.Table.from_pylist([plain, {**plain, "id": "agm2"}]), tmp_path / "table.parquet")
    first, second = imported(tmp_path, "mine.parquet", (tmp_path / "table.parquet").read_bytes())
    assert_salt(first)
    assert (second.info["source_name"], second.info["energy_given"]) == ("agm2", -7.5)
