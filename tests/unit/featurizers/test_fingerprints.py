import json
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from matminer.featurizers.composition import ElementProperty
from pymatgen.core import Composition, Element

import crystal_nn_values
import fingerprints as script
import xtalgen.stages.fingerprints as module
from crystal_cases import broken, library, mp_20, one_atom, rock_salt, with_nan
from tolerances import ANGLES, SUMS
from xtalgen.crystals import Crystal, read_metadata, read_table, to_table, write_table
from xtalgen.featurizers.fingerprints import N_OPS, read_fingerprints, structure_fingerprint, warm_up
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.stages.fingerprints import choose, fingerprint
from xtalgen.structure.composition import reduced_counts


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
    fingerprint(tmp_path / "in.parquet", out=tmp_path / "out.parquet", work=tmp_path / "work", **settings)
    return read_fingerprints(tmp_path / "out.parquet")


def compositions_by_matminer(compositions):
    featurizer = ElementProperty.from_preset("magpie")
    made = [Composition({Element.from_Z(z).symbol: n for z, n in counts}) for counts in compositions]
    return np.array([featurizer.featurize(composition) for composition in made], dtype=float)


def test_magpie_equals_matminer():
    generator = np.random.default_rng(0)
    drawn = [generator.choice(np.arange(1, 119), size=generator.integers(1, 8), replace=False) for _ in range(300)]
    compositions = [tuple((int(z), int(generator.integers(1, 9))) for z in numbers) for numbers in drawn]
    compositions += [reduced_counts(crystal.atomic_numbers) for crystal in library()]
    assert len(compositions) > 500
    np.testing.assert_allclose(
        magpie_features(compositions), compositions_by_matminer(compositions), atol=SUMS, rtol=1e-12
    )


def test_magpie_of_real_crystals_equals_matminer(shared_data):
    compositions = [reduced_counts(crystal.atomic_numbers) for crystal in mp_20(shared_data, "test", 200)]
    np.testing.assert_allclose(
        magpie_features(compositions), compositions_by_matminer(compositions), atol=SUMS, rtol=1e-12
    )


def test_magpie_of_nothing():
    assert magpie_features([]).shape == (0, 132)


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
    part.write_text(json.dumps({"key": key, "results": [{"result": marker}]}))
    _, found = make(tmp_path, crystals)
    assert found.structure[0].tolist() == marker  # taken from the part, not computed
    assert found.status == ["ok"] * 2
    assert first != (tmp_path / "out.parquet").read_bytes()
    make(tmp_path, crystals)
    assert first == (tmp_path / "out.parquet").read_bytes()


def test_other_tables_are_refused(tmp_path):
    write_table(to_table([one_atom()], {"energy": pa.float64()}), tmp_path / "relaxed.parquet")
    with pytest.raises(ValueError, match=r"relaxed.parquet: no column 'structure_fingerprint'"):
        read_fingerprints(tmp_path / "relaxed.parquet")


def test_warm_up_is_cheap_and_harmless():
    warm_up()


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
