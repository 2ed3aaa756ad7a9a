"""Files dated in the future, which Snakemake takes for newer than everything that is made from them."""

import os
import time

import pytest

from xtalgen.runtime.dates import set_to_now
from xtalgen.runtime.errors import JOB, one_line

FUTURE = 4_070_908_800  # 2099


@pytest.fixture
def late(tmp_path):
    path = tmp_path / "late.parquet"
    path.write_text("content")
    os.utime(path, (FUTURE, FUTURE))
    return path


def test_only_files_dated_in_the_future_are_changed(tmp_path, late, caplog):
    old = tmp_path / "old"
    old.touch()
    os.utime(old, (1, 1))
    link = tmp_path / "link"
    link.symlink_to(old)
    os.utime(link, (FUTURE, FUTURE), follow_symlinks=False)
    set_to_now(["--train", str(late), str(old), str(link), str(tmp_path), "no file", "x" * 5000, '{"a": "\0"}'])
    assert time.time() - 60 < late.stat().st_mtime <= time.time()
    assert link.lstat().st_mtime <= time.time()
    assert late.read_text() == "content"
    assert f"{late}: was dated in the future (2099-" in caplog.text


def test_a_date_that_cannot_be_changed_is_refused(late, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.utime", forbidden)
    monkeypatch.setenv(JOB, "1")
    monkeypatch.setattr("sys.argv", ["train.py", "--train", str(late)])
    with (
        pytest.raises(SystemExit, match=r"^error: .*late\.parquet: dated in the future \(2099-.*Give a copy"),
        one_line(),
    ):
        raise AssertionError("the job has started")


def test_jobs_of_the_workflow_change_dates_before_and_after(late, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "--train", str(late)])
    with one_line():
        assert late.stat().st_mtime == FUTURE, "a program run by hand leaves dates alone"
    monkeypatch.setenv(JOB, "1")
    with one_line():
        assert late.stat().st_mtime <= time.time()
        os.utime(late, (FUTURE, FUTURE))  # the clock is set back
    assert late.stat().st_mtime <= time.time()
