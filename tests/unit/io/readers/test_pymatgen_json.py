"""JSON of structures in the forms that pymatgen, pandas and databases write; and POSCAR."""

import copy
import gzip
import json
import zipfile

import numpy as np
import pytest
from monty.serialization import dumpfn
from pymatgen.core import Lattice, Structure

from xtalgen.io.entries import CrystalError
from xtalgen.io.readers.poscar import read_poscar
from xtalgen.io.readers.pymatgen_json import read_structure
from xtalgen.io.structure_files import parse_entry, read_entries

SALT = {
    "lattice": {"matrix": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]], "pbc": [True, True, True]},
    "sites": [
        {"species": [{"element": "Na", "occu": 1}], "abc": [0, 0, 0]},
        {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
    ],
}
MADE = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
A, B = {"material_id": "a", "structure": SALT}, {"material_id": "b", "structure": SALT}
POSCAR = "NaCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa_pv Cl\n1 1\ndirect\n0 0 0\n.5 .5 .5\n"


def read(folder, content, name="mine.json"):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return [parse_entry(entry) for entry in read_entries(folder / name)]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"material_id": {"0": "a", "1": "b"}, "structure": {"0": SALT, "1": SALT}}, ["a", "b"]),
        ({"structure": {"0": SALT, "1": SALT}}, ["0", "1"]),
        ({"material_id": {"0": "a"}, "structure": {"0": json.dumps(SALT)}}, ["a"]),
        ({"columns": ["material_id", "structure"], "index": [0, 1], "data": [["a", SALT], ["b", SALT]]}, ["a", "b"]),
        ({"schema": {"fields": []}, "data": [{"index": 0, **A}, {"index": 1, **B}]}, ["a", "b"]),
        ({"0": A, "1": B}, ["a", "b"]),
        ({"id": ["a", "b"], "structure": [SALT, SALT]}, ["a", "b"]),
        ({"entries": [{"entry_id": "mp-1", "structure": SALT}, A]}, ["mp-1", "a"]),
        ({"meta": {"n": 2}, "data": {"x": SALT, "y": SALT}}, ["x", "y"]),
        ({"structures": [SALT, SALT]}, ["item 0", "item 1"]),
        ([{"initial_structure": SALT, "material_id": 7}], ["7"]),
        ([{"relaxed_structure": SALT, "id": "a"}, {"data": {"material_id": "b"}, "structure": SALT}], ["a", "b"]),
        ([{"computed_structure_entry": {"entry_id": "wbm-1", "structure": SALT}}], ["wbm-1"]),
        ({"entry_id": "mp-22862", "energy": -7.0, "structure": SALT}, ["mp-22862"]),
        (json.dumps(A) + "\n" + json.dumps(B) + "\n", ["a", "b"]),
        ({"p": POSCAR}, ["p"]),
    ],
)
def test_forms(tmp_path, content, names):
    crystals = read(tmp_path, content)
    assert [crystal.info["source_name"] for crystal in crystals] == names
    for crystal in crystals:
        assert crystal.status == "ok", crystal.info["error"]
        assert crystal.atomic_numbers.tolist() == [11, 17]
        assert crystal.info["warning"] is None


def test_the_structure_read_of_several_is_named(tmp_path):
    (crystal,) = read(tmp_path, [{"initial_structure": SALT, "relaxed_structure": SALT}])
    assert crystal.ok
    assert crystal.info["warning"].endswith("relaxed_structure was read")


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.jsonl.gz"])
def test_lines_that_cannot_be_read_keep_their_row(tmp_path, name):
    crystals = read(tmp_path, f"{json.dumps(A)}\n\nbroken\n{json.dumps(SALT)}\n7\n", name)
    assert [crystal.status for crystal in crystals] == ["ok", "unparsable", "ok", "unparsable"]
    assert [crystal.info["source_name"] for crystal in crystals] == ["a", "line 1", "line 2", "line 3"]


@pytest.mark.parametrize(
    "content", [{"a": {"0": 1}, "b": {"0": 2}}, [1, 2], [{"a": 1}], {"@class": "Molecule", "sites": SALT["sites"]}]
)
def test_a_file_without_structures_is_refused_as_a_whole(tmp_path, content):
    with pytest.raises(
        ValueError, match=r"mine\.json: holds no structure .*Give a pymatgen Structure.*orient='records'"
    ):
        read(tmp_path, content)


def changed(path, value):
    structure = copy.deepcopy(SALT)
    inner = structure
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return structure


@pytest.mark.parametrize(
    ("structure", "status"),
    [
        (changed(["lattice", "pbc"], [True, True, False]), "bad_lattice"),
        (changed(["lattice"], {"a": -4, "b": 4, "c": 4, "alpha": 90, "beta": 90, "gamma": 90}), "bad_lattice"),
        (changed(["lattice"], {"a": 4, "b": 4, "c": 4, "alpha": 10, "beta": 90, "gamma": 150}), "bad_lattice"),
        (changed(["lattice"], {"a": 4, "b": 4, "c": 4, "alpha": 90, "beta": 90, "gamma": 270}), "bad_lattice"),
        (changed(["lattice", "matrix", 2], [0, 0, float("nan")]), "bad_lattice"),
        (changed(["sites", 0, "abc"], [None, 0, 0]), "unparsable"),
        (changed(["sites", 0, "abc"], [float("nan"), 0, 0]), "unparsable"),
        (changed(["sites", 0, "abc"], [0, 0]), "unparsable"),
        (changed(["sites"], []), "unparsable"),
        (changed(["sites", 0, "species", 0, "element"], "Vac"), "unknown_element"),
        (changed(["sites", 0, "species", 0, "occu"], 0.5), "disordered"),
        (changed(["sites", 0, "species"], [{"element": "Na"}, {"element": "K"}]), "disordered"),
    ],
)
def test_broken_structures(structure, status):
    with pytest.raises(CrystalError) as caught:
        read_structure(structure)
    assert caught.value.status == status
    assert caught.value.message


def test_isotopes_are_hydrogen():
    assert read_structure(changed(["sites", 0, "species", 0, "element"], "D")).atomic_numbers.tolist() == [1, 17]


@pytest.mark.parametrize("name", ["mine.vasp", "mine.poscar"])
def test_poscar(tmp_path, name):
    (crystal,) = read(tmp_path, POSCAR, name)
    assert crystal.atomic_numbers.tolist() == [11, 17]
    assert crystal.info["source_name"] == name


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("Na_pv", "Vac", "unknown_element"),
        ("Na_pv Cl\n", "", "unparsable"),
        (".5 .5 .5", "nan 0 0", "unparsable"),
        ("0 0 4\n", "0 0 0\n", "bad_lattice"),
        (".5 .5 .5\n", "", "unparsable"),
    ],
)
def test_broken_poscars(old, new, status):
    with pytest.raises(CrystalError) as caught:
        read_poscar(POSCAR.replace(old, new))
    assert caught.value.status == status


def test_isotopes_in_a_poscar_are_hydrogen():
    assert read_poscar(POSCAR.replace("Na_pv", "D")).atomic_numbers.tolist() == [1, 17]


def test_pythons_form_of_a_structure_is_parsed_not_run(tmp_path, monkeypatch):
    """CrystalFormer's files hold structures as Python prints their dictionaries."""
    monkeypatch.setattr("builtins.eval", None)
    good, marker = repr(MADE.as_dict()), tmp_path / "marker"
    assert "'" in good
    called = good.replace("'charge': 0", f"'charge': open({str(marker)!r}, 'w')")
    assert called != good
    rows = [good, called, good[:-3], "{" * 60 + "}" * 60, good.replace("0.5", "nan")]
    table = "cif\n" + "".join('"' + row.replace('"', '""') + '"\n' for row in rows)
    crystals = read(tmp_path, table, "mine.csv")
    assert [crystal.status for crystal in crystals] == ["ok", *["unparsable"] * 4]
    np.testing.assert_array_equal(crystals[0].atomic_numbers, [11, 17])
    assert not marker.exists()


def test_json_in_a_zip_is_read_where_it_stands_alone(tmp_path):
    """FlowMM's samples are a folder of one JSON file per structure, elements unknown to pymatgen among them."""
    odd = json.loads(json.dumps(SALT).replace('"Na"', '"X0+"'))
    for names, wanted in (((), ["out/0.json", "out/1.json"]), (("a.cif",), ["a.cif"])):
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
            for name in names:
                archive.writestr(name, MADE.to(fmt="cif"))
            archive.writestr("out/0.json", json.dumps(SALT))
            archive.writestr("out/1.json", json.dumps(odd))
        crystals = [parse_entry(entry) for entry in read_entries(tmp_path / "mine.zip")]
        assert [crystal.info["source_name"] for crystal in crystals] == wanted
        assert [crystal.status for crystal in crystals] == ["ok", "unknown_element"][: len(wanted)]


def test_the_list_of_chemeleon_as_monty_writes_it(tmp_path):
    dumpfn([MADE, MADE], tmp_path / "mine.json.gz")
    crystals = [parse_entry(entry) for entry in read_entries(tmp_path / "mine.json.gz")]
    assert [crystal.status for crystal in crystals] == ["ok", "ok"]
    assert [crystal.info["source_name"] for crystal in crystals] == ["item 0", "item 1"]


def test_records_of_matbench_discovery_and_a_dictionary_with_such_names(tmp_path):
    record = {"material_id": "wbm-1-1", "mace_structure": SALT, "mace_energy": -7.5}
    (tmp_path / "2026-01-01-geo-opt.jsonl").write_text(json.dumps(record) + "\n")
    (entry,) = read_entries(tmp_path / "2026-01-01-geo-opt.jsonl")
    assert entry.name == "wbm-1-1"
    assert parse_entry(entry).ok
    (tmp_path / "mine.json").write_text(json.dumps({"a_structure": SALT, "b_structure": SALT}))
    assert [entry.name for entry in read_entries(tmp_path / "mine.json")] == ["a_structure", "b_structure"]
