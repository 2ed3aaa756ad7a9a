"""The shipped profile on a real SLURM of one node: a cancelled job, a lost node, a time-out, and the same results."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import slurm_cluster as cluster
from drill import results, same
from xtalgen.crystals import read_crystals

CONFIG = """
seed: 0
device: DEVICE
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
relax: {potential: chgnet, max_steps: 3, reference_steps: 0, timeout: 60}
evaluate: {max_reference: 4}
tables: {published: false}
"""
QUICK = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2",
         "--seconds-between-status-checks", "2", "--latency-wait", "5"]  # fmt: skip
EPOCHS = 400
STARTED: list[subprocess.Popen] = []
TRAINED = "results/train/tiny/dng/checkpoint.safetensors"


@pytest.fixture(scope="module")
def slurm():
    """A cluster; the reason why there is none is printed even when nobody asks for skipped tests."""
    reason = cluster.missing() or cluster.install()
    if reason:
        print(f"\nNOT TESTED ON SLURM: {reason}", file=sys.__stderr__)
        pytest.skip(reason)
    try:
        cluster.up()
        yield
    finally:
        for process in STARTED:
            process.kill()
        cluster.down()


class Experiment:
    """A tiny experiment in a folder of its own."""

    def __init__(self, root: Path, folder: Path, device: str = "auto") -> None:
        folder.mkdir()
        self.root, self.folder = root, folder
        (folder / "config.yaml").write_text(CONFIG.replace("DEVICE", device).replace("EPOCHS", str(EPOCHS)))

    def start(self, *words):
        program = Path(sys.executable).with_name("snakemake")
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        with (self.folder / "said.txt").open("w") as file:
            process = subprocess.Popen(
                [program, "--directory", self.folder, *words],
                cwd=self.root, env=environment, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        STARTED.append(process)
        return process

    def finish(self, process):
        """Waits for a run that must succeed, and returns what it printed."""
        code = process.wait(timeout=600)
        text = (self.folder / "said.txt").read_text()
        assert code == 0, text
        return text

    def epochs(self):
        """Returns how many epochs the training has logged."""
        log = self.folder / "results/train/tiny/dng/log.csv"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def log(self):
        """Returns the log of the last attempt at the training."""
        log = self.folder / "logs/train/tiny/dng.log"
        return log.read_text() if log.exists() else ""


def jobs(state, name):
    """Returns the numbers of the SLURM jobs of a rule that are in a state."""
    found = subprocess.run(["squeue", "--noheader", "--format=%i %T %k"], capture_output=True, text=True, check=True)
    rows = (line.split(maxsplit=2) for line in found.stdout.splitlines())
    return [row[0] for row in rows if len(row) == 3 and row[1] == state and name in row[2]]


def wait_until(true, seconds, what):
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return found


def set_node(state):
    host = subprocess.run(["sinfo", "--noheader", "--format=%n"], capture_output=True, text=True, check=True)
    words = ["scontrol", "update", f"NodeName={host.stdout.split()[0]}", f"State={state}", "Reason=drill"]
    # A node that answers is back by itself (ReturnToService), and then has nothing to resume.
    subprocess.run(words, check=state == "DOWN", capture_output=True)


def processes_of(folder):
    """Returns the trainings that write into a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                here = (entry / "cwd").resolve() == folder.resolve()
            except OSError:  # ended meanwhile, or another's
                continue
            if here and any(word.endswith("scripts/train.py") for word in words[1:2]):
                found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_cancelled_job_and_a_lost_node_change_no_result(slurm, root, tmp_path):
    experiment = Experiment(root, tmp_path / "cluster")
    running = experiment.start("--profile", "slurm", *QUICK, "--", "results/tables.md")
    _cancel_and_lose_the_node(experiment)

    local = Experiment(root, tmp_path / "local")  # while SLURM lets its two minutes pass
    local.finish(local.start("--cores", "2", "--", "results/tables.md"))
    text = experiment.finish(running)
    assert "slurm" in text.lower()
    assert "resumed at epoch" in experiment.log()
    assert len(read_crystals(experiment.folder / "results/sample/tiny/dng.parquet")) == 4
    same(experiment.folder, results(local.folder))
    print("\nSLURM: job cancelled, node down and back: survived; results are those of a run without SLURM")


@pytest.mark.slow
def test_a_training_that_runs_out_of_time_goes_on(slurm, root, tmp_path):
    experiment = Experiment(root, tmp_path / "late", device="cpu")
    # Each attempt gets a minute more.
    longer = ["--set-resources", "train:runtime=attempt", "--retries", "3"]
    running = experiment.start("--profile", "slurm", *QUICK, *longer, "--", TRAINED)
    wait_until(lambda: experiment.epochs() > 60 and processes_of(experiment.folder), 300, "no training began")
    for pid in processes_of(experiment.folder):  # a training that hangs
        os.kill(pid, signal.SIGSTOP)
    # Seen while it runs: each attempt writes its own log.
    wait_until(lambda: "resumed at epoch" in experiment.log(), 400, "not resumed after the time-out")
    assert "TIMEOUT" in experiment.finish(running)
    facts = json.loads((experiment.folder / "results/train/tiny/dng/training.json").read_text())
    assert facts["epochs"] == EPOCHS
    print("\nSLURM: time-out: submitted again, resumed")


def _cancel_and_lose_the_node(experiment):
    """Cancels the training, then takes the node away under the next one and gives it back."""
    first = wait_until(lambda: experiment.epochs() > 60 and jobs("RUNNING", "train"), 200, "no training began")[0]
    subprocess.run(["scancel", first], check=True)
    used = subprocess.run(["scontrol", "show", "job", first], capture_output=True, text=True, check=True).stdout
    assert "gres/gpu=1" in used or "gpu:1" in used
    wait_until(lambda: set(jobs("RUNNING", "train")) - {first}, 120, "not submitted again")
    wait_until(lambda: "resumed at epoch" in experiment.log(), 60, "not resumed")
    set_node("DOWN")
    wait_until(lambda: jobs("PENDING", "train"), 60, "not put back into the queue")
    set_node("RESUME")
    # SLURM lets two minutes pass before it begins a job again whose node died.
    assert experiment.epochs() < EPOCHS, "the training ended before its node was taken away"
