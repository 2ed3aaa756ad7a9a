"""`xtalgen convert`: rows in are rows out, drawn with a seed, resumed when killed; mistakes are told at once."""

import csv
import gzip
import json
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from user_files import SALT, cif, frames, zipped
from xtalgen.commands import convert as command
from xtalgen.commands import converting
from xtalgen.commands.converting import Conversion, convert, draw
from xtalgen.crystals import read_crystals
from xtalgen.io.structure_files import parse_entry, read_entries
from xtalgen.io.writers.registry import FORMS
from xtalgen.stages import import_structures as stage

ROOT = Path(__file__).parents[3]
FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 name={name}\nNa 0 0 0\nCl 2 2 {z}\n'


@pytest.fixture
def many(tmp_path):
    """A file of 30 frames, of which the third and the last have no cell."""
    texts = [FRAME.format(name=f"mp-{index}", z=2 + index / 100) for index in range(30)]
    for index in (2, 29):
        texts[index] = texts[index].replace("Lattice", "Other")
    path = tmp_path / "mine.extxyz"
    path.write_text("".join(texts))
    return path


def run(*words):
    command.main([*map(str, words), "--workers", "1"])


def names(path):
    return [parse_entry(entry).info["source_name"] for entry in read_entries(path)]


def test_rows_in_are_rows_out(tmp_path, many, capsys):
    run(many, "--out", tmp_path / "out.parquet")
    rows = read_crystals(tmp_path / "out.parquet")
    assert [row.id for row in rows] == [f"mine-{index:06d}" for index in range(30)]
    assert [row.info["source_name"] for row in rows][:2] == ["mp-0", "mp-1"]
    assert [row.id for row in rows if not row.ok] == ["mine-000002", "mine-000029"]
    said = capsys.readouterr().out
    assert "30 read, 30 written" in said
    assert "2 are no crystals (2 bad_lattice); they keep a row without a structure" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.extxyz", "out.parquet"]


def test_what_has_no_place_is_listed_beside_the_output(tmp_path, many, capsys):
    run(many, "--out", tmp_path / "out.db")
    assert len(read_entries(tmp_path / "out.db")) == 28
    listed = list(csv.DictReader((tmp_path / "out.db.failed.csv").open()))
    assert [row["name"] for row in listed] == ["mp-2", "mp-29"]
    assert "no Lattice=" in listed[0]["error"]
    assert "listed in" in capsys.readouterr().out


def test_as_json(tmp_path, many, capsys):
    run(many, "--to", "extxyz", "--out", tmp_path / "out.xyz", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["read"], facts["drawn"], facts["written"]) == (30, 30, 28)
    assert facts["failures"] == {"bad_lattice": 2}


def test_the_board_of_lemat_is_drawn_with_a_seed(tmp_path, many, caplog):
    for name, seed in (("a.csv", 0), ("b.csv", 0), ("c.csv", 1)):
        run(many, "--to", "lemat-genbench", "-n", 10, "--seed", seed, "--out", tmp_path / name)
    texts = [(tmp_path / name).read_text() for name in ("a.csv", "b.csv", "c.csv")]
    assert texts[0] == texts[1] != texts[2]
    drawn = [row["material_id"] for row in csv.DictReader((tmp_path / "a.csv").open(newline=""))]
    assert len(drawn) == 10
    order = names(many)
    assert drawn == sorted(drawn, key=order.index)
    run(many, "--to", "lemat-genbench", "--out", tmp_path / "d.csv")
    assert "2500 crystals were asked for" in caplog.text


def test_each_item_is_drawn_as_often():
    counts = np.zeros(10)
    for seed in range(2000):
        counts[draw(range(10), 3, seed)] += 1
    # A binomial of 2000 trials with p = 0.3 has a standard deviation of 20.5.
    assert np.abs(counts - 600).max() < 4 * 20.5
    assert draw(range(3), 5, 0) == [0, 1, 2]


def test_atombench_pairs_predictions_with_targets_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("b.cif", cif(z="0.9"))
        archive.writestr("a.cif", "rubbish")
    rows = "".join(f'{name},"{cif()}"\n' for name in "abc")
    (tmp_path / "test.csv").write_text(f"material_id,cif\n{rows}")
    run(tmp_path / "mine.zip", "--to", "atombench", "--targets", tmp_path / "test.csv", "--out", tmp_path / "out.csv")
    found = list(csv.DictReader((tmp_path / "out.csv").open(newline="")))
    assert [row["id"] for row in found] == ["a", "b", "c"]
    assert [bool(row["prediction"]) for row in found] == [False, True, False]
    assert all(row["target"] for row in found)


def test_a_folder_and_a_column(tmp_path):
    folder = tmp_path / "runs"
    for name in ("mp-1", "mp-2"):
        (folder / name).mkdir(parents=True)
        for file in ("POSCAR", "CONTCAR"):
            (folder / name / file).write_text(SALT.to(fmt="poscar"))
    run(folder, "--files", "CONTCAR", "--out", tmp_path / "out.jsonl.gz")
    records = [json.loads(line) for line in gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).splitlines()]
    assert [record["material_id"] for record in records] == ["mp-1/CONTCAR", "mp-2/CONTCAR"]
    (tmp_path / "mine.csv").write_text(f'id,cif,relaxed\n1,x,"{cif()}"\n')
    run(tmp_path / "mine.csv", "--column", "relaxed", "--out", tmp_path / "out.extxyz")
    assert names(tmp_path / "out.extxyz") == ["1"]


def test_mattergens_folder_and_back(tmp_path):
    (tmp_path / "mine.extxyz").write_text(frames({"energy": -7.5}, {"energy": -8.5}))
    run(tmp_path / "mine.extxyz", "--to", "mattergen", "--out", tmp_path / "results")
    run(tmp_path / "results", "--out", tmp_path / "again.parquet")
    rows = read_crystals(tmp_path / "again.parquet")
    assert [row.info["energy_given"] for row in rows] == [-7.5, -8.5]


def test_a_killed_run_resumes(tmp_path, many, monkeypatch):
    monkeypatch.setattr(stage, "FEW_ENTRIES", 3)
    monkeypatch.setattr(stage, "BATCH", 10)
    parsed = []

    def parse(function, batch, **_):
        parsed.extend(entry.name for entry in batch)
        if len(parsed) == 30 and len(set(parsed)) == 30:  # killed in the third batch of the first run
            raise KeyboardInterrupt
        return map(function, batch)

    monkeypatch.setattr(stage, "map_in_chunks", parse)
    conversion = Conversion(many, "parquet", tmp_path / "out.parquet")
    with pytest.raises(KeyboardInterrupt):
        convert(conversion)
    assert not (tmp_path / "out.parquet").exists()
    convert(conversion)
    assert parsed == [f"frame {index}" for index in [*range(30), *range(20, 30)]]
    resumed = (tmp_path / "out.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.extxyz", "out.parquet"]
    convert(conversion)
    assert (tmp_path / "out.parquet").read_bytes() == resumed


@pytest.mark.parametrize("form", ["extxyz", "lemat-genbench"])
def test_many_rows_cost_no_more_memory_than_few(tmp_path, monkeypatch, form):
    for module in (stage, converting):
        monkeypatch.setattr(module, "BATCH", 20)
        # In this process, so that what it holds is measured.
        monkeypatch.setattr(module, "map_in_chunks", lambda function, batch, **_: map(function, batch))
    monkeypatch.setattr("xtalgen.io.streams.PIECE", 10_000)
    monkeypatch.setattr(stage, "FEW_ENTRIES", 5)
    path, out = tmp_path / "mine.extxyz", tmp_path / f"out{(FORMS[form].suffixes)[0]}"
    peaks = []
    for count in (10, 40, 160):
        path.write_text("".join(FRAME.format(name=index, z=2 + index / 1000) for index in range(count)))
        if count > 10:  # the first imports what takes memory once
            tracemalloc.start()
        assert convert(Conversion(path, form, out, n=0)).written == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000


def test_parts_of_another_file_are_not_taken(tmp_path, many, monkeypatch):
    monkeypatch.setattr(stage, "FEW_ENTRIES", 3)
    parts = stage.parts_of(many, tmp_path / ".parts")
    first = list(stage.iterate_structures(many, 1, parts=parts))
    many.write_text(many.read_text().replace("Cl 2 2 2", "Cl 2 2 3"))
    second = list(stage.iterate_structures(many, 1, parts=stage.parts_of(many, tmp_path / ".parts")))
    assert first[0].frac_coords[1, 2] == 0.5
    assert second[0].frac_coords[1, 2] == 0.75


def test_damaged_parts_are_made_again(tmp_path, many, monkeypatch, caplog):
    monkeypatch.setattr(stage, "FEW_ENTRIES", 3)
    read = [list(stage.iterate_structures(many, 1, parts=stage.parts_of(many, tmp_path / ".parts")))]
    (part,) = (tmp_path / ".parts").iterdir()
    whole = part.read_bytes()
    for content in (whole, whole[: len(whole) // 2], b"", whole[:300] + b"\0" * 40 + whole[340:]):
        part.write_bytes(content)
        read.append(list(stage.iterate_structures(many, 1, parts=stage.parts_of(many, tmp_path / ".parts"))))
    assert "computed again" in caplog.text
    for rows in read:
        assert [row.status for row in rows] == [row.status for row in read[0]]
        assert [row.info["source_name"] for row in rows] == [row.info["source_name"] for row in read[0]]
        assert all((a.frac_coords == b.frac_coords).all() for a, b in zip(rows, read[0], strict=True) if a.ok)


def test_a_file_without_a_crystal(tmp_path):
    (tmp_path / "mine.zip").write_bytes(zipped(a_cif="x"))
    with pytest.raises(SystemExit, match=r"error: .*mine\.zip: none of its 1 entries is a crystal"):
        run(tmp_path / "mine.zip", "--out", tmp_path / "out.csv")


MISTAKES = [
    (["none.cif", "--out", "a.csv"], "none.cif: there is no such file"),
    (["mine.pdb", "--out", "a.csv"], "unknown suffix; allowed are"),
    (["mine.cif", "--out", "a.pdb"], "no form is written to such a file. Name one with --to: extxyz, csv"),
    (["mine.cif", "--to", "ase", "--out", "a.csv"], "ase is written to a file that ends in .db"),
    (["mine.cif", "--to", "mattergen", "--out", "mine.pdb"], "mattergen is written to a folder, and this is a file"),
    (["mine.cif", "--out", "folder.csv"], "is a folder. Name a file that ends in .csv"),
    (["mine.cif", "--to", "atombench", "--out", "a.csv"], "give --targets FILE"),
    (["mine.cif", "--targets", "mine.cif", "--out", "a.csv"], "--to csv has no targets: leave --targets out"),
    (["mine.cif", "--files", "*.cif", "--out", "a.csv"], "is no folder, so --files has nothing to choose"),
    (["mine.csv", "--out", "mine.csv"], "is the file that is read"),
    (["mine.cif", "-n", "-1", "--out", "a.csv"], "give a number of crystals, or 0 for all"),
    (["mine.cif", "--column", "x", "--out", "a.csv"], "a .cif file has no column `x`; .csv and .parquet have some"),
    (["none", "--files", "x", "--out", "a.csv"], "none: there is no such file"),
    (["cifs", "--column", "x", "--out", "a.csv"], "a .cif file has no column `x`"),
    (["mine.csv", "--column", "relaxed", "--out", "a.extxyz"], "no column `relaxed`; there are 'id', 'cif'"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_told_in_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.cif").write_text(cif())
    (tmp_path / "mine.pdb").write_text("x")
    (tmp_path / "mine.csv").write_text(f'id,cif\n1,"{cif()}"\n')
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "a.cif").write_text(cif())
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert str(caught.value).startswith("error: ")
    assert "\n" not in str(caught.value)
    assert message in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_wrong_suffix_is_told_before_anything_heavy_is_imported(tmp_path):
    heavy = {"pymatgen", "ase", "torch", "scipy", "moyopy", "pandas", "requests", "pebble"}
    code = (
        "import sys; sys.path.insert(0, 'src'); from xtalgen.cli import main\n"
        "try: main(['convert', 'x.pdb', '--out', 'y.csv'])\n"
        "except SystemExit as error: assert 'no such file' in str(error), error\n"
        f"assert not {heavy} & sys.modules.keys()"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert time.perf_counter() - started < 10  # half a second on an idle machine
