"""Stage `fingerprints`: failed rows, equal and hostile crystals, subsets, resumption, the time limit."""

import time
from dataclasses import replace

import numpy as np
import pytest

import crystal_nn_values
import fingerprints as script
import xtalgen.stages.fingerprints as module
from crystal_cases import broken, library, one_atom, rock_salt, with_nan
from tolerances import ANGLES
from xtalgen.crystals import Crystal, read_metadata, read_table, to_table, write_table
from xtalgen.featurizers.fingerprints import N_OPS, read_fingerprints, structure_fingerprint
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.runtime.atomic import seal
from xtalgen.stages.fingerprints import choose, compute_fingerprints


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    # Worker processes take seconds to start; test_crystal_that_takes_too_long uses them.
    from xtalgen.runtime.resume import map_resumably

    monkeypatch.setattr(
        module, "map_resumably", lambda *args, **options: map_resumably(*args, **(options | {"timeout": None}))
    )


def make(tmp_path, crystals, **options):
    write_table(to_table(crystals), tmp_path / "in.parquet", dataset="mine")
    settings = {"workers": 1, "timeout": 60.0, "limit": None, "seed": 0} | options
    compute_fingerprints(tmp_path / "in.parquet", out=tmp_path / "out.parquet", work=tmp_path / "work", **settings)
    return read_fingerprints(tmp_path / "out.parquet")


def test_failures_keep_their_row_and_say_why(tmp_path):
    flat = Crystal("flat", "bad_lattice", np.diag([1e-3, 1.0, 1.0]), np.zeros((1, 3)), np.array([6], dtype=np.uint8))
    needle = Crystal("needle", "ok", np.diag([3.0, 3.0, 1e6]), np.zeros((1, 3)), np.array([6], dtype=np.uint8))
    ids, found = make(
        tmp_path, [broken(), rock_salt(), with_nan(), flat, needle, one_atom("heavy", number=97), one_atom()]
    )
    assert ids == ["broken", "salt", "nan", "flat", "needle", "heavy", "copper"]
    assert found.status == ["no_geometry", "ok", "no_geometry", "degenerate", "degenerate", "error", "ok"]
    assert np.isfinite(found.structure[found.ok]).all()
    assert np.isnan(found.structure[~found.ok]).all()
    assert np.isnan(found.composition[~found.ok]).all()
    np.testing.assert_allclose(found.composition[1], magpie_features([((11, 1), (17, 1))])[0])
    assert read_metadata(read_table(tmp_path / "out.parquet"))["dataset"] == "mine"
    assert not (tmp_path / "work").exists()


def test_equal_crystals_are_computed_once(tmp_path, monkeypatch):
    calls = []

    def counted(item):
        calls.append(item)
        return [0.0] * N_OPS

    monkeypatch.setattr(module, "quick_fingerprint", counted)
    _, found = make(tmp_path, [rock_salt("a"), one_atom(), rock_salt("b")])
    assert found.status == ["ok"] * 3
    assert len(calls) == 2


def doubtful(identifier):
    """Returns a crystal with an atom that the last digit decides on."""
    crystal = library(8)[123]
    return Crystal(identifier, "ok", crystal.lattice, crystal.frac_coords, crystal.atomic_numbers)


def test_doubtful_crystals_are_done_with_care_and_counted(tmp_path):
    _, found = make(tmp_path, [rock_salt(), doubtful("a"), doubtful("b")])
    assert found.status == ["ok"] * 3
    known = crystal_nn_values.by_matminer(doubtful("a")).mean(axis=0)
    np.testing.assert_allclose(found.structure[1:], [known, known], atol=ANGLES, rtol=0)
    assert read_metadata(read_table(tmp_path / "out.parquet"))["careful_crystals"] == "1"


HOSTILE = {
    "needle": (np.diag([3.0, 3.0, 400.0]), [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "sheet": (np.diag([40.0, 40.0, 2.5]), [[0, 0, 0]]),
    "huge": (1e6 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]]),
    "thin": (np.diag([0.05, 0.05, 900.0]), [[0, 0, 0]]),
    "dense": (0.6 * np.eye(3), [[0, 0, 0]]),
    "sheared": (np.array([[3.0, 0, 0], [60, 3, 0], [0, 40, 3]]), [[0, 0, 0]]),
    "overlapping": (4.0 * np.eye(3), [[0, 0, 0], [0, 0, 0], [0, 0, 1e-9], [0.5, 0.5, 0.5]]),
    "outside": (4.0 * np.eye(3), [[7.25, -3.5, 0], [0.5, 0.5, 0.5]]),
}


def test_hostile_cells_neither_hang_nor_crash(tmp_path):
    crystals = [
        Crystal(name, "ok", lattice, np.array(places, dtype=float), np.full(len(places), 29, dtype=np.uint8))
        for name, (lattice, places) in HOSTILE.items()
    ]
    started = time.monotonic()
    ids, found = make(tmp_path, crystals)
    assert time.monotonic() - started < 30
    statuses = dict(zip(ids, found.status, strict=True))
    assert statuses.pop("thin") == "degenerate"
    assert set(statuses.values()) <= {"ok", "error"}
    assert np.isfinite(found.structure[found.ok]).all()
    shifted = structure_fingerprint(
        (4.0 * np.eye(3), np.array([[0.25, 0.5, 0], [0.5, 0.5, 0.5]]), crystals[-1].atomic_numbers)
    )
    np.testing.assert_allclose(found.structure[ids.index("outside")], shifted, atol=ANGLES)


def test_ten_thousand_identical_crystals(tmp_path):
    salt, started = rock_salt(), time.monotonic()
    _, found = make(tmp_path, [replace(salt, id=f"c{i}") for i in range(10_000)])
    assert time.monotonic() - started < 20
    assert found.ok.all()
    assert np.ptp(found.structure, axis=0).max() == 0


def test_subset_is_seeded_and_marked(tmp_path):
    crystals = [one_atom(f"c{i}", edge=2.5 + i / 100) for i in range(6)]
    _, first = make(tmp_path, [broken(), *crystals], limit=2)
    _, again = make(tmp_path, [broken(), *crystals], limit=2)
    assert first.status == again.status
    assert first.status.count("not_chosen") == 5
    assert first.status.count("ok") == 2
    assert first.chosen.sum() == 2
    assert choose(crystals, 2, 0) != choose(crystals, 2, 1) or choose(crystals, 2, 0) != choose(crystals, 2, 2)
    assert choose(crystals, 99, 0) == set(range(6))


def test_nothing_to_do(tmp_path):
    assert make(tmp_path, [])[0] == []
    ids, found = make(tmp_path, [broken("a"), broken("b")])
    assert ids == ["a", "b"]
    assert not found.ok.any()
    assert found.structure.shape == (2, 61)


def test_killed_stage_resumes(tmp_path):
    crystals = [doubtful("a"), one_atom()]
    make(tmp_path, crystals)
    first = (tmp_path / "out.parquet").read_bytes()
    key = module.content_key(tmp_path / "in.parquet", limit=None, seed=0, pymatgen=module.version("pymatgen-core"))
    part = tmp_path / "work" / "part-00000000.json"
    part.parent.mkdir()
    marker = [0.25] * N_OPS
    part.write_text(seal([key, [{"result": marker}]]))
    _, found = make(tmp_path, crystals)
    assert found.structure[0].tolist() == marker  # taken from the part, not computed
    assert found.status == ["ok"] * 2
    assert first != (tmp_path / "out.parquet").read_bytes()
    make(tmp_path, crystals)
    assert first == (tmp_path / "out.parquet").read_bytes()


@pytest.mark.slow
def test_crystal_that_takes_too_long(tmp_path, monkeypatch):
    """Two atoms in one place have to be done with care, and pymatgen takes minutes in such a needle."""
    monkeypatch.undo()
    places, numbers = np.array([[0.0, 0, 0], [0, 0, 0]]), np.array([29, 29], dtype=np.uint8)
    needle = Crystal("needle", "ok", np.diag([3.0, 3.0, 400.0]), places, numbers)
    write_table(to_table([needle, doubtful("a"), one_atom()]), tmp_path / "in.parquet")
    script.main(["--crystals", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out.parquet"),
                 "--work", str(tmp_path / "work"), "--workers", "1", "--timeout", "4"])  # fmt: skip
    assert read_fingerprints(tmp_path / "out.parquet")[1].status == ["timeout", "ok", "ok"]
