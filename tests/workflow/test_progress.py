"""Snakemake's progress: a line for each job, errors with their log, little in CI, a live line for people."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from snakemake_logger_plugin_xtalgen import duration, name_of, remaining

RULES = """
rule all:
    input: expand("out/{run}/{task}.txt", run=["a", "b", "c", "d", "e", "f"], task=["dng", "csp"])
rule sample:
    output: "out/{run}/{task}.txt"
    log: "logs/{run}/{task}.log"
    shell: "SLEEP; echo row 7 is no crystal > {log}; [ ! -e broken ]; touch {output}"
"""
PROGRAM = Path(sys.executable).with_name("snakemake")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Snakefile").write_text(RULES.replace("SLEEP", "true"))
    return tmp_path


def command(*words):
    return [PROGRAM, "--cores", "2", "--logger", "xtalgen", "--show-failed-logs", *words]


def snakemake(root, folder, *words, **environment):
    chosen = {key: value for key, value in os.environ.items() if key != "CI"} | environment
    chosen["PYTHONPATH"] = f"{root}/src"
    done = subprocess.run(command(*words), cwd=folder, env=chosen, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_one_line_a_job_with_stage_run_count_share_and_time_left(root, folder):
    code, text = snakemake(root, folder)
    lines = text.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == [f"{place}/13" for place in range(1, 14)]
    assert [line.split()[1] for line in lines][::6] == ["8%", "54%", "100%"]
    assert all("left" in line for line in lines[:-1])
    assert sum("sample b/csp" in line for line in lines) == 1
    assert snakemake(root, folder)[1].startswith("Nothing to be done")


def test_errors_come_with_their_log_and_dry_runs_as_usual(root, folder):
    (folder / "broken").touch()
    code, text = snakemake(root, folder)
    assert code == 1
    assert "Error in rule sample" in text
    assert "row 7 is no crystal" in text
    code, text = snakemake(root, folder, "--dry-run")
    assert code == 0
    assert "sample       12" in text or "sample      12" in text


def test_continuous_integration_reads_a_line_for_each_tenth(root, folder):
    code, text = snakemake(root, folder, CI="true")
    assert code == 0
    assert len(text.splitlines()) == 10


def test_a_person_sees_what_is_running(root, folder):
    (folder / "Snakefile").write_text(RULES.replace("SLEEP", "sleep 1.5"))
    main, other = pty.openpty()
    environment = os.environ | {"PYTHONPATH": f"{root}/src", "TERM": "xterm"}
    process = subprocess.Popen(command("out/a/dng.txt"), cwd=folder, env=environment, stdout=other, stderr=other)
    os.close(other)
    text = b""
    while True:
        try:
            text += os.read(main, 1000)
        except OSError:  # the other end was closed
            break
    assert process.wait() == 0
    assert b"running: sample a/dng 1 s" in text
    assert b"1/1 100%" in text
    assert b"Select jobs" not in text


def test_words():
    assert name_of("train", {"run": "flowmm", "training": "dng"}) == "train flowmm/dng"
    assert name_of("tables", {}) == "tables"
    assert remaining(60, 1, 4) == "3 min left"
    assert remaining(60, 4, 4) == "done"
    assert [duration(seconds) for seconds in (0.2, 99, 100, 5900, 6000)] == ["0 s", "99 s", "2 min", "98 min", "1.7 h"]
