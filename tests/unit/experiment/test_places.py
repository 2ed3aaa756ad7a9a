"""Where data sets and caches are kept."""

from pathlib import Path

from xtalgen.experiment.places import data_root, user_cache


def test_configuration_environment_cache_in_this_order(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XTALGEN_DATA", str(tmp_path / "data"))
    assert user_cache() == tmp_path / "cache/xtalgen"
    assert data_root("mine") == Path("mine")
    assert data_root() == tmp_path / "data"
    monkeypatch.setenv("XTALGEN_DATA", "~/data")
    assert data_root() == Path.home() / "data"
    monkeypatch.delenv("XTALGEN_DATA")
    assert data_root() == tmp_path / "cache/xtalgen/data"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert data_root() == Path.home() / ".cache/xtalgen/data"
