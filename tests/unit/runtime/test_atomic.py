"""Files are whole or absent: nothing is left of a block that raises, and folders are made."""

import pytest

from xtalgen.runtime.atomic import unfinished, write_text


def test_a_block_that_ends_gives_the_file(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with unfinished(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_a_block_that_raises_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("old")

    def fails():
        with unfinished(path) as part:
            assert part.suffix == ".npz"
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_text_is_utf8_with_its_own_line_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    write_text(tmp_path / "a.md", "Å ↓\n")
    assert (tmp_path / "a.md").read_bytes() == "Å ↓\n".encode()
