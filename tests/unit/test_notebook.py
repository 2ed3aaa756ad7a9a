"""The notebook in examples/ runs, shows what it should, and its stored outputs are small."""

import json

import nbformat
import pytest

from notebook import run


@pytest.fixture(scope="module")
def file(root):
    return root / "examples/notebook.ipynb"


def test_it_is_a_notebook_with_small_outputs(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    assert file.stat().st_size < 40_000


def test_every_cell_runs_and_shows_what_is_stored(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    notebook = json.loads(file.read_text())
    stored = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = run(notebook)
    kinds = [[(one["output_type"], sorted(one.get("data", ()))) for one in shown] for shown in found]
    assert kinds == [[(one["output_type"], sorted(one.get("data", ()))) for one in shown] for shown in stored]
    assert found[0] == stored[0], "the scores of given structures do not change"
    assert (tmp_path / "predicted.zip").is_file()
