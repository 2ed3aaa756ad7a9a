"""A fingerprint changes with meaning, and with nothing else."""

import os
import subprocess
import sys

import pytest

from xtalgen.runtime import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "src" / "xtalgen"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "models" / "__init__.py").write_text("")
    (folder / "crystals.py").write_text('"""Contract."""\nLIMIT = 1\n')
    (folder / "relax.py").write_text("from xtalgen.crystals import LIMIT\n\n\ndef relax():\n    return LIMIT\n")
    (folder / "models" / "flow.py").write_text("import xtalgen.crystals\nshared_checkpoint = False\n")
    script = tmp_path / "relax_script.py"
    script.write_text("from xtalgen.relax import relax\n\nrelax()\n")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    return folder, script


def test_comments_docstrings_and_touching_do_not_count(package):
    folder, script = package
    before = provenance.fingerprint(script)
    words = '"""New words."""\n\nfrom xtalgen.crystals import LIMIT\n\n\n'
    words += 'def relax():\n    """Says more."""\n    return LIMIT  # why\n'
    (folder / "relax.py").write_text(words)
    script.touch()
    assert provenance.fingerprint(script) == before


@pytest.mark.parametrize("edited", ["relax.py", "crystals.py", "script"])
def test_every_module_that_takes_part_counts(package, edited):
    folder, script = package
    before = provenance.fingerprint(script)
    path = script if edited == "script" else folder / edited
    path.write_text(path.read_text() + "\nMORE = 2\n")
    assert provenance.fingerprint(script) != before


def test_the_version_does_not_count(package):
    folder, script = package
    before = provenance.fingerprint(script)
    (folder / "__init__.py").write_text('__version__ = "2"\n')
    assert provenance.fingerprint(script) == before


def test_a_model_counts_only_where_it_is_named(package):
    folder, script = package
    model = folder / "models" / "flow.py"
    without, with_model = provenance.fingerprint(script), provenance.fingerprint(script, model)
    model.write_text(model.read_text() + "\nMORE = 2\n")
    assert provenance.fingerprint(script) == without
    assert provenance.fingerprint(script, model) != with_model


def test_the_same_under_every_hash_seed(root):
    code = (
        "from pathlib import Path; from xtalgen.runtime.provenance import fingerprint;"
        f"print(fingerprint(Path({str(root / 'workflow/scripts/sample.py')!r})))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(root / "src")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(5)
    }
    assert len(found) == 1


def test_what_was_parsed_once_is_kept_and_a_broken_cache_does_not_matter(package, tmp_path, monkeypatch):
    _, script = package
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def begin():
        provenance._parsed.clear()
        provenance._kept.cache_clear()

    begin()
    before = provenance.fingerprint(script)
    kept = tmp_path / "cache/xtalgen/syntax_trees.sealed"
    assert kept.is_file()
    begin()
    monkeypatch.setattr(provenance, "_read", None)
    assert provenance.fingerprint(script) == before
    monkeypatch.undo()
    monkeypatch.setattr(provenance, "PACKAGE", package[0])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for broken in ("{", "[]", '{"a": 1}', "null"):
        kept.write_text(broken)
        begin()
        assert provenance.fingerprint(script) == before
    begin()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    provenance._kept.cache_clear()
    yield tmp_path / "cache/xtalgen/contents.sealed"
    provenance._kept.cache_clear()


def test_other_content_counts_under_any_date_and_a_date_does_not(tmp_path, own_cache):
    path = tmp_path / "mine.cif"
    path.write_text("one")
    before = provenance.contents([path])
    os.utime(path, (5, 5))
    assert provenance.contents([path]) == before
    other = tmp_path / "other.cif"
    other.write_text("two")
    os.utime(other, (1, 1))
    other.replace(path)
    assert provenance.contents([path, None, tmp_path / "absent"]) != before
    assert own_cache.is_file()


def test_a_copy_in_place_of_equal_size_and_date_counts(tmp_path, own_cache):
    path = tmp_path / "mine.cif"
    path.write_text("one")
    os.utime(path, (5, 5))
    before = provenance.content(path)
    path.write_text("two")
    os.utime(path, (5, 5))
    assert provenance.content(path) != before


def test_an_unchanged_file_is_read_once(tmp_path, own_cache, monkeypatch):
    path = tmp_path / "large.model"
    path.write_text("one")
    before = provenance.contents([path])
    provenance._kept.cache_clear()
    monkeypatch.setattr(provenance.hashlib, "file_digest", None)
    assert provenance.contents([path]) == before


def test_a_folder_counts_by_the_names_and_contents_of_its_files(tmp_path, own_cache):
    folder = tmp_path / "base"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/weights").write_text("one")
    before = provenance.content(folder)
    (folder / "deep/weights").rename(folder / "deep/other")
    assert provenance.content(folder) != before
    (folder / "deep/other").rename(folder / "deep/weights")
    assert provenance.content(folder) == before
