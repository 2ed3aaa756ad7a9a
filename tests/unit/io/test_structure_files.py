"""Users' structure files: every format, whole and with broken entries."""

import csv
import gzip
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from user_files import SALT, assert_salt, cif, frames, imported, statuses, zipped
from xtalgen.io.entries import Entry
from xtalgen.io.structure_files import parse_entry

MP_20 = Path(__file__).parents[3] / "../shared/data/mp_20/val.csv.gz"


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
