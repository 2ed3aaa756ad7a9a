import csv
import gzip
import json
import os
import time

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

import data as script
from xtalgen.crystals import GEOMETRY, read_crystals, read_metadata, read_table
from xtalgen.datasets.registry import read_caveats
from xtalgen.datasets.sources import Record, SourceError
from xtalgen.runtime.download import DownloadError
from xtalgen.stages import data
from xtalgen.stages.data import choose_records, parse_record, parse_records, prepare_data, read_properties

ROCK_SALT = str(CifWriter(Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])))
COLUMNS = ["material_id", "cif", "formation_energy_per_atom", "band_gap", "e_above_hull", "spacegroup.number"]


def write_csv(path, rows, columns=COLUMNS):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def prepare(tmp_path, dataset="mine", split="train", **options):
    out = tmp_path / "out" / f"{split}.parquet"
    settings = {"source": None, "workers": 1, "limit": None, "seed": 0, "downloads": tmp_path / "downloads"}
    prepare_data(dataset, split, out=out, **{**settings, **options})
    return out


def test_embedded_data_set_needs_no_file(tmp_path):
    table = read_table(prepare(tmp_path, "aflow_20", "val"))
    assert table.num_rows == 25
    assert table.schema.names == [*GEOMETRY.names, *data.COLUMNS]
    assert set(table["status"].to_pylist()) == {"ok"}
    assert table["error"].null_count == 25
    assert table["spg_num"].null_count == 0
    assert read_metadata(table)["published"] == "unknown"


def test_the_same_call_writes_the_same_bytes(tmp_path):
    first = prepare(tmp_path / "a", "aflow_20", "test", limit=5).read_bytes()
    assert prepare(tmp_path / "b", "aflow_20", "test", limit=5).read_bytes() == first


def test_grouped_data_set_keeps_polymorphs_together(tmp_path):
    folder = tmp_path / "mp_20"
    folder.mkdir()
    formulas = [f"{a}{b}" for a in ("Li", "Na", "K", "Rb") for b in ("F", "Cl", "Br", "I", "O2", "S3")]
    columns = ["material_id", "cif", "pretty_formula"]
    for number, split in enumerate(("train", "val", "test")):
        # Every formula stands in two of the published splits.
        rows = [[f"{split}-{f}", ROCK_SALT, f] for i, f in enumerate(formulas) if i % 3 != number]
        write_csv(folder / f"{split}.csv", rows, columns)
    found = {}
    for split in ("train", "val", "test"):
        table = read_table(prepare(tmp_path, "mp_20_grouped", split, source=folder))
        found[split] = table["id"].to_pylist()
        assert read_metadata(table)["published"] == "unknown"
        assert "split anew" in read_metadata(table)["caveat"]
    assert sorted(name for ids in found.values() for name in ids) == sorted(
        f"{split}-{f}" for n, split in enumerate(found) for i, f in enumerate(formulas) if i % 3 != n
    )
    of = {split: {name.split("-")[1] for name in ids} for split, ids in found.items()}
    assert of["train"]
    assert len(set.union(*of.values())) == sum(map(len, of.values()))
    write_csv(folder / "val.csv", [["x", ROCK_SALT]], columns[:2])
    with pytest.raises(SourceError, match=r"val\.csv: no column 'pretty_formula'"):
        prepare(tmp_path, "mp_20_grouped", "train", source=folder)


def test_broken_rows_keep_their_place(tmp_path):
    source = write_csv(
        tmp_path / "train.csv",
        [
            ["good", ROCK_SALT, "-3.0", "4.5", "0.0", "221"],
            ["cut", ROCK_SALT[:200], "-3.0", "", "0.0", "221"],
            ["alien", ROCK_SALT.replace("  Mg  ", "  Zz  "), "", "", "", ""],
            ["half", ROCK_SALT.replace("  1\n  O", "  0.5\n  O"), "", "", "", ""],
            ["flat", ROCK_SALT.replace("_length_a   4.2", "_length_a   0.0"), "", "", "", ""],
            ["number", ROCK_SALT, "minus three", "inf", "0.01", "231"],
        ],
    )
    crystals = {crystal.id: crystal for crystal in read_crystals(prepare(tmp_path, source=source))}
    assert [(crystal.id, crystal.status) for crystal in crystals.values()] == [
        ("good", "ok"),
        ("cut", "unparsable"),
        ("alien", "unknown_element"),
        ("half", "disordered"),
        ("flat", "bad_lattice"),
        ("number", "ok"),
    ]
    good = crystals["good"].info
    assert good == {
        "formula": "MgO",
        "e_form_per_atom": -3.0,
        "band_gap": 4.5,
        "e_above_hull": 0.0,
        "spg_num": 221,
        "error": None,
        "warning": None,
    }
    assert crystals["cut"].lattice is None
    assert crystals["cut"].info["e_form_per_atom"] == -3.0
    assert all(crystals[name].info["error"] for name in ("cut", "alien", "half", "flat"))
    number = crystals["number"].info
    assert number["e_form_per_atom"] is None
    assert number["spg_num"] is None
    assert number["e_above_hull"] == 0.01
    assert "column formation_energy_per_atom: 'minus three' is no number" in number["error"]
    assert "column band_gap: 'inf' is not finite" in number["error"]
    assert "column spacegroup.number: '231' is no space group" in number["error"]


def test_properties_by_the_names_of_the_known_data_sets():
    assert read_properties({"energy_above_hull": "0.2", "ind_gap": "1", "dir_gap": "2"}) == (
        {"e_form_per_atom": None, "band_gap": 1.0, "e_above_hull": 0.2, "spg_num": None},
        [],
    )
    assert read_properties({"band_gap": "NaN", "spg_num": "225.0"})[0]["spg_num"] == 225


def test_one_atom_cell(tmp_path):
    iron = Structure(Lattice([[-1.4, 1.4, 1.4], [1.4, -1.4, 1.4], [1.4, 1.4, -1.4]]), ["Fe"], [[0.3, 0, 0]])
    source = write_csv(tmp_path / "train.csv", [["fe", str(CifWriter(iron))]], ["material_id", "cif"])
    (crystal,) = read_crystals(prepare(tmp_path, source=source))
    assert crystal.ok
    assert crystal.n_atoms == 1
    assert crystal.info["formula"] == "Fe"


def test_limit_is_a_seeded_subset_in_file_order():
    records = [Record(str(i), "", {}) for i in range(100)]
    chosen = [int(record.id) for record in choose_records(records, 10, 0)]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 10
    assert chosen == [int(record.id) for record in choose_records(records, 10, 0)]
    assert chosen != [int(record.id) for record in choose_records(records, 10, 1)]
    assert choose_records(records, 1000, 0) == choose_records(records, None, 0) == records
    with pytest.raises(SourceError, match="at least one"):
        choose_records(records, 0, 0)


def test_limit_is_said_and_taken_before_parsing(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(data, "parse_record", lambda record: parsed.append(record.id) or parse_record(record))
    out = prepare(tmp_path, "aflow_20", "train", limit=7, seed=3)
    assert len(parsed) == 7
    assert read_caveats([out])[1] == "aflow_20 train: random 7 of 200 crystals (seed 3)"


def test_metadata_names_the_source_but_no_place(tmp_path):
    source = write_csv(tmp_path / "train.csv", [["a", ROCK_SALT]], ["material_id", "cif"])
    metadata = read_metadata(read_table(prepare(tmp_path, source=tmp_path)))
    assert metadata["dataset"] == "mine"
    assert metadata["split"] == "train"
    assert metadata["source"] == "train.csv"
    assert len(metadata["source_sha256"]) == 64
    assert metadata["published"] == "unknown"
    assert str(source.parent) not in str(metadata)


def test_own_data_set_needs_a_source(tmp_path):
    with pytest.raises(SourceError, match=r"mine: no published data set.*aflow_20.*--source"):
        prepare(tmp_path)
    with pytest.raises(SourceError, match="no split 'holdout'"):
        prepare(tmp_path, "mp_20", "holdout")


def test_published_data_set_is_downloaded_once_asked_for(tmp_path, monkeypatch):
    asked = []

    def fetch(url, out, git_blob_id=None):
        asked.append((url, git_blob_id))
        out.parent.mkdir(parents=True)
        write_csv(out, [["a", ROCK_SALT, "1", "2", "3", "4"]])

    monkeypatch.setattr(data, "fetch", fetch)
    out = prepare(tmp_path, "mp_20", "val")
    assert asked == [
        (
            "https://raw.githubusercontent.com/txie-93/cdvae/f857f598d6f6cca5dc1ea0582d228f12dcc2c2ea/data/mp_20/val.csv",
            "7efe4d7ebeb4f460ceaad35e5326c42111d9c9a1",
        )
    ]
    assert (tmp_path / "downloads" / "mp_20" / "val.csv").is_file()
    assert read_metadata(read_table(out))["published"] == "no"


def test_several_workers_give_the_same_crystals_as_one():
    records = [Record(str(i), ROCK_SALT.replace("4.2", f"4.{i:02d}"), {}) for i in range(data.CHUNK + 6)]
    records[3] = Record("3", "broken", {})
    one, two = (parse_records(records, workers=workers) for workers in (1, 2))
    assert [crystal.id for crystal in two] == [record.id for record in records]
    for first, second in zip(one, two, strict=True):
        assert first.status == second.status
        if first.ok:
            np.testing.assert_array_equal(first.lattice, second.lattice)


def crash_or_hang(record):
    if record.text == "crash":
        os._exit(3)
    if record.text == "hang":
        time.sleep(600)
    if record.text == "raise":
        raise RuntimeError("boo")
    return parse_record(record)


def crash_or_hang_by_chunk(records):
    return [crash_or_hang(record) for record in records]


@pytest.mark.slow
def test_rows_that_crash_hang_or_raise_cost_only_themselves(monkeypatch):
    monkeypatch.setattr(data, "parse_chunk", crash_or_hang_by_chunk)
    monkeypatch.setattr(data, "parse_record", crash_or_hang)
    texts = [ROCK_SALT, "crash", "raise", ROCK_SALT]
    crystals = parse_records([Record(str(i), text, {"band_gap": "1"}) for i, text in enumerate(texts)], workers=2)
    assert [crystal.status for crystal in crystals] == ["ok", "unparsable", "unparsable", "ok"]
    assert "process died" in crystals[1].info["error"]
    assert "boo" in crystals[2].info["error"]
    assert crystals[1].info["band_gap"] == 1.0
    monkeypatch.setattr(data, "ROW_SECONDS", 0.5)
    (crystal,) = parse_records([Record("0", "hang", {})], workers=2)
    assert crystal.status == "unparsable"
    assert "no result within" in crystal.info["error"]


def test_script_takes_the_documented_options(tmp_path):
    out = tmp_path / "val.parquet"
    script.main(
        ["--dataset", "aflow_20", "--split", "val", "--limit", "3", "--seed", "1", "--out", str(out), "--workers", "1"]
    )
    assert read_table(out).num_rows == 3


def test_script_ends_with_one_clear_line(tmp_path):
    with pytest.raises(SystemExit) as caught:
        script.main(["--dataset", "mine", "--split", "val", "--out", str(tmp_path / "x.parquet")])
    assert str(caught.value).startswith("error: mine: no published data set of this name")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.parquet").exists()


def test_failed_download_is_one_clear_line(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise DownloadError("no way")

    monkeypatch.setattr(data, "fetch", refuse)
    with pytest.raises(SystemExit, match="error: no way"):
        script.main(["--dataset", "mp_20", "--split", "val", "--out", str(tmp_path / "x.parquet")])


def test_json_structures_of_a_known_data_set(tmp_path):
    poscar = "System\n1.0\n4 0 0\n0 4 0\n0 0 4\nMg O\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"
    (tmp_path / "structures.json").write_text(json.dumps({"train": {"7": poscar.replace("\n", "\\n")}}))
    out = prepare(tmp_path, "perov_5", source=tmp_path)
    (crystal,) = read_crystals(out)
    assert crystal.ok
    assert crystal.info["formula"] == "MgO"
    assert "structures only" in read_caveats([out])[0]


@pytest.mark.parametrize("dataset", ["perov_5", "carbon_24", "mpts_52"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_subsets_of_the_shared_data_sets_parse(shared_data, tmp_path, dataset, split):
    table = read_table(prepare(tmp_path, dataset, split, source=shared_data / dataset, limit=100))
    assert table["status"].to_pylist() == ["ok"] * 100
    assert (table["e_above_hull"].null_count == 0) == (dataset == "mpts_52")


@pytest.mark.long
@pytest.mark.parametrize(("split", "rows"), [("val", 9047), ("test", 9046)])
def test_all_rows_of_the_published_splits_parse(shared_data, tmp_path, split, rows):
    table = read_table(prepare(tmp_path, "mp_20", split, source=shared_data / "mp_20"))
    assert table["status"].to_pylist() == ["ok"] * rows
    for name in ("e_form_per_atom", "band_gap", "e_above_hull", "spg_num", "formula"):
        assert table[name].null_count == 0
    assert table["error"].null_count == rows
    assert read_metadata(table)["published"] == "yes"
    sizes = [len(numbers) for numbers in table["atomic_numbers"].to_pylist()]
    assert max(sizes) == 20
    assert min(sizes) == 1


def test_parsing_never_raises_for_what_a_row_holds():
    for text in ("", "x", "{", ROCK_SALT[:300], "_cell_length_a 1", "\x00"):
        crystal = parse_record(Record("a", text, {"band_gap": "x"}))
        assert not crystal.ok
        assert crystal.info["error"].endswith("column band_gap: 'x' is no number")


def test_columns_hold_what_parsing_gives():
    crystal = parse_record(Record("a", ROCK_SALT, {}))
    assert set(crystal.info) == set(data.COLUMNS)
    assert data.COLUMNS["spg_num"] == pa.int16()


def test_gz_file_as_source(tmp_path):
    path = write_csv(tmp_path / "whatever.csv", [["a", ROCK_SALT]], ["material_id", "cif"])
    packed = tmp_path / "whatever.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_table(prepare(tmp_path, source=packed)).num_rows == 1
