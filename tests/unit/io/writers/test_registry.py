"""Every form is read back by the program that it is for where that is installed, and by xtalgen."""

import csv
import functools
import gzip
import json
import zipfile
from collections import Counter
from dataclasses import replace

import ase.db
import ase.io
import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp import Poscar

from crystal_cases import caesium_chloride, rock_salt
from xtalgen.crystals import Crystal
from xtalgen.io.structure_files import parse_entry, read_entries
from xtalgen.io.writers.registry import FORMS, TARGET
from xtalgen.structure.lattice import lattice_to_parameters
from xtalgen.structure.pymatgen import to_structure
from xtalgen.structure.standard_cell import sort_atoms


def skewed():
    """A cell without symmetry, its coordinates with all their digits."""
    generator = np.random.default_rng(3)
    lattice = np.eye(3) * 5 + generator.random((3, 3))
    return Crystal("skewed", "ok", lattice, generator.random((4, 3)), np.array([8, 14, 14, 92], dtype=np.uint8))


def in_order(crystal):
    order = sort_atoms(crystal.atomic_numbers)
    return replace(crystal, frac_coords=crystal.frac_coords[order], atomic_numbers=crystal.atomic_numbers[order])


@functools.cache
def crystals():
    """Crystals whose atoms are in pymatgen's order, which its CIFs have."""
    given = [in_order(one) for one in (rock_salt(), skewed(), caesium_chloride())]
    names = ("mp-1", "a b/ü", "17")
    return [
        Crystal(f"mine-{index:06d}", "ok", one.lattice, one.frac_coords, one.atomic_numbers,
                {"source_name": name, "energy_given": -1.5 * index - 1})
        for index, (one, name) in enumerate(zip(given, names, strict=True))
    ]  # fmt: skip


BROKEN = Crystal("mine-000003", "disordered", info={"source_name": "mp-9", "error": "sites are partly occupied"})


def write(name, rows, out, symprec=0.01):
    form = FORMS[name]
    encoded = [(row, form.encode(row, symprec) if row.ok or TARGET in row.info else None) for row in rows]
    form.write(iter(encoded), out)
    return out


def assert_same(found, crystal, digits=8):
    """Whether a pymatgen structure is that of a crystal, atoms and axes in the same order."""
    assert found.atomic_numbers == tuple(crystal.atomic_numbers.tolist())
    np.testing.assert_allclose(
        [found.lattice.abc, found.lattice.angles], lattice_to_parameters(crystal.lattice), rtol=0, atol=10**-digits
    )
    apart = found.frac_coords - crystal.frac_coords
    np.testing.assert_allclose(apart - np.round(apart), 0, atol=10**-digits)


def read_back(path):
    return [parse_entry(entry) for entry in read_entries(path)]


def test_extxyz_is_read_by_ase(tmp_path):
    path = write("extxyz", crystals(), tmp_path / "out.extxyz")
    for atoms, crystal in zip(ase.io.read(path, ":"), crystals(), strict=True):
        assert_same(AseAtomsAdaptor.get_structure(atoms), crystal, digits=7)
        assert atoms.get_potential_energy() == crystal.info["energy_given"]
    assert [row.info["source_name"] for row in read_back(path)] == ["mp-1", "a b/ü", "17"]


def test_ase_database(tmp_path):
    path = write("ase", crystals(), tmp_path / "out.db")
    with ase.db.connect(path) as database:
        for row, crystal in zip(database.select(), crystals(), strict=True):
            assert_same(AseAtomsAdaptor.get_structure(row.toatoms()), crystal, digits=10)
            assert row.energy == crystal.info["energy_given"]
        assert database.get(name="mp-1").id == 1
    assert [row.info["source_name"] for row in read_back(path)] == ["mp-1", "a b/ü", "id-17"]


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_csv_is_that_of_cdvae(tmp_path, name):
    rows = [*crystals(), BROKEN]
    path = write("csv", rows, tmp_path / name)
    text = gzip.decompress(path.read_bytes()).decode() if name.endswith(".gz") else path.read_text()
    lines = list(csv.DictReader(text.splitlines(keepends=True)))
    for line, crystal in zip(lines[:3], crystals(), strict=True):
        assert_same(Structure.from_str(line["cif"], fmt="cif"), crystal)
        assert line["material_id"] == crystal.info["source_name"]
    assert (lines[3]["cif"], lines[3]["status"], lines[3]["error"]) == ("", "disordered", "sites are partly occupied")
    assert [row.status for row in read_back(path)] == ["ok", "ok", "ok", "unparsable"]


def test_parquet_keeps_everything(tmp_path):
    rows = [*crystals(), BROKEN]
    for found, given in zip(read_back(write("parquet", rows, tmp_path / "out.parquet")), rows, strict=True):
        assert (found.status, found.info["source_name"]) == (given.status, given.info["source_name"])
        if given.ok:
            assert found.lattice.tobytes() == given.lattice.tobytes()
            assert found.frac_coords.tobytes() == given.frac_coords.tobytes()


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_json_lines(tmp_path, name):
    path = write("jsonl", [*crystals(), BROKEN], tmp_path / name)
    found = read_back(path)
    assert [row.info["source_name"] for row in found] == ["mp-1", "a b/ü", "17", "mp-9"]
    assert [row.status for row in found] == ["ok", "ok", "ok", "unparsable"]
    np.testing.assert_array_equal(found[1].frac_coords, crystals()[1].frac_coords)


def test_lemat_genbench(tmp_path):
    """As its `load_structures_from_wycoff_csv`: column `structure`, JSON of pymatgen; empty cells are skipped."""
    path = write("lemat-genbench", [*crystals(), BROKEN], tmp_path / "out.csv")
    lines = list(csv.DictReader(path.open(newline="")))
    assert list(lines[0]) == ["material_id", "structure"]
    for line, crystal in zip(lines[:3], crystals(), strict=True):
        assert_same(Structure.from_dict(json.loads(line["structure"])), crystal, digits=12)
    assert lines[3]["structure"] == ""


def test_mattergen(tmp_path):
    """As its `load_structures`, which reads the extxyz with ASE, or the CIFs of the zip with pymatgen."""
    out = write("mattergen", crystals(), tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == [
        "energies.npy", "generated_crystals.extxyz", "generated_crystals_cif.zip",
    ]  # fmt: skip
    for atoms, crystal in zip(ase.io.read(out / "generated_crystals.extxyz", ":"), crystals(), strict=True):
        assert_same(AseAtomsAdaptor.get_structure(atoms), crystal, digits=7)
    with zipfile.ZipFile(out / "generated_crystals_cif.zip") as archive:
        assert archive.namelist() == ["gen_0.cif", "gen_1.cif", "gen_2.cif"]
        for name, crystal in zip(archive.namelist(), crystals(), strict=True):
            assert_same(Structure.from_str(archive.read(name).decode(), fmt="cif"), crystal)
    np.testing.assert_array_equal(np.load(out / "energies.npy"), [-1.0, -2.5, -4.0])


def test_mattergen_without_energies(tmp_path, caplog):
    first, *others = crystals()
    out = write("mattergen", [Crystal("a", "ok", first.lattice, first.frac_coords, first.atomic_numbers), *others],
                tmp_path / "out")  # fmt: skip
    assert not (out / "energies.npy").exists()
    assert "1 of 3 crystals have no energy" in caplog.text


def test_atombench(tmp_path):
    """As its `verify_benchmarks.py`: id, target, prediction; POSCARs whose line ends are a backslash and n."""
    target, prediction, other = crystals()
    rows = [
        Crystal("a", "ok", prediction.lattice, prediction.frac_coords, prediction.atomic_numbers,
                {"source_name": "mp-1", TARGET: target}),
        Crystal("b", "not_predicted", info={"source_name": "mp-2", TARGET: other}),
    ]  # fmt: skip
    path = write("atombench", rows, tmp_path / "out.csv")
    assert len(path.read_text().splitlines()) == 3
    first, second = csv.DictReader(path.open(newline=""))
    assert list(first) == ["id", "target", "prediction"]
    assert_same(Poscar.from_str(first["target"].replace("\\n", "\n")).structure, target)
    assert_same(Poscar.from_str(first["prediction"].replace("\\n", "\n")).structure, prediction)
    assert (second["id"], second["prediction"]) == ("mp-2", "")
    assert [row.status for row in read_back(path)] == ["ok", "unparsable"]


def test_matbench_discovery(tmp_path):
    """As its `scripts/evals/geo_opt.py`: lines with material_id and a column whose name has `structure` in it."""
    path = write("matbench-discovery", [*crystals(), BROKEN], tmp_path / "2026-01-01-geo-opt.jsonl.gz")
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [set(record) for record in records] == [{"material_id", "structure"}] * 4
    for record, crystal in zip(records[:3], crystals(), strict=True):
        assert_same(Structure.from_dict(record["structure"]), crystal, digits=12)
    assert records[3] == {"material_id": "mp-9", "structure": None}
    assert [row.info["source_name"] for row in read_back(path)] == ["mp-1", "a b/ü", "17", "mp-9"]


def test_cifs_bear_the_names_of_their_crystals_and_state_their_symmetry(tmp_path, caplog):
    caplog.set_level("INFO")
    first, second, third = crystals()
    twice = Crystal("d", "ok", third.lattice, third.frac_coords, third.atomic_numbers, {"source_name": "mp-1.cif"})
    path = write("cif", [first, second, third, twice], tmp_path / "out.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["mp-1.cif", "a_b_.cif", "17.cif", "mp-1_2.cif"]
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert "_space_group_IT_number   225" in texts["mp-1.cif"]
    assert "tolerance of 0.01 angstrom" in texts["mp-1.cif"]
    matcher = StructureMatcher(primitive_cell=True, scale=False)
    for name, crystal in zip(texts, [first, second, third, twice], strict=True):
        assert matcher.fit(Structure.from_str(texts[name], fmt="cif"), to_structure(crystal))
    assert "4 of 4 CIFs state a symmetry" in caplog.text
    assert [row.status for row in read_back(path)] == ["ok"] * 4


def test_cifs_without_symmetry_where_none_is_asked_for(tmp_path):
    path = write("cif", crystals(), tmp_path / "out.zip", symprec=0.0)
    for found, given in zip(read_back(path), crystals(), strict=True):
        assert Counter(found.atomic_numbers.tolist()) == Counter(given.atomic_numbers.tolist())
        assert abs(np.linalg.det(found.lattice)) == pytest.approx(abs(np.linalg.det(given.lattice)), rel=1e-9)


@pytest.mark.parametrize("name", sorted(set(FORMS) - {"ase"}))
def test_the_same_crystals_give_the_same_bytes(tmp_path, name):
    rows = [Crystal(row.id, row.status, row.lattice, row.frac_coords, row.atomic_numbers, {**row.info, TARGET: row})
            for row in crystals()]  # fmt: skip
    contents = []
    for folder in ("a", "b"):
        out = write(name, rows, tmp_path / folder / f"out{(FORMS[name].suffixes or ('',))[0]}")
        files = sorted(out.iterdir()) if out.is_dir() else [out]
        contents.append([file.read_bytes() for file in files])
    assert contents[0] == contents[1]
