"""The stage import_structures: wrong files, shards, many entries, the command line."""

import csv
import dataclasses
import gzip
import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

import import_structures as script
from user_files import SALT, assert_salt, cif, frames, imported, statuses, zipped
from xtalgen.crystals import read_crystals, read_metadata, read_table
from xtalgen.io import structure_files
from xtalgen.io.structure_files import read_entries
from xtalgen.stages.import_structures import find_structure_file, import_structures


def test_metadata_names_the_file(tmp_path):
    imported(tmp_path, "mine.cif", cif())
    metadata = read_metadata(read_table(tmp_path / "out.parquet"))
    assert metadata["source"] == "mine.cif"
    assert len(metadata["sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.pdb", "x", "unknown suffix; allowed are .extxyz, .xyz, .cif"),
        ("mine.cif", "", "mine.cif is empty"),
        ("mine.extxyz", " \n\n", "mine.extxyz is empty"),
        ("mine.xyz", "hello\nworld\n", "line 1 is not a number of atoms"),
        ("mine.zip", "no archive", "not a readable zip archive"),
        ("mine.zip", zipped(README="x"), "no crystal found"),
        ("mine.csv", "formula,energy\nx,1\n", "no column `cif`; there are 'formula', 'energy'"),
        ("mine.csv", "cif\n", "no crystal found"),
        ("mine.json", "{", "not readable JSON"),
        ("mine.json", "3", "neither a pymatgen Structure nor"),
        ("mine.json", "[" * 100000, "not readable JSON"),
        ("mine.json", "[]", "no crystal found"),
        ("mine.json.gz", "plain", "not a readable gzip file"),
        ("mine.json.gz", gzip.compress(b"[" * 5000, mtime=0)[:-9], "not a readable gzip file"),
    ],
)
def test_wrong_files_are_named_with_a_remedy(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=f"{name}.*{message}" if not message.startswith("mine") else message):
        imported(tmp_path, name, content)


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(structure_files, "MAX_MEMBER_BYTES", 10_000)
    monkeypatch.setattr(structure_files, "MAX_BYTES", 100_000)
    crystals = imported(tmp_path, "mine.zip", zipped(a_cif=cif(), b_cif="x" * 50_000))
    assert statuses(crystals) == ["ok", "unparsable"]
    assert "unpacks to more than 10000 bytes" in crystals[1].info["error"]
    with pytest.raises(ValueError, match=r"mine.zip: unpacks to more than 100000 bytes"):
        imported(tmp_path, "mine.zip", zipped(**{f"m{index}_cif": "x" * 9000 for index in range(20)}))
    (tmp_path / "mine.zip").unlink()
    with pytest.raises(ValueError, match=r"mine.json.gz: unpacks to more than 100000 bytes"):
        imported(tmp_path, "mine.json.gz", gzip.compress(b" " * 200_000, mtime=0))
    (tmp_path / "mine.json.gz").unlink()
    with pytest.raises(ValueError, match=r"mine.cif: larger than 100000 bytes"):
        imported(tmp_path, "mine.cif", "#" * 200_000)


def test_a_bomb_costs_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(structure_files, "MAX_MEMBER_BYTES", 10_000)
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(a_cif=b"x" * 50_000_000))
    tracemalloc.start()
    (entry,) = read_entries(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert entry.kind == "broken"
    assert peak < 5_000_000


def test_two_files_of_one_name(tmp_path):
    for name in ("mine.cif", "mine.v2.json"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError, match=r"mine.cif and .*mine.v2.json share the name 'mine'"):
        find_structure_file(tmp_path, "mine")


def test_finding_a_file(tmp_path):
    for name in ("a.extxyz", "b.json.gz", "C.CIF", "README.md", "ab.cif"):
        (tmp_path / name).write_text("x")
    for name, file in (("a", "a.extxyz"), ("b", "b.json.gz"), ("C", "C.CIF")):
        assert find_structure_file(tmp_path, name) == tmp_path / file
    with pytest.raises(FileNotFoundError, match=r"nope\.\*: there is no such file. Give one that ends in \.extxyz"):
        find_structure_file(tmp_path, "nope")
    for name in ("../a", "", ".", "a/b"):
        with pytest.raises(ValueError, match="is not the name of a file"):
            find_structure_file(tmp_path, name)
    with pytest.raises(ValueError, match=r"README.md: unknown suffix"):
        find_structure_file(tmp_path, "README")
    with pytest.raises(FileNotFoundError, match=r"a.cif: there is no such file; .*a.extxyz is there"):
        import_structures(tmp_path / "a.cif", out=[tmp_path / "o.parquet"], workers=1)


@pytest.mark.slow
def test_many_entries_in_worker_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("xtalgen.stages.import_structures.FEW_ENTRIES", 3)
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(**{f"m{index}_cif": cif(occupancy="0.5" if index == 4 else "1") for index in range(6)}))
    import_structures(path, out=[tmp_path / "out.parquet"], workers=2)
    crystals = read_crystals(tmp_path / "out.parquet")
    assert statuses(crystals) == ["ok"] * 4 + ["disordered", "ok"]
    assert [crystal.info["source_name"] for crystal in crystals] == [f"m{index}.cif" for index in range(6)]


def test_shards_hold_every_row_once(tmp_path):
    path = tmp_path / "mine.extxyz"
    path.write_text(frames({}, {}, {}))
    shards = [tmp_path / f"{index}.parquet" for index in range(5)]
    script.main(["--structures", str(path), "--workers", "1", "--out", *map(str, shards)])
    ids = [crystal.id for shard in shards for crystal in read_crystals(shard)]
    assert ids == ["mine-000000", "mine-000001", "mine-000002"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [*(shard.name for shard in shards), "mine.extxyz"]
    )


def test_command_line_reports_and_refuses(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "mine.zip"
    path.write_bytes(zipped(a_cif=cif(), **{f"b{index}_cif": "x" for index in range(12)}))
    script.main(["--structures", str(path), "--out", str(tmp_path / "out.parquet")])
    log = caplog.text
    assert "13 crystals: 12 unparsable, 1 ok" in log
    assert "mine-000001 (b0.cif):" in log
    assert "and 2 more; see the column `error`" in log
    with pytest.raises(SystemExit, match=r"error: .*no such file"):
        script.main(["--structures", str(tmp_path / "none.cif"), "--out", str(tmp_path / "out.parquet")])


def test_entries_are_in_file_order(tmp_path):
    (tmp_path / "mine.csv").write_text("name,cif\n" + "".join(f"{name},x\n" for name in "zay"))
    assert [entry.name for entry in read_entries(tmp_path / "mine.csv")] == ["z", "a", "y"]


def test_a_file_without_a_crystal_ends_with_an_error_and_keeps_its_rows(tmp_path):
    path, out = tmp_path / "mine.cif", tmp_path / "out.parquet"
    path.write_text(cif(symbol="Vac") + cif("b", occupancy="0.5"))
    with pytest.raises(
        SystemExit, match=r"mine\.cif: none of its 2 entries is a crystal \(.*'Vac' is not an element; "
    ):
        script.main(["--structures", str(path), "--out", str(out)])
    assert statuses(read_crystals(out)) == ["unknown_element", "disordered"]


def test_folders_and_pipes_are_called_so(tmp_path):
    (tmp_path / "mine.cif").mkdir()
    with pytest.raises(
        ValueError, match=r"mine\.cif: no structure file in this folder \(it is empty\)\. Give a folder"
    ):
        import_structures(tmp_path / "mine.cif", out=[tmp_path / "out.parquet"], workers=1)
    os.mkfifo(tmp_path / "pipe.cif")
    with pytest.raises(OSError, match=r"pipe\.cif: is a pipe or a device"):
        import_structures(tmp_path / "pipe.cif", out=[tmp_path / "out.parquet"], workers=1)


def test_a_wrong_suffix_is_refused_before_anything_heavy_is_imported():
    words = "import sys; sys.path[:0] = ['src', 'workflow/scripts']; import import_structures, xtalgen.commands.score"
    heavy = "assert not {'pymatgen', 'ase', 'torch', 'scipy', 'moyopy'} & sys.modules.keys()"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", f"{words}; {heavy}"], cwd=root, check=True)


def test_members_of_a_zip_in_every_text_format(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.cif", cif("x") + "  " + cif("y"))
        archive.writestr("deep/b.vasp", SALT.to(fmt="poscar"))
        archive.writestr("c.xyz", frames({}, {"name": "halite"}))
        archive.writestr("d.xyz", "no frames\n")
        archive.writestr("about.json", "{}")
    crystals = imported(tmp_path, "mine.zip", stream.getvalue())
    assert statuses(crystals) == ["ok"] * 5 + ["unparsable"]
    names = ["a.cif:x", "a.cif:y", "deep/b.vasp", "c.xyz:frame 0", "halite", "d.xyz"]
    assert [crystal.info["source_name"] for crystal in crystals] == names


def test_cells_of_a_csv_hold_any_text_and_several_blocks_are_several_rows(tmp_path):
    cells = [cif("x") + "  " + cif("y"), json.dumps(SALT.as_dict()), SALT.to(fmt="poscar"), cif()]
    text = io.StringIO()
    csv.writer(text).writerows([["id", "cif"], *([str(index), cell] for index, cell in enumerate(cells))])
    crystals = imported(tmp_path, "mine.csv", text.getvalue())
    assert [crystal.info["source_name"] for crystal in crystals] == ["0:x", "0:y", "1", "2", "3"]
    for crystal in crystals:
        assert_salt(crystal)


def test_columns_of_a_csv_are_quoted(tmp_path):
    with pytest.raises(ValueError, match=r"no column `cif`; there are '' \(no name\), 'formula'\. Name the column"):
        imported(tmp_path, "mine.csv", ",formula\n0,NaCl\n")
    with pytest.raises(ValueError, match="several columns `cif`"):
        imported(tmp_path, "mine.csv", "cif,CIF\na,b\n")


def test_what_was_assumed_stands_in_the_row_and_in_the_log(tmp_path, caplog):
    caplog.set_level("INFO")
    text = cif().replace("_symmetry_space_group_name_H-M 'P 1'\n", "")
    (crystal,) = imported(tmp_path, "mine.cif", text)
    assert crystal.info["warning"] == "no symmetry is given: P 1 was assumed"
    assert "1 were read with an assumption" in caplog.text


FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nNa 0 0 0\nCl 2 2 {z}\n'
MANY = {
    "mine.extxyz": lambda index: FRAME.format(z=index / 10_000),
    "mine.cif": lambda index: cif(f"n{index}", z=f"0.{index:04d}"),
    "mine.jsonl": lambda index: json.dumps({"id": index, "structure": SALT.as_dict()}) + "\n",
    "mine.csv": lambda index: f'{"" if index else "cif" + chr(10)}"{cif(z=f"0.{index:04d}")}"\n',
}


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("packed", [False, True])
def test_many_entries_cost_no_more_memory_than_few(tmp_path, monkeypatch, name, packed):
    monkeypatch.setattr("xtalgen.io.streams.PIECE", 10_000)
    peaks = []
    for count in (20, 200, 1000):
        text = "".join(MANY[name](index) for index in range(count)).encode()
        path = tmp_path / f"{name}{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(text) if packed else text)
        tracemalloc.start()
        assert sum(1 for _ in structure_files.iterate_entries(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000


def test_tables_are_written_while_the_file_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("xtalgen.io.streams.PIECE", 10_000)
    monkeypatch.setattr("xtalgen.stages.import_structures.FEW_ENTRIES", 5)
    monkeypatch.setattr("xtalgen.stages.import_structures.BATCH", 20)
    # In this process, so that what it holds is measured.
    monkeypatch.setattr("xtalgen.stages.import_structures.map_in_chunks", lambda parse, batch, **_: map(parse, batch))
    peaks = []
    for count in (20, 200, 1000):  # the first imports what takes memory once
        path = tmp_path / "mine.extxyz"
        path.write_text("".join(MANY["mine.extxyz"](index) for index in range(count)))
        tracemalloc.start()
        import_structures(path, out=[tmp_path / "out.parquet"], workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(read_crystals(tmp_path / "out.parquet")) == count
    assert peaks[2] < peaks[1] + 200_000


def test_batches_and_shards_give_the_rows_of_one_table(tmp_path, monkeypatch):
    path = tmp_path / "mine.extxyz"
    path.write_text(
        "".join(FRAME.format(z=index / 10) if index % 4 else "1\nno cell\nNa 0 0 0\n" for index in range(23))
    )
    import_structures(path, out=[tmp_path / "whole.parquet"], workers=1)
    monkeypatch.setattr("xtalgen.stages.import_structures.BATCH", 5)
    monkeypatch.setattr("xtalgen.io.shards.ROWS", 3)
    import_structures(path, out=[tmp_path / "batches.parquet"], workers=1)
    shards = [tmp_path / f"{index}.parquet" for index in range(4)]
    import_structures(path, out=shards, workers=1)
    whole = read_table(tmp_path / "whole.parquet")
    assert read_table(tmp_path / "batches.parquet").equals(whole, check_metadata=True)
    assert pa.concat_tables(map(read_table, shards)).equals(whole)
    assert [read_table(shard).num_rows for shard in shards] == [5, 6, 6, 6]


def test_json_of_more_than_its_bound_is_refused_with_the_remedy(tmp_path, monkeypatch):
    chosen = dataclasses.replace(structure_files.FORMATS[".json"], limit=1000)
    monkeypatch.setitem(structure_files.FORMATS, ".json", chosen)
    with pytest.raises(
        ValueError,
        match=r"mine\.json: larger than 1000 bytes \(\.json is read as a whole\)\. Write one structure per line",
    ):
        imported(tmp_path, "mine.json", json.dumps([SALT.as_dict()] * 9))
