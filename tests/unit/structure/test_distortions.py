"""Distorted crystals: as far from the start as they say, and still the same atoms."""

import numpy as np
import pytest
from ase.build import bulk
from ase.geometry import find_mic
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalgen.crystals import Crystal
from xtalgen.structure import distortions
from xtalgen.structure.distortions import KINDS, pressed, rattled, shaken, strained
from xtalgen.structure.lattice import wrap


def cell(repeat=(2, 1, 1)):
    atoms = bulk("MgO", "rocksalt", a=4.2) * repeat
    places = wrap(atoms.get_scaled_positions())
    return Crystal("x", "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8))


def volume(crystal):
    return abs(np.linalg.det(crystal.lattice))


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_atoms_stay_and_places_are_in_the_cell(kind, seed):
    start = cell()
    found = KINDS[kind](start, np.random.default_rng(seed))
    assert np.array_equal(found.atomic_numbers, start.atomic_numbers)
    assert ((found.frac_coords >= 0) & (found.frac_coords < 1)).all()
    assert 0.4 < volume(found) / volume(start) < 1.6
    again = KINDS[kind](start, np.random.default_rng(seed))
    assert np.array_equal(found.frac_coords, again.frac_coords)
    assert np.array_equal(found.lattice, again.lattice)


def test_rattling_moves_every_atom_and_not_the_cell():
    start = cell((3, 3, 3))
    sizes = []
    for seed in range(50):
        found = rattled(start, np.random.default_rng(seed))
        assert np.array_equal(found.lattice, start.lattice)
        moved, lengths = find_mic((found.frac_coords - start.frac_coords) @ start.lattice, start.lattice, pbc=True)
        assert (lengths > 0).all()
        sizes.append(moved.std())
    assert min(sizes) > 0.8 * distortions.RATTLE[0]
    assert max(sizes) < 1.2 * distortions.RATTLE[1]
    assert max(sizes) > 5 * min(sizes)


def test_straining_deforms_the_cell_symmetrically_and_not_the_places():
    start, ratios = cell(), []
    for seed in range(200):
        found = strained(start, np.random.default_rng(seed))
        deformation = np.linalg.inv(start.lattice) @ found.lattice
        assert deformation == pytest.approx(deformation.T, abs=1e-12)
        assert np.array_equal(found.frac_coords, start.frac_coords)
        ratios.append(volume(found) / volume(start))
    assert distortions.VOLUME[0] - 0.02 < min(ratios) < 0.85
    assert 1.15 < max(ratios) < distortions.VOLUME[1] + 0.02


def test_shaking_does_both():
    start = cell()
    found = shaken(start, np.random.default_rng(0))
    assert not np.allclose(found.lattice, start.lattice)
    assert not np.allclose(found.frac_coords, start.frac_coords)


def test_pressing_brings_one_pair_together():
    start = cell((2, 2, 2))
    for seed in range(20):
        found = pressed(start, np.random.default_rng(seed))
        changed = np.flatnonzero(np.abs(found.frac_coords - start.frac_coords).max(axis=1) > 1e-9)
        assert len(changed) == 1
        others = np.delete(np.arange(start.n_atoms), changed[0])
        away = (found.frac_coords[others] - found.frac_coords[changed[0]]) @ start.lattice
        nearest = find_mic(away, start.lattice, pbc=True)[1].min() / 2.1  # Å, Mg-O
        assert distortions.CLOSE[0] - 1e-9 <= nearest <= distortions.CLOSE[1] + 1e-9


def test_one_atom_alone_is_compressed():
    atoms = bulk("Cu", "fcc", a=3.6)
    start = Crystal("x", "ok", np.array(atoms.cell.array), np.zeros((1, 3)), np.array([29], dtype=np.uint8))
    found = pressed(start, np.random.default_rng(0))
    assert 0.45 <= volume(found) / volume(start) <= 0.8
