"""Users' own structures: every format, whole and broken."""

import csv
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

import import_structures as script
from xtalgen.crystals import read_crystals, read_metadata, read_table
from xtalgen.io import structure_files
from xtalgen.io.entries import Entry
from xtalgen.io.structure_files import parse_entry, read_entries
from xtalgen.stages.import_structures import find_structure_file, import_structures

MP_20 = Path(__file__).parents[3] / "../shared/data/mp_20/val.csv.gz"
SALT = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
CIF = """\
data_{name}
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na Na0 0.1 0.2 0.3 {occupancy}
{symbol} Cl1 0.6 0.7 {z} 1
"""


def cif(name="NaCl", *, c="4.0", occupancy="1", symbol="Cl", z="0.8"):
    return CIF.format(name=name, c=c, occupancy=occupancy, symbol=symbol, z=z)


def imported(folder, name, content):
    """Returns the crystals of a file with this name and content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    import_structures(path, out=[folder / "out.parquet"], workers=1)
    return read_crystals(folder / "out.parquet")


def assert_salt(crystal, prefix="mine"):
    assert crystal.status == "ok", crystal.info["error"]
    assert crystal.id.startswith(f"{prefix}-0")
    np.testing.assert_allclose(crystal.lattice, np.eye(3) * 4.0, atol=1e-8)
    np.testing.assert_allclose(crystal.frac_coords, [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], atol=1e-8)
    assert crystal.atomic_numbers.tolist() == [11, 17]


def frames(*infos):
    atoms = []
    for info in infos:
        one = Atoms("NaCl", scaled_positions=[[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]], cell=np.eye(3) * 4.0, pbc=True)
        one.info.update(info)
        if "energy" in info:
            one.calc = SinglePointCalculator(one, energy=one.info.pop("energy"))
        atoms.append(one)
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    return text.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(
                name.replace("__MACOSX__", "__MACOSX/").replace("a__", "a/").replace("_cif", ".cif"), content
            )
    return stream.getvalue()


def statuses(crystals):
    return [crystal.status for crystal in crystals]


# --- whole files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["extxyz", "xyz"])
def test_extxyz_with_names_and_energies(tmp_path, suffix):
    first, second = imported(tmp_path, f"mine.{suffix}", frames({"name": "halite", "energy": -7.5}, {}))
    assert_salt(first)
    assert_salt(second)
    assert (first.id, second.id) == ("mine-000000", "mine-000001")
    assert first.info == {"source_name": "halite", "error": None, "warning": None, "energy_given": -7.5}
    assert second.info == {"source_name": "frame 1", "error": None, "warning": None, "energy_given": None}


def test_cif_with_several_blocks(tmp_path):
    text = "# mine\ndata_global\n_journal_name 'x'\n" + cif("a") + "\n" + cif("b").replace("\n", "\r\n")
    crystals = imported(tmp_path, "mine.cif", text)
    assert [crystal.info["source_name"] for crystal in crystals] == ["mine.cif:a", "mine.cif:b"]
    for crystal in crystals:
        assert_salt(crystal)


def test_block_name_inside_a_text_field_is_no_block(tmp_path):
    text = cif() + "_publ_section_abstract\n;\ndata_trap\n_cell_length_a 1\n;\n"
    (crystal,) = imported(tmp_path, "mine.cif", text)
    assert_salt(crystal)


def test_symmetry_is_expanded_and_the_cell_kept(tmp_path):
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    (crystal,) = imported(tmp_path, "mine.cif", rock_salt.to(fmt="cif", symprec=0.01))
    assert crystal.n_atoms == 8


def test_cif_in_latin_1(tmp_path):
    (crystal,) = imported(tmp_path, "mine.cif", ("# Ångström, Müller\n" + cif()).encode("latin-1"))
    assert_salt(crystal)


def test_zip_of_cifs(tmp_path):
    extra = {"README": "no crystal", "a__.hidden_cif": "x", "__MACOSX__b_cif": "x"}
    content = zipped(b_cif=cif(), a__c_cif=cif("x") + cif("y"), **extra)
    crystals = imported(tmp_path, "mine.zip", content)
    assert [crystal.info["source_name"] for crystal in crystals] == ["b.cif", "a/c.cif:x", "a/c.cif:y"]
    for crystal in crystals:
        assert_salt(crystal)


def test_csv(tmp_path):
    quoted = cif().replace('"', '""')
    text = f'material_id,CIF,energy\nmp-1,"{quoted}",-3.5\n,"{quoted}",none\n,,\n'
    first, second, third = imported(tmp_path, "mine.csv", "\ufeff" + text)
    assert_salt(first)
    assert_salt(second)
    assert (first.info["source_name"], first.info["energy_given"]) == ("mp-1", -3.5)
    assert (second.info["source_name"], second.info["energy_given"]) == ("row 1", None)
    assert (third.status, third.info["error"]) == ("unparsable", "the cell `cif` is empty")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (SALT.as_dict(), ["mine.json"]),
        ([SALT.as_dict(), {"structure": SALT.as_dict(), "material_id": "mp-1"}], ["item 0", "mp-1"]),
        ({"x": SALT.as_dict(), "y": SALT.as_dict()}, ["x", "y"]),
        ([SALT.copy().add_oxidation_state_by_guess().as_dict()], ["item 0"]),
    ],
)
def test_pymatgen_json(tmp_path, content, names):
    crystals = imported(tmp_path, "mine.json", json.dumps(content))
    assert [crystal.info["source_name"] for crystal in crystals] == names
    for crystal in crystals:
        assert_salt(crystal)


def test_json_gz(tmp_path):
    (crystal,) = imported(tmp_path, "mine.json.gz", gzip.compress(json.dumps([SALT.as_dict()]).encode()))
    assert_salt(crystal)


def test_json_with_lengths_and_cartesian_sites(tmp_path):
    sites = [
        {"species": [{"element": "Na"}], "xyz": [0.4, 0.8, 1.2]},
        {"species": [{"element": "Cl"}], "xyz": [6.4, 2.8, 3.2]},
    ]
    cell = {"a": 4, "b": 4, "c": 4, "alpha": 90, "beta": 90, "gamma": 90}
    (crystal,) = imported(tmp_path, "mine.json", json.dumps({"lattice": cell, "sites": sites}))
    np.testing.assert_allclose(crystal.frac_coords @ crystal.lattice % 4, [[0.4, 0.8, 1.2], [2.4, 2.8, 3.2]], atol=1e-8)


def test_json_names_no_class_to_import(tmp_path):
    trap = SALT.as_dict()
    trap["sites"][0]["properties"] = {"x": {"@module": "os", "@callable": "abort"}}
    trap["@module"], trap["@class"] = "os", "abort"
    (crystal,) = imported(tmp_path, "mine.json", json.dumps(trap))
    assert_salt(crystal)


def test_all_formats_agree(tmp_path):
    ways = {
        "a.extxyz": frames({}),
        "b.cif": cif(),
        "c.zip": zipped(x_cif=cif()),
        "d.csv": f'cif\n"{cif()}"\n',
        "e.json": json.dumps(SALT.as_dict()),
    }
    for name, content in ways.items():
        (crystal,) = imported(tmp_path, name, content)
        assert_salt(crystal, prefix=name[0])


@pytest.mark.skipif(not MP_20.is_file(), reason="needs ../shared/data")
def test_published_csv_as_a_users_file(tmp_path):
    with gzip.open(MP_20, "rt", newline="") as file:
        rows = list(itertools.islice(csv.DictReader(file), 30))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    for row, crystal in zip(rows, imported(tmp_path, "mine.csv", text.getvalue()), strict=True):
        expected = Structure.from_str(row["cif"], fmt="cif")
        assert crystal.info["source_name"] == row["material_id"]
        assert crystal.atomic_numbers.tolist() == list(expected.atomic_numbers)
        np.testing.assert_allclose(crystal.lattice, expected.lattice.matrix, atol=1e-8)
        difference = crystal.frac_coords - expected.frac_coords
        np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-8)


def test_metadata_names_the_file(tmp_path):
    imported(tmp_path, "mine.cif", cif())
    metadata = read_metadata(read_table(tmp_path / "out.parquet"))
    assert metadata["source"] == "mine.cif"
    assert len(metadata["sha256"]) == 64


# --- broken entries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (cif(occupancy="0.5"), "disordered", "partly occupied"),
        (cif(symbol="Xx"), "unknown_element", "'Xx' is not an element"),
        # pymatgen alone reads the next two as crystals, without the atom and with vanadium in place of the vacancy.
        (cif(symbol="OH"), "unknown_element", "'OH' is not an element"),
        (cif(symbol="Vac"), "unknown_element", "'Vac' is not an element"),
        (cif(c="0.001"), "bad_lattice", "volume of 0.016"),
        (cif(z="nan"), "unparsable", "'nan' is not a number"),
        (cif(z="?"), "unparsable", "the coordinates of Cl1 are not given: 0.6 0.7 ?"),
        (cif(c="wide"), "bad_lattice", "a cell parameter is not a number"),
        (cif(c="nan"), "bad_lattice", "'nan' is not a number"),
        (cif()[:300], "unparsable", ""),
        ("nothing of the kind", "unparsable", "there is no cell"),
        ("data_empty\n", "unparsable", "there is no cell"),
    ],
)
def test_broken_cifs_keep_their_row(tmp_path, text, status, reason):
    crystals = imported(tmp_path, "mine.zip", zipped(a_cif=cif(), b_cif=text, c_cif=cif()))
    assert statuses(crystals) == ["ok", status, "ok"]
    assert crystals[1].lattice is None
    assert reason in crystals[1].info["error"]


def test_charged_symbols_and_labels_alone_are_read(tmp_path):
    (crystal,) = imported(tmp_path, "mine.cif", cif(symbol="Cl1-"))
    assert_salt(crystal)
    lines = cif().replace("_atom_site_type_symbol\n", "").replace("Na Na0", "Na0").replace("Cl Cl1", "Cl1")
    (crystal,) = imported(tmp_path, "mine.cif", lines)
    assert_salt(crystal)


def test_broken_frames_keep_their_row(tmp_path):
    good = frames({})
    bad = [
        good.replace('Lattice="4.0 0.0 0.0 0.0 4.0 0.0 0.0 0.0 4.0" ', ""),
        good.replace("Cl ", "Qq "),
        good.replace("Cl ", "X "),
        good.replace("4.0 0.0 0.0 0.0 4.0 0.0 0.0 0.0 4.0", "4.0 0.0 0.0 0.0 4.0 0.0 0.0 0.0 0.0"),
        "\n".join([*good.splitlines()[:3], "Cl one two three"]) + "\n",
        '2\nLattice="4 0 0 0 4 0 0 0 4"\nNa 0 0 nan\nCl 2 2 2\n',
    ]
    crystals = imported(tmp_path, "mine.extxyz", good + "".join(bad) + "stray line\n" + good)
    assert statuses(crystals) == [
        "ok", "bad_lattice", "unknown_element", "unknown_element", "bad_lattice", "unparsable", "unparsable",
        "unparsable", "ok",
    ]  # fmt: skip
    assert "no Lattice=" in crystals[1].info["error"]
    assert "atom 1 has a coordinate" in crystals[6].info["error"]
    assert "is not a number of atoms" in crystals[7].info["error"]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_truncated_extxyz(tmp_path, lost):
    text = frames({}, {})
    crystals = imported(tmp_path, "mine.extxyz", "\n".join(text.splitlines()[:-lost]) + "\n")
    assert statuses(crystals) == ["ok", "unparsable"]
    assert crystals[1].info["error"] == f"cut off: {max(0, 2 - lost)} of 2 atoms are there"


def test_truncated_csv(tmp_path):
    text = f'cif\n"{cif()}"\n"{cif()}"\n'
    crystals = imported(tmp_path, "mine.csv", text[:-30])
    assert statuses(crystals) == ["ok", "unparsable"]
    assert "unexpected end of data" in crystals[1].info["error"]


def test_broken_json_entries(tmp_path):
    disordered = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]).as_dict()
    flat, dummy, halved = SALT.as_dict(), SALT.as_dict(), SALT.as_dict()
    flat["lattice"]["matrix"][2] = [0, 0, 0]
    dummy["sites"][0]["species"][0]["element"] = "X"
    del halved["sites"][1]["species"]
    content = [disordered, flat, dummy, halved, {"lattice": 1, "sites": 2}, 7, SALT.as_dict()]
    crystals = imported(tmp_path, "mine.json", json.dumps(content))
    assert statuses(crystals) == ["disordered", "bad_lattice", "unknown_element", *3 * ["unparsable"], "ok"]


def test_encrypted_and_damaged_members(tmp_path):
    content = bytearray(zipped(a_cif=cif(), b_cif=cif("other")))
    content[content.index(b"b.cif") + 40] ^= 0xFF
    crystals = imported(tmp_path, "mine.zip", bytes(content))
    assert statuses(crystals) == ["ok", "unparsable"]


@given(st.binary(max_size=200))
def test_any_text_is_a_row(content):
    for kind in ("cif", "extxyz", "text"):
        crystal = parse_entry(Entry("x", kind, "1\n" + content.decode("latin-1")))
        assert crystal.ok or crystal.info["error"]


# --- files that are wrong as a whole -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.pdb", "x", "unknown suffix; allowed are .extxyz, .xyz, .cif"),
        ("mine.cif", "", "mine.cif is empty"),
        ("mine.extxyz", " \n\n", "mine.extxyz is empty"),
        ("mine.xyz", "hello\nworld\n", "line 1 is not a number of atoms"),
        ("mine.zip", "no archive", "not a readable zip archive"),
        ("mine.zip", zipped(README="x"), "no crystal found"),
        ("mine.csv", "structure,energy\nx,1\n", "no column `cif`; there are 'structure', 'energy'"),
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


# --- many entries, shards, command line --------------------------------------------------------------------------


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
    with pytest.raises(OSError, match=r"mine\.cif: is a folder. Give one file, such as a \.zip"):
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
