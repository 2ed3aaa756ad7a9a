"""A full disk, a read-only one, files that rot, files whose dates lie."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

from drill import CHECKPOINT, RELAXED, SAMPLES, same

SIZE = 32 * 1024**2


@pytest.fixture
def small_disk(copy):
    """Yields a finished experiment whose results lie on a disk of their own, and how to fill that disk."""
    folder = copy.path("results")
    folder.rename(copy.path("kept"))
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"cannot mount a small disk ({done.stderr.strip()}); needs root"
        print(f"\nNOT DRILLED, full and read-only disks: {reason}", file=sys.__stdout__, flush=True)
        pytest.skip(reason)
    try:
        shutil.copytree(copy.path("kept"), folder, dirs_exist_ok=True)
        yield copy, folder / "filler"
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(filler, leave):
    """Writes a file that leaves so many bytes of its disk free."""
    state = os.statvfs(filler.parent)
    filler.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - leave)))


def test_full_and_read_only_disks(small_disk, reference, report):
    copy, filler = small_disk
    for stage, target, leave in (("train", CHECKPOINT, 60_000), ("relax", RELAXED, 4_096)):
        copy.remove(stage)
        fill(filler, leave)
        line = copy.refusal(target, said="disk is full")
        filler.unlink()
        report(f"disk full in stage {stage}", f"refused: {line}")
    copy.run()
    same(copy.folder, reference)
    copy.configure(runs__tiny__sample__steps=99)
    remount = ["mount", "-o", "remount,{}", str(copy.path("results"))]
    subprocess.run([word.format("ro") for word in remount], check=True)
    line = copy.refusal(SAMPLES, said="[Rr]ead-only|Write-protected")
    subprocess.run([word.format("rw") for word in remount], check=True)
    copy.configure()
    assert "Nothing to be done" in copy.run()
    same(copy.folder, reference)
    report("read-only results", f"refused: {line}")


def cut(path):
    """Leaves the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Flips one bit of a file, as a bad disk does: of a table one that changes what is read without sums."""
    whole = path.read_bytes()
    table = pq.read_table(path) if path.suffix == ".parquet" else None
    for place in range(len(whole) // 2 if table is None else 4, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            if table is None or not pq.read_table(path).equals(table):
                return
        except (OSError, ValueError, MemoryError):  # seen without sums
            continue
    raise AssertionError(f"no bit of {path} matters")


NAMES = {cut: "cut off", flip: "flipped bit"}
# From the last to the first: a job that fails takes its outputs away.
FILES = [
    (RELAXED, "results/hull/tin.parquet", r"tin.parquet: not a readable.*Delete it"),
    (CHECKPOINT, SAMPLES, r"checkpoint.safetensors: (not a readable|damaged).*Delete it and train again"),
    ("results/data/aflow_20/train.parquet", CHECKPOINT, r"train.parquet: not a readable Parquet file.*Delete it"),
]
SCORES = ("results/evaluate/tiny/csp.json", "results/tables.md", r"csp.json: not readable JSON.*Delete it")


@pytest.mark.parametrize("harm", [cut, flip])
def test_damaged_files_between_stages(copy, reference, report, harm):
    for path, target, said in [SCORES] * (harm is cut) + FILES:  # a flipped digit of a JSON file is a digit
        kept = copy.path(path).read_bytes()
        harm(copy.path(path))
        line = copy.refusal(target, said=said)
        report(f"{NAMES[harm]}: {path}", f"refused: {line}")
        copy.path(path).write_bytes(kept)  # what comes after shall fail for its own reason
    for path, *_ in FILES:
        copy.path(path).unlink(missing_ok=True)
    copy.run()
    same(copy.folder, reference)


def test_damaged_state_of_a_training(copy, reference, report):
    copy.remove("train")
    running = copy.start(CHECKPOINT)
    running.wait_for("train", "results/train/tiny/csp/work/*/*.pt")
    running.kill()
    copy.unlock()
    (state,) = copy.folder.glob("results/train/tiny/csp/work/*/*.pt")
    kept = state.read_bytes()
    for harm in (cut, flip):
        state.write_bytes(kept)
        harm(state)
        line = copy.refusal(CHECKPOINT, said="Delete it to start afresh")
        report(f"{NAMES[harm]}: state of a killed training", f"refused: {line}")
    state.unlink()
    copy.run()
    same(copy.folder, reference)


def test_damaged_parts_of_killed_jobs(copy, reference, report):
    copy.remove("sample/tiny", "relax")
    running = copy.start(SAMPLES)
    running.wait_for("sample", "results/sample/tiny/csp/work-1-of-1/chunk-000001.parquet")
    running.kill()
    copy.unlock()
    for part in copy.folder.glob("results/sample/tiny/csp/work-1-of-1/chunk-*.parquet"):
        flip(part)
    copy.run(SAMPLES)
    assert "is sampled again" in copy.path("logs/sample/tiny/csp/1-of-1.log").read_text()
    report("flipped bit: finished chunks of a killed sampling", "survived: made again")
    running = copy.start(RELAXED)
    running.wait_for("relax", "results/relax/tin/work-1-of-1/*.jsonl")
    running.kill()
    copy.unlock()
    for part in copy.folder.glob("results/relax/tin/work-1-of-1/*.jsonl"):
        cut(part)
        with part.open("ab") as file:
            file.write(b"\xff\xfe\0\n")
    copy.run()
    same(copy.folder, reference)
    report("torn lines: finished crystals of a killed relaxation", "survived: made again")


def test_dates_that_lie(copy, reference, report):
    files = [path for path in copy.path("results").rglob("*") if path.is_file()]
    np.random.default_rng(0).shuffle(files)
    now = time.time()
    for what, date in (("touched in random order", None), ("dated 2099", 4_070_908_800), ("dated 1980", 315_532_800)):
        for place, path in enumerate(files):
            os.utime(path, (date or now - 3600 + place,) * 2)
        text = copy.run()
        again = "Nothing to be done" in text
        same(copy.folder, reference)
        report(f"all results {what}", f"survived: {'nothing' if again else 'something'} was run again")
    os.utime(copy.path("results/data/aflow_20/train.parquet"), (4_070_908_800,) * 2)
    copy.run()
    assert "Nothing to be done" in copy.run(), "a file from the future is made again for ever"
    same(copy.folder, reference)
    report("one table dated 2099, the others today", "survived")
