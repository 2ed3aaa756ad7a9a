import numpy as np
import pyarrow as pa
import pytest

from made_sets import PROTOTYPES, crystal
from toy_potential import save_tiny_mace
from xtalgen.crystals import ContractError, Crystal, from_table, read_metadata, read_table, to_table, write_table
from xtalgen.stages import embeddings
from xtalgen.stages.embeddings import compute_embeddings
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.structure.space_group import space_group


def written(folder, rows, kinds=None):
    path = folder / "crystals.parquet"
    write_table(to_table(rows, kinds), path)
    return path


def run(folder, path, potential="chgnet", **more):
    out = folder / "embeddings.parquet"
    compute_embeddings(path, potential=potential, out=out, work=folder / "work", device="cpu", **more)
    return {row.id: row for row in from_table(read_table(out))}, read_metadata(read_table(out))


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embeddings")
    salt = crystal(0, "salt")
    shifted = Crystal("shifted", "ok", salt.lattice, (salt.frac_coords + 0.3) % 1.0, salt.atomic_numbers)
    order = np.random.default_rng(0).permutation(salt.n_atoms)
    permuted = Crystal("permuted", "ok", salt.lattice, salt.frac_coords[order], salt.atomic_numbers[order])
    doubled = Crystal(
        "doubled",
        "ok",
        salt.lattice * np.array([[2.0], [1], [1]]),
        np.concatenate([salt.frac_coords * [0.5, 1, 1], salt.frac_coords * [0.5, 1, 1] + [0.5, 0, 0]]),
        np.concatenate([salt.atomic_numbers] * 2),
    )
    rows = [
        salt,
        shifted,
        permuted,
        doubled,
        crystal(2, "other"),
        Crystal("gone", "unparsable"),
        Crystal("dense", "ok", np.eye(3) * 0.9, np.zeros((1, 3)), np.array([6], dtype=np.uint8)),
        Crystal("heavy", "ok", np.eye(3) * 5, np.zeros((1, 3)), np.array([100], dtype=np.uint8)),
    ]
    return run(folder, written(folder, rows))


def test_every_row_is_kept_with_what_failed(described):
    found, metadata = described
    assert {name: row.status for name, row in found.items() if row.status != "ok"} == {
        "gone": "unparsable",
        "dense": "too_dense",
        "heavy": "unknown_element",
    }
    assert found["heavy"].info["descriptor"] is None
    assert "chgnet" in metadata["embedding"]
    assert len(metadata["potential_sha256"]) == 64


def test_descriptor_is_invariant(described):
    found, _ = described
    salt = np.array(found["salt"].info["descriptor"])
    assert len(salt) == 64
    for same in ("shifted", "permuted", "doubled"):
        assert np.array(found[same].info["descriptor"]) == pytest.approx(salt, abs=2e-3), same
    assert np.abs(np.array(found["other"].info["descriptor"]) - salt).max() > 0.1


def test_space_groups_of_known_crystals():
    for index, wanted in ((0, 225), (1, 225), (2, 221), (3, 166)):
        numbers, places, cell = PROTOTYPES[index]
        lattice = lattice_from_parameters(np.array(cell[:3], dtype=float), np.array(cell[3:], dtype=float))
        assert space_group((lattice, np.array(places, dtype=float), np.array(numbers, dtype=np.uint8))) == wanted
    overlapping = (np.eye(3) * 3, np.zeros((2, 3)), np.array([1, 1], dtype=np.uint8))
    assert space_group(overlapping) == 0


def test_fingerprints_serve_without_a_potential(tmp_path):
    kinds = {"structure_fingerprint": pa.list_(pa.float64()), "composition_fingerprint": pa.list_(pa.float64())}
    rows = [
        Crystal(row.id, "ok", row.lattice, row.frac_coords, row.atomic_numbers,
                {"structure_fingerprint": [1.0, 2.0], "composition_fingerprint": [3.0]})
        for row in (crystal(0, "a"), crystal(1, "b"))
    ]  # fmt: skip
    rows.append(Crystal("c", "timeout", rows[0].lattice, rows[0].frac_coords, rows[0].atomic_numbers, {}))
    found, metadata = run(tmp_path, written(tmp_path, rows, kinds), potential="fingerprints")
    assert found["a"].info["descriptor"] == [1.0, 2.0, 3.0]
    assert found["a"].info["spg_num"] == 225
    assert found["c"].info["descriptor"] is None
    assert found["c"].status == "no_fingerprint"
    assert "fingerprints" in metadata["embedding"]


def test_table_without_fingerprints_is_refused(tmp_path):
    with pytest.raises(ContractError, match="structure_fingerprint"):
        run(tmp_path, written(tmp_path, [crystal(0, "a")]), potential="fingerprints")


def test_empty_table(tmp_path):
    found, _ = run(tmp_path, written(tmp_path, []), potential="fingerprints")
    assert found == {}


def test_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    path = written(tmp_path, [crystal(index, str(index)) for index in range(4)])
    monkeypatch.setattr("xtalgen.runtime.resume.PART", 1)
    done = []

    def failing(item, **_):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(item)
        return [[1.0], 1]

    monkeypatch.setattr(embeddings, "embed_crystal", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, path)
    monkeypatch.setattr(embeddings, "embed_crystal", lambda _, **__: [[2.0], 1])
    found, _ = run(tmp_path, path)
    assert [row.info["descriptor"] for row in found.values()] == [[1.0], [1.0], [2.0], [2.0]]
    assert "resumes after 2 of 4" in caplog.text
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_mace_descriptor_is_invariant_and_told_by_name(tmp_path):
    potential = save_tiny_mace(tmp_path / "tiny.model")
    row = crystal(0, "a")
    numbers = np.where(row.atomic_numbers == row.atomic_numbers[0], 12, 8).astype(np.uint8)
    salt = Crystal("salt", "ok", row.lattice, row.frac_coords, numbers)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = Crystal("turned", "ok", row.lattice @ turn, (row.frac_coords + 0.2) % 1.0, numbers)
    unknown = Crystal("unknown", "ok", row.lattice, row.frac_coords, np.full(8, 92, dtype=np.uint8))
    found, metadata = run(tmp_path, written(tmp_path, [salt, turned, unknown]), potential=str(potential))
    first, second = (np.array(found[name].info["descriptor"]) for name in ("salt", "turned"))
    assert first == pytest.approx(second, abs=1e-4 * np.abs(first).max())
    assert first.std() > 0
    assert found["unknown"].status == "unknown_element"
    assert "mace-torch" in metadata["embedding"]
