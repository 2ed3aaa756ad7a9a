"""Small files with their right answers (../shared/cases), in every reader that takes the format."""

import contextlib
import csv
import io
import re
import zipfile
from pathlib import Path

import pytest

import data as data_script
import import_structures as script
from xtalgen.crystals import read_crystals
from xtalgen.io.structure_files import parse_entry, read_entries
from xtalgen.structure.composition import formula

CASES = Path(__file__).parents[4] / "shared" / "cases"
ROWS = list(csv.DictReader((CASES / "expected.csv").open())) if CASES.is_dir() else []
READERS = ("own", "zip", "csv", "data set", "program")
LINES = {"own": ".cif .extxyz .json .jsonl", "program": ".cif .extxyz .json .jsonl", "zip": ".cif .extxyz"}

pytestmark = pytest.mark.skipif(not ROWS, reason="needs ../shared/cases")


def takes(reader):
    """Returns the suffixes that a reader takes."""
    return LINES.get(reader, ".cif").split()


def read(path, reader, folder):
    """Returns the crystals that a reader makes of a file."""
    if reader == "own":
        return [parse_entry(entry) for entry in read_entries(path)]
    text = path.read_bytes().decode("utf-8-sig")
    if reader == "zip":
        with zipfile.ZipFile(folder / "mine.zip", "w") as archive:
            archive.write(path, f"inner/{path.name}")
        return [parse_entry(entry) for entry in read_entries(folder / "mine.zip")]
    if reader == "program":
        copy = folder / f"mine{path.suffix}"
        copy.write_bytes(path.read_bytes())
        with contextlib.suppress(SystemExit):  # where no entry is a crystal; the rows are written before
            script.main(["--structures", str(copy), "--out", str(folder / "out.parquet"), "--workers", "1"])
        return read_crystals(folder / "out.parquet")
    rows = io.StringIO(newline="")
    csv.writer(rows).writerows([["material_id", "cif"], ["a", text]])
    (folder / "train.csv").write_text(rows.getvalue(), newline="")
    if reader == "csv":
        return [parse_entry(entry) for entry in read_entries(folder / "train.csv")]
    words = ["--dataset", "mine", "--split", "train", "--source", str(folder), "--workers", "1"]
    data_script.main([*words, "--out", str(folder / "out.parquet")])
    return read_crystals(folder / "out.parquet")


def answers(expected):
    """Returns per row of the answer the alternatives it allows: (status or None, atoms or None, formula or None)."""
    if re.search(r"whole file refused", expected):
        expected = expected.split(";")[0]
    count = int(found[1]) if (found := re.match(r"(\d+) rows?", expected)) else 1
    formulas = re.findall(r"\b((?:[A-Z][a-z]?){2,})\b", expected.replace("CIF", ""))
    atoms = re.search(r"(\d+) atoms", expected)
    statuses = [name for name in ("bad_lattice", "disordered", "unknown_element") if name in expected]
    allowed = [*statuses, *["ok"] * bool(re.search(r"\bok\b", expected)), *["other"] * ("a status" in expected)]
    return [
        (allowed, int(atoms[1]) if atoms else None, formulas[min(i, len(formulas) - 1)] if formulas else None)
        for i in range(count)
    ]


PAIRS = [(case, reader) for case in ROWS for reader in READERS if Path(case["file"]).suffix in takes(reader)]


@pytest.mark.parametrize(
    ("case", "reader"), PAIRS, ids=lambda value: value if isinstance(value, str) else value["file"]
)
def test_case(case, reader, tmp_path, recwarn):
    path = CASES / case["file"]
    wanted = answers(case["expected"])
    crystals = read(path, reader, tmp_path)
    if reader == "data set" and len(wanted) > 1:
        # A row of a data set is one crystal: two in one cell are a status, never one of them in silence.
        assert [crystal.status for crystal in crystals] == ["unparsable"]
        assert "2 crystals in one text" in crystals[0].info["error"]
        return
    assert len(crystals) == len(wanted)
    for crystal, (allowed, atoms, composition) in zip(crystals, wanted, strict=True):
        if not crystal.ok:
            assert crystal.status in allowed or "other" in allowed, crystal.info["error"]
            assert crystal.info["error"]
            continue
        assert "ok" in allowed, crystal
        if atoms and reader != "data set":
            assert crystal.n_atoms == atoms
        if composition:
            assert sorted(formula(crystal.atomic_numbers)) == sorted(composition)
    names = re.findall(r"names? (\S+)(?: \(\w+\))?(?: and (\S+))?", case["expected"])
    if names and path.suffix in (".json", ".jsonl"):
        named = [name.rstrip(";") for name in names[0] if name]
        assert [crystal.info["source_name"] for crystal in crystals] == named
    if "names the symbol" in case["expected"]:
        assert "Q x 7" in crystals[0].info["error"]
    assert not [warning for warning in recwarn if "xtalgen" in str(warning.filename)]
