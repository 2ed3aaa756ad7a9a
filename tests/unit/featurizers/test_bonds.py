"""The same bonds as pymatgen's CrystalNN, and what replaces them where it fails."""

import warnings

import numpy as np
import pytest
from pymatgen.analysis.graphs import StructureGraph
from pymatgen.analysis.local_env import CrystalNN

from real_crystals import embedded, mp_20
from xtalgen.crystals import Crystal
from xtalgen.featurizers import bonds
from xtalgen.structure.pymatgen import to_structure


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


@pytest.mark.long
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
