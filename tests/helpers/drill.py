"""What the fault drill is made of: a tiny experiment, its processes, and the comparison with an undisturbed run."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
CONFIG = """
seed: 1
device: cpu
datasets:
  aflow_20: {limit: {train: 16, val: 6, test: 4}}
runs:
  tiny:
    model: flowmm
    dataset: aflow_20
    tasks: [csp]
    train: {hidden: 16, layers: 1, frequencies: 2, batch_size: 8, epochs: 100, save_seconds: 0.1}
    sample: {steps: 200}
sample: {chunk: 1}
relax: {potential: chgnet, max_steps: 6, reference_steps: 0, timeout: 60}
evaluate: {max_reference: 4}
explorer: {descriptors: fingerprints}
tables: {sets: [tin], published: false}
"""
# Crystals of an element of which the data set's few crystals have one: so no prototypes are relaxed for the hull.
TIN = "".join(
    f'1\nLattice="{a} {b} {b} {b} {a} {b} {b} {b} {a}" Properties=species:S:1:pos:R:3 pbc="T T T"\nSn 0 0 0\n'
    for a, b in ((3.2, 0.0), (0.0, 2.4), (3.1, 0.1), (0.1, 2.5))
)
CHECKPOINT = "results/train/tiny/csp/checkpoint.safetensors"
SAMPLES = "results/sample/tiny/csp.parquet"
RELAXED = "results/relax/tin.parquet"
# Snakemake makes what is missing in between only when it is asked for.
TARGETS = (
    "results/tables.md",
    "results/explorer.html",
    *(f"results/data/aflow_20/{split}.parquet" for split in ("train", "val", "test")),
    CHECKPOINT,
    SAMPLES,
    RELAXED,
    "results/hull/tin.parquet",
    "results/evaluate/tiny/csp.json",
)


class Place:
    """A folder of its own with the tiny experiment in it."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        (folder / "structures").mkdir(parents=True, exist_ok=True)
        (folder / "structures/tin.extxyz").write_text(TIN)
        self.configure(**changes)

    def configure(self, **changes: Any) -> None:
        """Writes the configuration, with dotted keys (`runs__tiny__train__epochs`) changed."""
        config = yaml.safe_load(CONFIG)
        for key, value in changes.items():
            *parents, last = key.split("__")
            entry = config
            for name in parents:
                entry = entry.setdefault(name, {})
            entry[last] = value
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))

    def path(self, name: str) -> Path:
        """Returns a path in the folder."""
        return self.folder / name

    def remove(self, *stages: str) -> None:
        """Takes the outputs of stages away, with their work folders."""
        for stage in stages:
            path = self.folder / "results" / stage
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def start(self, *words: str, prefix: tuple[str, ...] = (), output: str = "said.txt") -> "Running":
        """Starts Snakemake in a session of its own."""
        return Running(self.folder / output, (*prefix, *self.command(*words)))

    def command(self, *words: str) -> tuple[str, ...]:
        """Returns the command of a user."""
        fixed = ("--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder), "--cores", "1")
        return (str(SNAKEMAKE), *fixed, "--rerun-incomplete", "--show-failed-logs", *(words or TARGETS))

    def run(self, *words: str, fails: bool = False, prefix: tuple[str, ...] = ()) -> str:
        """Returns what Snakemake printed; asserts that it succeeded, or failed."""
        running = self.start(*words, prefix=prefix)
        code = running.process.wait(timeout=900)
        text = running.text()
        assert (code != 0) == fails, text
        return text

    def refusal(self, *words: str, said: str, prefix: tuple[str, ...] = ()) -> str:
        """Returns the one line that tells a user why the workflow failed and what to do; asserts what it says."""
        text = self.run(*words, fails=True, prefix=prefix)
        assert "Traceback (most recent call last)" not in text, text
        lines = [line.strip() for line in text.splitlines() if re.search(said, line)]
        assert lines, f"nothing says {said!r}:\n{text}"
        return lines[0].replace(f"{self.folder}/", "")

    def unlock(self) -> None:
        """Removes the lock that a killed workflow left, as `snakemake --unlock` does, without starting it."""
        shutil.rmtree(self.folder / ".snakemake/locks", ignore_errors=True)


class Running:
    """A workflow that runs in a session of its own, so that all its processes can be found."""

    def __init__(self, output: Path, command: tuple[str, ...]) -> None:
        self.output = output
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )

    def text(self) -> str:
        """Returns what was printed so far."""
        return self.output.read_text(errors="replace")

    def jobs(self) -> Iterator[tuple[str, int]]:
        """Yields the stage and the process id of each job that runs now."""
        for pid, words in self.processes():
            for word in words[1:3]:
                if word.endswith(".py") and Path(word).parent == ROOT / "workflow/scripts":
                    yield Path(word).stem, pid

    def processes(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the process id and the words of each process of the session."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.getsid(int(entry.name)) == self.process.pid:
                        yield int(entry.name), (entry / "cmdline").read_bytes().decode().split("\0")
                except (ProcessLookupError, FileNotFoundError):
                    continue

    def wait_for(self, stage: str, ready: str = "", seconds: float = 300) -> int:
        """Returns the process id of a stage's job once it runs and a file that fits the pattern `ready` is there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"ended before {stage} could be disturbed:\n{self.text()}"
            for name, pid in self.jobs():
                if name == stage and (not ready or any(self.output.parent.glob(ready))):
                    return pid
            time.sleep(0.01)
        raise TimeoutError(stage)

    def kill(self, *, jobs_too: bool = True) -> None:
        """Kills the workflow with SIGKILL, with all its jobs or without them."""
        self.process.kill()
        self.process.wait()
        while jobs_too and (alive := [pid for pid, words in self.processes() if words != [""]]):
            for pid in alive:
                kill(pid)
            time.sleep(0.01)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Sends a signal to a process of ours, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# Clocks differ between equal runs.
CLOCKS = {"seconds", "samples_per_s", "gflop_per_s"}


def results(folder: Path) -> dict[str, Any]:
    """Returns everything a run made that must not depend on what happened meanwhile, by file."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "results").rglob("*")):
        name = str(path.relative_to(folder))
        if "work" in name or "/cache" in name or "/positions" in name:
            continue
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            rows = table.drop_columns([column for column in table.column_names if column in CLOCKS])
            found[name] = repr(rows.to_pylist())
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.name == "log.csv":
            found[name] = _without_clocks(path)
        elif path.parent.parent.name == "evaluate" and path.suffix == ".json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "cost"}
        elif path.name == "tables.csv":
            found[name] = [line for line in path.read_text().splitlines() if ",cost," not in line]
        elif path.name == "tables.md":
            before, _, cost = path.read_text().partition("## Cost")
            found[name] = _without_cost(before + cost.partition("\n## ")[2])
    return found


def _without_cost(text: str) -> str:
    """Returns Markdown without the columns of tables that say how long something took."""
    timed: list[int] = []
    lines = []
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) == 1:
            timed = []
        elif not timed:
            timed = [place for place, cell in enumerate(cells) if "hours)" in cell or "(s per" in cell]
        lines.append("|".join(cell for place, cell in enumerate(cells) if place not in timed))
    return "\n".join(lines)


def _without_clocks(path: Path) -> list[list[str]]:
    head, *rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [place for place, column in enumerate(head) if column not in CLOCKS]
    return [[row[place] for place in kept] for row in [head, *rows]]


def same(folder: Path, reference: Mapping[str, Any]) -> None:
    """Asserts that a folder's results are those of the undisturbed run: the same files, row for row."""
    found = results(folder)
    assert sorted(found) == sorted(reference)
    differing = [name for name in reference if found[name] != reference[name]]
    assert not differing, f"differ from the undisturbed run: {differing}"
