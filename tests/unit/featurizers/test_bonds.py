"""The stage `bonds`: the same bonds as pymatgen's CrystalNN, fallbacks, failed rows, resumption, the command."""

import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.graphs import StructureGraph
from pymatgen.analysis.local_env import CrystalNN

import bonds as script
from real_crystals import embedded, mp_20
from xtalgen.crystals import Crystal, read_crystals, read_metadata, read_table, to_table, write_table
from xtalgen.featurizers import bonds
from xtalgen.runtime.parallel import Failure
from xtalgen.stages import bonds as stage
from xtalgen.structure.pymatgen import to_structure

BROKEN = Crystal("broken", "unparsable")


def pymatgen_bonds(crystal):
    """CDVAE's encoder graph, bond by bond in the table's form."""
    strategy = CrystalNN(distance_cutoffs=None, x_diff_weight=-1, porous_adjustment=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = StructureGraph.from_local_env_strategy(to_structure(crystal), strategy)
    found = set()
    for i, j, image in graph.graph.edges(data="to_jimage"):
        cell = tuple(int(x) for x in image)
        found.add((i, j, *(cell if i < j or cell > (0, 0, 0) else (-x for x in cell))))
    return sorted(found)


def test_equal_pymatgens_on_embedded_crystals():
    for crystal in [c for c in embedded(60) if c.n_atoms <= 8][:20]:
        assert bonds.crystal_nn_bonds(crystal.lattice, crystal.frac_coords) == pymatgen_bonds(crystal), crystal.id


@pytest.mark.slow
def test_equal_pymatgens_on_200_crystals_of_mp_20(shared_data):
    for crystal in mp_20(shared_data, 200):
        assert bonds.crystal_nn_bonds(crystal.lattice, crystal.frac_coords) == pymatgen_bonds(crystal), crystal.id


def test_rock_salt_has_six_neighbours():
    lattice = 2.82 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    found = bonds.crystal_nn_bonds(lattice, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
    assert len(found) == 6
    assert all(bond[:2] == (0, 1) for bond in found)


def test_far_atoms_widen_the_search_as_in_pymatgen():
    """Alone in a cell of 16 Å an atom has no neighbour within 7 Å."""
    crystal = Crystal("far", "ok", 16.0 * np.eye(3), np.zeros((1, 3)), np.array([18], dtype=np.uint8))
    assert bonds.bonds_of(crystal) == ([0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0], "crystal_nn")
    assert bonds.crystal_nn_bonds(crystal.lattice, crystal.frac_coords) == pymatgen_bonds(crystal)


def test_two_atoms_in_one_place_fall_back_to_the_radius_graph():
    crystal = Crystal("twins", "ok", 4.0 * np.eye(3), np.zeros((2, 3)), np.array([3, 3], dtype=np.uint8))
    found, source = bonds.bonds_of(crystal)
    assert source in ("crystal_nn", "radius")
    assert len(found) % 5 == 0


def test_fallback_is_the_20_nearest_within_7_angstrom(monkeypatch):
    def fails(*_):
        raise RuntimeError("open cell")

    monkeypatch.setattr(bonds, "crystal_nn_bonds", fails)
    crystal = Crystal("cube", "ok", 3.0 * np.eye(3), np.zeros((1, 3)), np.array([84], dtype=np.uint8))
    found, source = bonds.bonds_of(crystal)
    assert source == "radius"
    # 6 at 3 Å, 12 at 4.2 Å and two of the eight at 5.2 Å: with both ends counted at least ten bonds.
    cells = np.reshape(found, (-1, 5))[:, 2:]
    lengths = np.sort(np.linalg.norm(3.0 * cells, axis=1))
    assert lengths[:9] == pytest.approx([3.0] * 3 + [3.0 * 2**0.5] * 6)
    assert 10 <= len(lengths) <= 11


def table(tmp_path, crystals):
    path = tmp_path / "val.parquet"
    write_table(to_table(crystals), path, dataset="mine", caveat="few")
    return path


def test_failed_rows_stay_and_metadata_is_kept(tmp_path):
    crystals = [embedded(20)[0], BROKEN, embedded(20)[1]]
    out = tmp_path / "out.parquet"
    stage.add_bonds(table(tmp_path, crystals), out=out, work=tmp_path / "work", workers=1, timeout=60.0)
    read = read_table(out)
    assert read["id"].to_pylist() == [c.id for c in crystals]
    assert read["bonds"].to_pylist()[1] is None
    assert read["bonds_source"].to_pylist() == ["crystal_nn", None, "crystal_nn"]
    assert read_metadata(read) == {"contract": "crystals/1", "dataset": "mine", "caveat": "few", "bonds_fallbacks": "0"}
    assert read_crystals(out)[0].info["bonds"] == bonds.bonds_of(crystals[0])[0]
    assert not (tmp_path / "work").exists()


def dies_of_the_second(crystal):
    if crystal.id == "second":
        raise RuntimeError("bad luck")
    return [0, 0, 1, 0, 0], "crystal_nn"


def fails_as_a_chunk(crystals):
    raise MemoryError("all of them")


def test_a_chunk_that_fails_is_done_again_one_by_one(tmp_path, monkeypatch, caplog):
    first, second = embedded(20)[:2]
    crystals = [first, Crystal("second", "ok", second.lattice, second.frac_coords, second.atomic_numbers)]
    monkeypatch.setattr(stage, "bonds_of_chunk", fails_as_a_chunk)
    monkeypatch.setattr(stage, "bonds_of", dies_of_the_second)
    monkeypatch.setattr(stage, "map_items", in_process)
    monkeypatch.setattr(stage, "map_resumably", lambda f, items, **_: list(in_process(f, items)))
    out = tmp_path / "out.parquet"
    stage.add_bonds(table(tmp_path, crystals), out=out, work=tmp_path / "work", workers=1, timeout=60.0)
    read = read_table(out)
    assert read["bonds_source"].to_pylist() == ["crystal_nn", "radius"]
    assert read_metadata(read)["bonds_fallbacks"] == "1"
    assert "1 of 2 crystals" in caplog.text


def in_process(function, items, **_):
    for item in items:
        try:
            yield function(item)
        except (RuntimeError, MemoryError) as error:
            yield Failure("error", str(error))


def test_command(tmp_path):
    out = tmp_path / "out.parquet"
    given = table(tmp_path, embedded(20)[:2])
    script.main(["--table", str(given), "--workers", "1", "--work", str(tmp_path / "work"), "--out", str(out)])
    assert pq.read_table(out).num_rows == 2
    given.write_bytes(b"no table")
    with pytest.raises(SystemExit, match="not a readable Parquet file"):
        script.main(["--table", str(given), "--workers", "1", "--work", str(tmp_path / "work"), "--out", str(out)])
