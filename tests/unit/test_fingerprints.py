import json

import numpy as np
import pyarrow as pa
import pytest
from matminer.featurizers.composition import ElementProperty
from pymatgen.core import Composition, Element

import fingerprints as script
import xtalgen.fingerprints as module
from crystal_cases import broken, caesium_chloride, library, moved, mp_20, one_atom, rock_salt, with_nan
from xtalgen.crystals import Crystal, read_metadata, read_table, to_table, write_table
from xtalgen.fingerprints import choose, fingerprint, read_fingerprints, structure_fingerprint, warm_up
from xtalgen.metrics.magpie import magpie_features
from xtalgen.metrics.matching import arrays
from xtalgen.metrics.validity import reduced_counts


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    # Worker processes take seconds to start; test_crystal_that_takes_too_long uses them.
    from xtalgen.resume import map_resumably

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
    np.testing.assert_allclose(magpie_features(compositions), compositions_by_matminer(compositions), atol=1e-9, rtol=0)


def test_magpie_of_real_crystals_equals_matminer(shared_data):
    compositions = [reduced_counts(crystal.atomic_numbers) for crystal in mp_20(shared_data, "test", 200)]
    np.testing.assert_allclose(magpie_features(compositions), compositions_by_matminer(compositions), atol=1e-9, rtol=0)


def test_magpie_of_nothing():
    assert magpie_features([]).shape == (0, 132)


def test_rock_salt_is_octahedral_and_caesium_chloride_is_not():
    labels = module._featurizer().feature_labels()
    salt, cesium = (
        dict(zip(labels, structure_fingerprint(arrays(crystal)), strict=True))
        for crystal in (rock_salt(), caesium_chloride(elements=("Cs", "Cl"), edge=4.12))
    )
    assert salt["octahedral CN_6"] == pytest.approx(1.0, abs=1e-3)
    assert cesium["octahedral CN_6"] < 0.1


def test_fingerprint_is_invariant():
    crystal = rock_salt()
    copy = moved(crystal, "copy", supercell=[2, 1, 1])
    np.testing.assert_allclose(structure_fingerprint(arrays(crystal)), structure_fingerprint(arrays(copy)), atol=1e-6)


def test_failures_keep_their_row_and_say_why(tmp_path):
    flat = Crystal("flat", "bad_lattice", np.diag([1e-3, 1.0, 1.0]), np.zeros((1, 3)), np.array([6], dtype=np.uint8))
    dense = Crystal("dense", "ok", np.eye(3) * 0.8, np.zeros((1, 3)), np.array([6], dtype=np.uint8))
    sheared = np.array([[3.0, 0, 0], [18.0, 3.0, 0], [0, 0, 3.0]])
    skewed = Crystal("skewed", "ok", sheared, np.zeros((1, 3)), np.array([6], dtype=np.uint8))
    ids, found = make(tmp_path, [broken(), rock_salt(), with_nan(), flat, dense, skewed, one_atom()])
    assert ids == ["broken", "salt", "nan", "flat", "dense", "skewed", "copper"]
    assert found.status == ["no_geometry", "ok", "no_geometry", "degenerate", "too_dense", "bad_angles", "ok"]
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
        return [0.0] * module.N_OPS

    monkeypatch.setattr(module, "structure_fingerprint", counted)
    _, found = make(tmp_path, [rock_salt("a"), one_atom(), rock_salt("b")])
    assert found.status == ["ok"] * 3
    assert len(calls) == 2 + 1  # and the warm-up of the worker


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
    crystals = [one_atom(f"c{i}", edge=2.5 + i / 1000) for i in range(3)]
    make(tmp_path, crystals)
    first = (tmp_path / "out.parquet").read_bytes()
    key = module.content_key(
        tmp_path / "in.parquet", timeout=60.0, limit=None, seed=0, matminer=module.version("matminer")
    )
    part = tmp_path / "work" / "part-00000000.json"
    part.parent.mkdir()
    marker = [0.25] * module.N_OPS
    part.write_text(json.dumps({"key": key, "results": [{"result": marker}]}))
    _, found = make(tmp_path, crystals)
    assert found.structure[0].tolist() == marker  # taken from the part, not computed
    assert found.status == ["ok"] * 3
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
    monkeypatch.undo()
    generator = np.random.default_rng(0)
    many = Crystal("many", "ok", np.eye(3) * 18.0, generator.random((400, 3)), np.full(400, 29, dtype=np.uint8))
    write_table(to_table([many, one_atom()]), tmp_path / "in.parquet")
    script.main(["--crystals", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out.parquet"),
                 "--work", str(tmp_path / "work"), "--workers", "1", "--timeout", "4"])  # fmt: skip
    assert read_fingerprints(tmp_path / "out.parquet")[1].status == ["timeout", "ok"]
