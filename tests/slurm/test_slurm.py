"""The shipped profile on a real SLURM of one node: jobs are submitted, get their GPU, and survive being cancelled."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cluster
import pytest

from xtalgen.crystals import read_crystals

CONFIG = """
seed: 0
device: auto
shards: 2
datasets:
  aflow_20: {limit: {train: 16, val: 6, test: 4}}
runs:
  tiny:
    model: flowmm
    dataset: aflow_20
    tasks: [dng]
    train: {hidden: 16, layers: 2, frequencies: 4, batch_size: 8, epochs: EPOCHS, save_seconds: 0.1}
    sample: {steps: 3}
sample: {n: 4, chunk: 1}
"""
QUICK = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2",
         "--seconds-between-status-checks", "2", "--latency-wait", "5"]  # fmt: skip


@pytest.fixture(scope="module")
def slurm():
    """A cluster; the reason why there is none is printed even when nobody asks for skipped tests."""
    reason = cluster.missing()
    if reason:
        print(f"\nNOT TESTED ON SLURM: {reason}", file=sys.__stderr__)
        pytest.skip(reason)
    cluster.up()
    yield
    cluster.down()


class Experiment:
    def __init__(self, root: Path, folder: Path, epochs: int) -> None:
        self.root, self.folder = root, folder
        (folder / "config.yaml").write_text(CONFIG.replace("EPOCHS", str(epochs)))

    def command(self, *words):
        program = Path(sys.executable).with_name("snakemake")
        return [program, "--profile", "slurm", "--directory", self.folder, *QUICK, *words]

    def run(self, *words):
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            self.command(*words),
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def running(name):
    """Returns the numbers of the running SLURM jobs of a rule."""
    found = subprocess.run(["squeue", "--noheader", "--format=%i %T %k"], capture_output=True, text=True, check=True)
    rows = (line.split(maxsplit=2) for line in found.stdout.splitlines())
    return [row[0] for row in rows if row[1] == "RUNNING" and name in row[-1]]


@pytest.mark.slow
def test_shipped_profile_runs_on_slurm_and_a_cancelled_training_goes_on(slurm, root, tmp_path):
    experiment = Experiment(root, tmp_path, epochs=600)
    cancelled = []

    def cancel():
        deadline = time.monotonic() + 200
        log = tmp_path / "results/train/tiny/dng/log.csv"
        while not cancelled and time.monotonic() < deadline:
            jobs = running("train")
            if jobs and log.exists() and len(log.read_text().splitlines()) > 60:
                subprocess.run(["scancel", jobs[0]], check=True)
                cancelled.append(jobs[0])
            time.sleep(0.2)

    watcher = threading.Thread(target=cancel)
    watcher.start()
    text = experiment.run("results/sample/tiny/dng.parquet")
    watcher.join()
    assert cancelled, "the training ended before it could be cancelled"
    assert "slurm" in text.lower()
    assert "resumed at epoch" in (tmp_path / "logs/train/tiny/dng.log").read_text()
    facts = json.loads((tmp_path / "results/train/tiny/dng/training.json").read_text())
    assert facts["epochs"] == 600
    assert len(read_crystals(tmp_path / "results/sample/tiny/dng.parquet")) == 4
    used = subprocess.run(["scontrol", "show", "job", cancelled[0]], capture_output=True, text=True, check=True).stdout
    assert "gres/gpu=1" in used or "gpu:1" in used
    assert "Nothing to be done" in experiment.run("results/sample/tiny/dng.parquet")
