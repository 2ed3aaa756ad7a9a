"""Files are whole or absent: nothing is left of a block that raises, and folders are made."""

import os
import subprocess
import sys

import pytest

from xtalgen.runtime.atomic import unfinished


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


def test_text_is_utf8_with_its_own_line_ends_in_a_locale_of_seven_bits(tmp_path, root):
    code = (
        "from pathlib import Path; from xtalgen.runtime.atomic import write_text;"
        r"write_text(Path('a.md'), '\u00c5 \u2193\n')"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(root / "src")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **locale}, check=True)
    assert (tmp_path / "a.md").read_bytes() == "Å ↓\n".encode()
