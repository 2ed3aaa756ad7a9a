"""A work folder belongs to one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xtalgen.runtime.locks import BusyError, alone

HOLD = """
import sys, time
from pathlib import Path
from xtalgen.runtime.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path):
    work = tmp_path / "work"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    command = [sys.executable, "-c", HOLD, str(work)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match=rf"work: process {process.pid} on .* is using this folder\. Wait"),
            alone(work),
        ):
            pass
        process.kill()
    with alone(work):
        pass
    assert not work.exists()


def test_other_files_stay(tmp_path):
    with alone(tmp_path):
        (tmp_path / "state").write_text("kept")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with alone(tmp_path):
        pass
