"""The stage relax: tables, resuming after a kill, potentials by path, workers that crash."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from toy_potential import Constant, cell, potential_of, save_tiny_mace
from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import PotentialError
from xtalgen.relaxation import runner
from xtalgen.relaxation.in_flight import Outcome, RelaxConfig
from xtalgen.relaxation.runner import relax_all
from xtalgen.runtime.atomic import unseal
from xtalgen.stages import relax

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


def write(rows, path):
    crystals.write_table(crystals.to_table(rows, {"text": pa.string()}), path, origin="test")
    return path


def run(rows, folder, **options):
    """Relaxes rows by the file-level function in this process; returns the rows, the metadata and the raw table."""
    options = {"potential": "chgnet", "fmax": 0.05, "max_steps": 100, "workers": 1, "timeout": None} | options
    out = folder / "out.parquet"
    relax.relax(write(rows, folder / "in.parquet"), work=folder / "work", out=out, device="cpu", **options)
    table = crystals.read_table(out)
    return crystals.from_table(table), crystals.read_metadata(table), table


def test_broken_gpu_stops_the_stage_instead_of_failing_every_crystal(tmp_path, monkeypatch):
    class BrokenGpu(Constant):
        def calculate(self, *_args, **_kwargs):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(registry, "load_identified", lambda *_: potential_of(BrokenGpu(0.0)))
    with pytest.raises(PotentialError, match=r"the GPU failed at 'x'.*illegal memory access.*Run again"):
        run([cell()], tmp_path)
    assert not (tmp_path / "out.parquet").exists()


def test_table_keeps_every_row_and_column_in_order(tmp_path):
    good = cell("MgO", "rocksalt", 4.3, rattle=0.05, identifier="good")
    rows = [
        replace(cell("MgO", "rocksalt", 4.2, identifier="close"), frac_coords=np.zeros((2, 3))),
        Crystal("broken", "unparsable", info={"text": "nonsense"}),
        replace(good, info={"text": "kept"}),
        replace(cell("MgO", "rocksalt", 4.2, identifier="refused"), status="bad_composition"),
        replace(good, id="twin"),
    ]
    relaxed, metadata, table = run(rows, tmp_path)
    assert [row.id for row in relaxed] == ["close", "broken", "good", "refused", "twin"]
    assert [row.status for row in relaxed] == ["too_close", "unparsable", "ok", "bad_composition", "ok"]
    assert table["initial_status"].to_pylist() == ["ok", "unparsable", "ok", "bad_composition", "ok"]
    assert table["text"].to_pylist() == [None, "nonsense", "kept", None, None]
    assert table["converged"].to_pylist() == [False, False, True, False, True]
    assert [value is None for value in table["energy"].to_pylist()] == [True, True, False, True, False]
    assert relaxed[1].lattice is None
    assert np.array_equal(relaxed[0].frac_coords, rows[0].frac_coords)
    assert np.array_equal(relaxed[3].lattice, rows[3].lattice)
    assert relaxed[3].info["n_steps"] is None
    assert not np.array_equal(relaxed[2].lattice, rows[2].lattice)
    assert np.array_equal(relaxed[2].lattice, relaxed[4].lattice)
    assert metadata["n_computed"] == "2"  # the twins are one
    assert metadata["potential_sha256"] == registry.identify("chgnet").sha256
    assert (metadata["fmax"], metadata["max_steps"], metadata["device"]) == ("0.05", "100", "cpu")
    assert metadata["origin"] == "test"


def test_relaxed_table_can_be_relaxed_again(tmp_path):
    run([cell("MgO", "rocksalt", 4.3)], tmp_path)
    out = tmp_path / "again.parquet"
    options = {"potential": "chgnet", "fmax": 0.05, "max_steps": 100, "workers": 1, "timeout": None, "device": "cpu"}
    relax.relax(tmp_path / "out.parquet", work=tmp_path / "work", out=out, **options)
    assert crystals.read_table(out)["n_steps"].to_pylist() == [0]


def test_only_the_first_crystals_of_the_set_are_relaxed_where_so_many_are_asked_for(tmp_path):
    rows = [cell("MgO", "rocksalt", 4.3, identifier=f"mine-00000{number}") for number in (3, 0, 9)]
    found, _, _ = run(rows, tmp_path, max_crystals=3)
    assert [row.info["relax_asked"] for row in found] == [False, True, False]
    assert [row.info["energy"] is not None for row in found] == [False, True, False]
    assert [row.status for row in found] == ["ok", "ok", "ok"]
    assert found[0].lattice == pytest.approx(rows[0].lattice)
    with pytest.raises(crystals.ContractError, match="not of the form NAME-000000"):
        run([cell("MgO", "rocksalt", 4.3, identifier="mp-x")], tmp_path, max_crystals=3)


def test_table_without_a_usable_crystal_and_empty_table(tmp_path):
    rows, metadata, _ = run([Crystal("broken", "unparsable")], tmp_path)
    assert [row.status for row in rows] == ["unparsable"]
    assert metadata["n_computed"] == "0"
    assert run([], tmp_path)[0] == []


def test_finished_crystals_are_taken_from_the_work_folder_unless_the_settings_changed(tmp_path):
    rows = [cell("MgO", "rocksalt", a, identifier=str(a)) for a in (4.2, 4.3)]
    first = run(rows, tmp_path)
    again = run(rows, tmp_path)
    assert (first[1]["n_computed"], again[1]["n_computed"]) == ("2", "0")
    assert again[2].equals(first[2])
    assert run(rows, tmp_path, fmax=0.04)[1]["n_computed"] == "2"
    moved = [rows[0], replace(rows[1], lattice=rows[1].lattice * 1.001)]
    assert run(moved, tmp_path)[1]["n_computed"] == "1"


def test_torn_line_and_timeouts_under_a_shorter_limit_are_computed_again(tmp_path):
    done = Outcome("ok", energy=-1.0, lattice=[[1.0] * 3] * 3, frac_coords=[[0.0] * 3])
    late = Outcome("timeout", "more than 5 s", seconds=5.1)
    file = tmp_path / "a.jsonl"
    runner._append(file, "done", done)
    runner._append(file, "late", late)
    runner._append(tmp_path / "b.jsonl", "torn", done)
    (tmp_path / "b.jsonl").write_bytes((tmp_path / "b.jsonl").read_bytes()[:-20] + b"\xff\0\n")
    assert runner._read_store(tmp_path, RelaxConfig(0.05, 1, 5.0)) == {"done": done, "late": late}
    assert runner._read_store(tmp_path, RelaxConfig(0.05, 1, 60.0)) == {"done": done}
    assert runner._read_store(tmp_path, RelaxConfig(0.05, 1, None)) == {"done": done}


def test_full_disk_in_the_middle_stops_the_stage_and_keeps_what_was_finished(tmp_path, monkeypatch):
    rows = [cell("MgO", "rocksalt", a, identifier=str(a)) for a in (4.2, 4.25, 4.3)]
    real, written = runner._append, []

    def full_after_one(file, key, outcome):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(key)
        real(file, key, outcome)

    monkeypatch.setattr(runner, "_append", full_after_one)
    with pytest.raises(PotentialError, match="No space left on device"):
        run(rows, tmp_path, max_steps=0)
    assert not (tmp_path / "out.parquet").exists()
    monkeypatch.setattr(runner, "_append", real)
    relaxed, metadata, _ = run(rows, tmp_path, max_steps=0)
    assert [row.status for row in relaxed] == ["ok"] * 3
    assert metadata["n_computed"] == "2", "the one that was finished is not computed again"


def test_mace_checkpoint_by_path_relaxes(tmp_path):
    file = save_tiny_mace(tmp_path / "tiny.model")
    rows = [cell("MgO", "rocksalt", 4.2, rattle=0.05), cell("NaCl", "rocksalt", 5.6, identifier="unknown")]
    relaxed, metadata, _ = run(rows, tmp_path, potential=str(file), max_steps=3)
    assert [row.status for row in relaxed] == ["ok", "potential_failure"]
    assert "does not know atomic number 11" in relaxed[1].info["relax_error"]
    assert relaxed[0].info["energy"] < relaxed[0].info["e_initial"]
    assert metadata["potential_sha256"] == registry.identify(str(file)).sha256


def test_wrong_sha256_and_unusable_checkpoint_stop_the_stage(tmp_path):
    with pytest.raises(PotentialError, match="the configuration wants abc"):
        run([cell()], tmp_path, sha256="abc")
    (tmp_path / "text.model").write_text("no model")
    with pytest.raises(PotentialError, match=r"text\.model cannot be loaded"):
        run([cell()], tmp_path, potential=str(tmp_path / "text.model"))
    assert not (tmp_path / "out.parquet").exists()


def misbehave(_module, arguments):
    """Hook of a checkpoint: dies at the sight of sulphur and hangs at that of selenium."""
    present = arguments[0]["node_attrs"].sum(dim=0)  # elements in order: O, Mg, S, Se
    if present[2] > 0:
        os._exit(7)
    if present[3] > 0:
        time.sleep(600)


@pytest.mark.slow
def test_crash_and_hang_of_a_worker_cost_one_row_each(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "GRACE", 1.0)
    file = save_tiny_mace(tmp_path / "bad.model", (8, 12, 16, 34), misbehave, (-1.0, -2.0, -1.0, -1.0))
    formulas = ("MgO", "MgSe", "MgS")
    rows = [cell(formula, "rocksalt", 4.2, identifier=formula) for formula in formulas]
    # A model with a hook is opened only under the digest that its owner names.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    options = {"potential": str(file), "sha256": digest, "max_steps": 2, "timeout": 4.0}
    relaxed, metadata, _ = run(rows, tmp_path, **options)
    assert [row.status for row in relaxed] == ["ok", "timeout", "crash"]
    assert "exit code 7" in relaxed[2].info["relax_error"]
    assert relaxed[1].info["seconds"] == 4.0
    assert np.array_equal(relaxed[2].lattice, rows[2].lattice)
    assert metadata["n_computed"] == "3"
    # A crash may be the machine's fault and is tried again; a timeout under the same limit is not.
    known = runner._read_store(tmp_path / "work", RelaxConfig(0.05, 2, 4.0))
    assert sorted(outcome.status for outcome in known.values()) == ["ok", "timeout"]


@pytest.mark.slow
def test_killed_run_goes_on_without_relaxing_a_crystal_twice(tmp_path):
    rows = [cell("MgO", "rocksalt", 4.2, rattle=0.1, repeat=(2, 1, 1), identifier="0")]
    rows += [replace(rows[0], id=str(place), lattice=rows[0].lattice * (1 + 0.005 * place)) for place in range(1, 7)]
    source, out, work = write(rows, tmp_path / "in.parquet"), tmp_path / "out.parquet", tmp_path / "work"
    command = [sys.executable, str(ROOT / "workflow/scripts/relax.py"), "--crystals", str(source), "--work", str(work)]
    command += ["--potential", "chgnet", "--fmax", "0.01", "--max-steps", "30", "--out", str(out), "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(finished(work)) < 2:
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    before = finished(work)
    assert 2 <= len(before) < len(rows)
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    after = finished(work)
    assert [key for key, _ in after].count(before[0][0]) == 1
    assert len(after) == len({key for key, _ in after}) == len(rows)
    assert all(line in after for line in before)
    table = crystals.read_table(out)
    assert crystals.read_metadata(table)["n_computed"] == str(len(rows) - len(before))
    fresh, *_ = relax_all(
        rows[:1],
        identity=registry.identify("chgnet"),
        config=RelaxConfig(0.01, 30, None),
        workers=1,
        device="cpu",
        store=tmp_path / "fresh",
        label="fresh",
    )
    assert table["energy"][0].as_py() == fresh[0].energy


def finished(work):
    """Returns the (key, outcome) pairs kept in a work folder."""
    lines = [line for file in sorted(work.glob("*.jsonl")) for line in file.read_text().splitlines(keepends=True)]
    return [unseal(line) for line in lines if line.endswith("\n")]
