"""What a user reads when a stage fails."""

import errno

import pytest

from xtalgen.crystals import ContractError, read_table
from xtalgen.runtime.errors import one_line
from xtalgen.structure.lattice import lattice_from_parameters


def said(error):
    with pytest.raises(SystemExit) as caught, one_line():
        raise error
    return str(caught.value.code)


def test_errors_of_ours_are_one_line_without_a_traceback(tmp_path, capsys):
    assert said(ContractError("t.parquet: torn.\n  Delete it.")) == "error: t.parquet: torn. Delete it."
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with (
        pytest.raises(SystemExit, match=r"^error: .*t\.parquet: not a readable Parquet file.*rerun its stage"),
        one_line(),
    ):
        read_table(tmp_path / "t.parquet")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EROFS, "--directory"), (errno.EACCES, "change its permissions")],
)
def test_errors_of_the_disk_name_file_and_remedy(number, remedy):
    text = said(OSError(number, "No way", "results/x.parquet"))
    assert text.startswith("error: results/x.parquet: No way. ")
    assert remedy in text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 8. TiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_a_lack_of_memory_says_where_to_ask_for_more(error, capsys):
    assert "mem_mb" in said(error)
    assert capsys.readouterr().err == ""


def test_a_mistake_of_the_program_keeps_its_traceback(capsys):
    assert "KeyError: 'x'" in said(KeyError("x"))
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_a_library_keeps_its_traceback(capsys):
    with pytest.raises(SystemExit, match="bug of xtalgen"), one_line():
        lattice_from_parameters("three", None)
    assert "Traceback" in capsys.readouterr().err


def test_what_succeeds_is_left_alone():
    with one_line():
        done = True
    assert done


def test_an_interrupt_says_how_to_go_on_and_keeps_the_code_of_the_signal(capsys):
    with pytest.raises(SystemExit) as caught, one_line():
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err.startswith("stopped by Ctrl-C; finished work is kept")
