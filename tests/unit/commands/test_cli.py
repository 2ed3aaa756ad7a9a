"""The command `xtalgen`: help, exit codes, and mistakes that are answered before anything heavy is imported."""

import json
import os
import subprocess
import sys

import pytest

from xtalgen import __version__, cli
from xtalgen.commands import choices, data, doctor, explore
from xtalgen.metrics.protocols import DEFAULT, RECIPES
from xtalgen.potentials.registry import POTENTIALS

HEAVY = ("torch", "pymatgen", "ase", "scipy", "numba", "pandas", "matplotlib", "matminer", "smact", "chgnet")
# Command lines that end before any work, with their exit code and what they say.
QUICK = [
    (["--version"], 0, f"xtalgen {__version__}"),
    (["--help"], 0, "commands:"),
    ([], 2, "the following arguments are required: COMMAND"),
    (["draw"], 2, "invalid choice: 'draw'"),
    *[([name, "--help"], 0, "examples:") for name in cli.COMMANDS],
    (["score", "mine.foo"], 1, "mine.foo: unknown suffix; allowed are .extxyz"),
    (["score", "gone.cif"], 1, "gone.cif: there is no such file."),
    (["score", "mine.cif", "--recipe", "best"], 2, "invalid choice: 'best'"),
    (["score", "mine.cif", "--dataset", "nowhere"], 1, "nowhere: no published data set of this name"),
    (["score", "mine.cif", "--task", "csp"], 2, "name its --dataset"),
    (["score", "mine.cif", "--hull", "dft"], 2, "name it as --dataset"),
    (["score", "mine.cif", "--hull", "mp2020", "--relax", "chgnet"], 2, "go together"),
    (["score", "mine.cif", "--source", "."], 2, "--source needs --dataset"),
    (["relax", "mine.foo"], 1, "mine.foo: unknown suffix"),
    (["relax", "mine.cif", "--potential", "nope"], 2, "neither the name of a potential"),
    (["relax", "mine.cif", "--out", "x.foo"], 2, "x.foo: unknown suffix"),
    (["explore", "mine.cif", "--out", "page.pdf"], 2, "ends in .html"),
    (["explore", "mine.foo"], 1, "mine.foo: unknown suffix"),
    (["generate", "--out", "x.foo"], 2, "x.foo: unknown suffix"),
    (["predict", "NaCl", "-k", "x"], 2, "'x' is not a whole number above 0"),
    (["data", "fetch"], 2, "fetch needs the name of a data set"),
    (["data", "fetch", "mine"], 2, "no data set 'mine'"),
    (["data", "list"], 0, "aflow_20"),
    (["data", "where"], 0, "downloads"),
]
RUN = """
import contextlib, io, json, sys
from xtalgen import cli
heavy, lines = json.loads(sys.stdin.read())
found = []
for words in lines:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            cli.main(words)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
            print(end.code)
    found.append([code, out.getvalue(), [name for name in heavy if name in sys.modules]])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers(root, tmp_path_factory):
    """Returns exit code, text and heavy modules after each of `QUICK`, all in one process."""
    folder = tmp_path_factory.mktemp("cli")
    for name in ("mine.foo", "mine.cif"):
        (folder / name).write_text("x")
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "200"}
    asked = json.dumps([HEAVY, [words for words, _, _ in QUICK]])
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("index", range(len(QUICK)), ids=lambda index: " ".join(QUICK[index][0]) or "nothing")
def test_mistakes_and_help_import_nothing_heavy(answers, index):
    code, text, heavy = answers[index]
    _, wanted, said = QUICK[index]
    assert said in text
    assert code == wanted
    assert heavy == []


def test_importing_the_package_imports_nothing(root):
    code = "import sys, xtalgen; print([name for name in sys.modules if name.split('.')[0] in sys.argv[1:]])"
    environment = {**os.environ, "PYTHONPATH": str(root / "src")}
    words = [sys.executable, "-c", code, *HEAVY, "numpy", "pyarrow"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]"


def test_choices_are_those_of_the_registries():
    assert choices.recipe_names() == list(RECIPES)
    assert choices.DEFAULT_RECIPE == DEFAULT
    assert choices.potential_names() == list(POTENTIALS)


def test_every_command_has_a_module():
    for name in cli.COMMANDS:
        cli.importlib.import_module(f"xtalgen.commands.{name}").main  # noqa: B018


def test_data_sets_are_found_where_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XTALGEN_DATA", str(tmp_path))
    (tmp_path / "perov_5").mkdir()
    (tmp_path / "perov_5/structures.json.zip").write_bytes(b"")
    fetched = tmp_path / "downloads/mp_20"
    fetched.mkdir(parents=True)
    for split in ("train", "val", "test"):
        (fetched / f"{split}.csv").write_bytes(b"")
    data.main(["list", "--json"])
    states = {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert states["aflow_20"] == "embedded"
    assert states["perov_5"] == "your copy"
    assert states["mp_20"] == states["mp_20_grouped"] == "fetched"
    assert states["mpts_52"] == "to be fetched"
    data.main(["where", "--json"])
    assert json.loads(capsys.readouterr().out)["data"]["folder"] == str(tmp_path)
    assert data.describe_fetch("mine") == ""
    assert "73 MB, 58 s at 10 Mbit/s" in data.describe_fetch("mpts_52")


def test_fetch_tells_the_size_first_and_verifies(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XTALGEN_DATA", str(tmp_path))
    calls = []
    monkeypatch.setattr("xtalgen.datasets.places.fetch", lambda url, out, **sums: calls.append((url, out, sums)))
    data.main(["fetch", "mp_20", "--split", "test"])
    ((url, out, sums),) = calls
    assert url.endswith("/data/mp_20/test.csv")
    assert out == tmp_path / "downloads/mp_20/test.csv"
    assert sums["git_blob_id"]
    printed = capsys.readouterr()
    assert "mp_20 is downloaded once (59 MB" in printed.err
    assert printed.out == f"{out}\n"


def test_doctor_sees_what_is_there(capsys):
    doctor.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["xtalgen"] == __version__
    assert found["packages"]["torch"]
    assert found["potentials"]["mace-small"] == "weights installed"
    assert "formula_orbits" in found["weights"]["dng"]
    doctor.main([])
    assert "device: " in capsys.readouterr().out


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    (tmp_path / "mine.json").write_text("[]")

    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'chemiscope'", name="chemiscope")

    monkeypatch.setattr("xtalgen.commands.functions.exploring.explore", fail)
    with pytest.raises(SystemExit, match=r"chemiscope is not installed\. .* pip install 'xtalgen\[explorer\]'"):
        explore.main([str(tmp_path / "mine.json")])
