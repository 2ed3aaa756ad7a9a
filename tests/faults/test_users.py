"""What users do to a running or finished experiment: dates, interrupts, limits, wrong files, other places."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drill import CHECKPOINT, ROOT, SAMPLES, Place, same
from xtalgen.crystals import read_table

TWO_DAYS = 2 * 86_400
DATA = [f"results/data/aflow_20/{split}.parquet" for split in ("train", "val")]
FRAME = '2\nLattice="5.6 0 0 0 5.6 0 0 0 5.6" Properties=species:S:1:pos:R:3\nNa 0 0 0\nCl 2.8 2.8 {z}\n'


def in_two_days(*paths):
    """Dates files two days in the future."""
    for path in paths:
        os.utime(path, (time.time() + TWO_DAYS,) * 2)


def test_inputs_dated_in_the_future(copy, reference, report):
    data = [copy.path(name) for name in DATA]
    own = copy.path("structures/tin.extxyz")
    copy.remove("train", "sample")
    in_two_days(*data, own)
    assert "older modification time" not in copy.run()
    copy.run("results/sample/tin.parquet")
    assert "was dated in the future" in copy.path("logs/train/tiny/csp.log").read_text()
    assert "was dated in the future" in copy.path("logs/sample/tin/import.log").read_text()
    assert "Nothing to be done" in copy.run()
    same(copy.folder, reference)
    report("data and own structures dated in two days, then a training", "survived: their dates are set to now")
    copy.remove("train")
    running = copy.start(CHECKPOINT)
    running.wait_for("train", "results/train/tiny/csp/work/*/*")
    in_two_days(*data)
    assert running.process.wait(timeout=900) == 0, running.text()
    copy.run()
    assert "Nothing to be done" in copy.run()
    same(copy.folder, reference)
    report("clock set back two days during a training", "survived")


def test_interrupt_in_a_training(copy, reference, report):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, and so by children, in a shell's background
    copy.remove("train")
    running = copy.start(CHECKPOINT)
    running.wait_for("train", "results/train/tiny/csp/work/*/state.pt")
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.process.wait(timeout=300) != 0
    log = copy.path("logs/train/tiny/csp.log").read_text()
    assert "Traceback" not in log + running.text()
    line = next(line for line in log.splitlines() if "stopped by Ctrl-C" in line)
    copy.unlock()
    copy.run()
    assert "resumed at epoch" in copy.path("logs/train/tiny/csp.log").read_text()
    same(copy.folder, reference)
    report("Ctrl-C in a training", f"survived: {line}")


def test_results_in_another_place_under_another_checkout(copy, reference, report, tmp_path):
    checkout = tmp_path / "another checkout"
    for name in ("src", "workflow", "profiles"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", checkout)
    there = Place(tmp_path / "elsewhere/experiment")
    shutil.copytree(copy.folder, there.folder, dirs_exist_ok=True, copy_function=shutil.copy)  # new dates, any order
    words = list(there.command("-n", "--", "results/tables.md", "results/explorer.html", CHECKPOINT))
    words[words.index(str(ROOT / "Snakefile"))] = str(checkout / "Snakefile")
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=True)
    assert "Nothing to be done" in done.stdout + done.stderr
    same(there.folder, reference)
    report("results copied to another path, another checkout", "survived: nothing is run again")


def test_home_and_program_read_only(tmp_path, report):
    program, home = tmp_path / "program", tmp_path / "home"
    program.mkdir()
    home.mkdir()
    with contextlib.ExitStack() as mounted:
        for folder, options in (
            (program, ["--bind", str(ROOT), str(program)]),
            (home, ["-t", "tmpfs", "tmpfs", str(home)]),
        ):
            done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"cannot mount ({done.stderr.strip()}); needs root")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            subprocess.run(
                ["mount", "-o", f"remount,ro{',bind' if '--bind' in options else ''}", str(folder)], check=True
            )
        place = Place(tmp_path / "experiment")
        words = list(
            place.command(
                "--profile", "profiles/local", "--", "results/fingerprints/reference/aflow_20.parquet", CHECKPOINT
            )
        )
        words[words.index(str(ROOT / "Snakefile"))] = str(program / "Snakefile")
        words[words.index("profiles/local")] = str(program / "profiles/local")
        environment = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1"}
        for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
            environment.pop(name, None)
        done = subprocess.run(words, cwd=place.folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    report("home and program read-only", "survived: caches are kept elsewhere or not at all")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shards": 1_000_000_000}, r"shards: 1,000,000,000 is not allowed\. Give at most 1,000\."),
        ({"runs__tiny__train__hidden": 10**12}, r"train\.hidden is 1,000,000,000,000, beyond the bound of 65,536"),
        ({"runs__tiny__train__epochs": float("inf")}, r"train\.epochs: inf is not a finite number"),
        ({"relax__timeout": float("nan")}, r"relax\.timeout: nan is not a finite number"),
    ],
)
def test_absurd_numbers(tmp_path, report, changes, said):
    place = Place(tmp_path, **changes)
    began = time.monotonic()
    line = place.refusal("-n", "--", "results/tables.md", said=said)
    assert time.monotonic() - began < 60
    report(f"configuration: {changes}", f"refused: {line}")


def score(folder, *words, prefix=(), code=0):
    """Returns what `xtalgen score` prints."""
    command = [*prefix, sys.executable, "-m", "xtalgen", "score", "--cache", str(folder / "cache"), "--workers", "1"]
    done = subprocess.run(
        [*command, "--dataset", "aflow_20", *map(str, words)],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_memory_and_mistakes_on_the_command_line(tmp_path, report):
    mine = tmp_path / "mine.extxyz"
    mine.write_text("".join(FRAME.format(z=2.5 + index / 10_000) for index in range(2000)))
    text = score(tmp_path, mine, prefix=("prlimit", f"--as={800 * 1024**2}"), code=1)
    line = text.splitlines()[-1]
    assert "use fewer processes (--workers of xtalgen score)" in line
    assert line.startswith("error: Out of memory. Raise the limit (ulimit -v")
    report("xtalgen score of 2,000 crystals with 800 MB (ulimit -v)", f"refused: {line}")
    for fault, words, said in (
        ("a file that is not there", [tmp_path / "none.cif"], "there is no such file"),
        ("a folder", [tmp_path], "is a folder. Give one file"),
        ("an unknown data set", [mine, "--dataset", "none"], "no published data set of this name"),
    ):
        line = score(tmp_path, *words, code=1).strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert said in line
        report(f"xtalgen score: {fault}", f"refused: {line.replace(f'{tmp_path}/', '')}")


def test_damaged_files_of_the_cache(tmp_path, report):
    mine = tmp_path / "mine.extxyz"
    mine.write_text("".join(FRAME.format(z=2.5 + index / 10) for index in range(4)))
    score(tmp_path, mine)
    metrics = json.loads((tmp_path / "mine-metrics.json").read_text())["metrics"]
    files = sorted(path for path in (tmp_path / "cache").rglob("*.parquet"))
    assert len(files) == 6
    harms = (
        lambda content: content[: len(content) // 2],
        lambda content: content[:-30] + bytes([content[-30] ^ 4]) + content[-29:],
        lambda _: b"",
    )
    for place, file in enumerate(files):
        file.write_bytes(harms[place % 3](file.read_bytes()))
    text = score(tmp_path, mine)
    for file in files:
        assert f"{file}: damaged, its checksum differs from the stored one; it is made again" in text
    assert json.loads((tmp_path / "mine-metrics.json").read_text())["metrics"] == metrics
    assert "made again" not in score(tmp_path, mine)
    report(f"{len(files)} files of the cache cut off, flipped, emptied", "survived: made again, with a warning each")


def stage(script, *words):
    """Returns the one line with which a stage's program ends."""
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(script).main([str(word) for word in words])
    line = str(caught.value.code)
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def test_wrong_files_are_called_what_they_are(copy, report, tmp_path, monkeypatch):
    monkeypatch.chdir(copy.folder)
    line = stage("sample", "--model", "diffcsp", "--checkpoint", CHECKPOINT, "--n", 1, "--work", tmp_path / "w",
                 "--out", tmp_path / "o.parquet")  # fmt: skip
    assert "a checkpoint of model flowmm, not of diffcsp" in line
    report("a checkpoint of flowmm given to diffcsp", f"refused: {line}")
    pipe = copy.path("structures/pipe.cif")
    os.mkfifo(pipe)
    line = stage("import_structures", "--structures", pipe, "--out", tmp_path / "o.parquet")
    assert "is a pipe or a device" in line
    report("a FIFO as file of structures", f"refused: {line.replace(f'{copy.folder}/', '')}")
    table = read_table(copy.path(SAMPLES))
    place = table.schema.get_field_index("lattice")
    other = table.set_column(place, "lattice", table["lattice"].cast(pa.list_(pa.float32())))
    pq.write_table(other, tmp_path / "other.parquet")
    line = stage("merge", "--parts", tmp_path / "other.parquet", "--out", tmp_path / "o.parquet")
    assert "column 'lattice' has type list<element: float>, expected list<item: double>" in line
    report("a table whose column has another type", f"refused: {line.replace(f'{tmp_path}/', '')}")


MEASURE = """
import resource, sys
from pathlib import Path
from xtalgen.stages.import_structures import import_structures
if __name__ == "__main__":
    import_structures(Path(sys.argv[1]), out=[Path(sys.argv[2])], workers=1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_many_structures_in_constant_memory(tmp_path, report):
    program = tmp_path / "measure.py"
    program.write_text(MEASURE)
    peaks = []
    for count in (5_000, 40_000):
        mine, out = tmp_path / f"mine{count}.extxyz", tmp_path / "out.parquet"
        with mine.open("w") as file:
            file.writelines(FRAME.format(z=2.5 + index / 100_000) for index in range(count))
        words = [sys.executable, str(program), str(mine), str(out)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        peaks.append(int(done.stdout.split()[-1]))
        assert pq.read_metadata(out).num_rows == count
    assert peaks[1] < peaks[0] + 20
    report("extxyz of 5,000 and of 40,000 frames", f"survived: {peaks[0]} MB and {peaks[1]} MB")
