"""What every potential must hold: derivatives, batches, supercells, and cells of either handedness.

Every entry of the registry whose weights come with an installed package is tested, and the example of
docs/guides/add-a-potential.md as it stands there.
"""

import importlib.util
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from toy_potential import crystal_of
from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.relaxation.fire import Motion
from xtalgen.relaxation.in_flight import RelaxConfig, relax_crystals
from xtalgen.relaxation.single_points import evaluate_alone
from xtalgen.stages.relax import relax

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "add-a-potential.md"
MIRROR = np.diag([1.0, 1.0, -1.0])  # z -> -z, an improper rotation
NAMES = [entry.name for entry in registry.ENTRIES if entry.weights is not None]


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Registers the guide's example: its first block is the module, its second one the entry."""
    module_text, entry_text = re.findall(r"^ *```python\n(.*?)^ *```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path_factory.mktemp("guide") / "lennard_jones.py"
    path.write_text(textwrap.dedent(module_text))
    spec = importlib.util.spec_from_file_location("lennard_jones", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entry = eval(textwrap.dedent(entry_text), vars(module))  # noqa: S307 - of our own guide
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.POTENTIALS, entry.name, entry)
        patch.setitem(registry.FAMILIES, entry.family.name, entry.family)
        yield entry.name


@pytest.fixture(scope="module", params=[*NAMES, "lennard-jones"])
def potential(request, example):
    return registry.load(request.param)


@pytest.fixture
def tolerance(potential):
    """Of energies in eV/atom, forces in eV/Å, stresses in eV/Å³: a few roundings of the potential's precision."""
    return 2e-4 if potential.identity.dtype == "float32" else 1e-9


def strained() -> Crystal:
    """A cell without any symmetry, under shear stress."""
    atoms = bulk("MgO", "rocksalt", a=4.2) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * np.arange(9).reshape(3, 3) / 9), scale_atoms=True)
    atoms.rattle(0.08, seed=3)
    return crystal_of(atoms)


def swapped(crystal: Crystal) -> Crystal:
    """The same crystal, described by a left-handed basis: two rows of the lattice and two coordinates swapped."""
    order = [1, 0, 2]
    return replace(crystal, lattice=crystal.lattice[order], frac_coords=crystal.frac_coords[:, order])


def mirrored(crystal: Crystal) -> Crystal:
    return replace(crystal, lattice=crystal.lattice @ MIRROR)


def predict(potential, crystal):
    prediction = evaluate_alone(crystal, potential)
    assert not isinstance(prediction, str), prediction
    return prediction


def test_two_swapped_rows_change_nothing(potential, tolerance):
    given, other = (predict(potential, crystal) for crystal in (strained(), swapped(strained())))
    np.testing.assert_allclose(other.energy / 4, given.energy / 4, atol=tolerance, rtol=0)
    np.testing.assert_allclose(other.forces, given.forces, atol=tolerance, rtol=0)
    np.testing.assert_allclose(other.stress, given.stress, atol=tolerance, rtol=0)
    assert np.abs(given.stress).max() > 1e-3


def test_a_mirror_image_has_the_mirrored_forces_and_stress(potential, tolerance):
    given, image = (predict(potential, crystal) for crystal in (strained(), mirrored(strained())))
    np.testing.assert_allclose(image.energy / 4, given.energy / 4, atol=tolerance, rtol=0)
    np.testing.assert_allclose(image.forces, given.forces @ MIRROR, atol=tolerance, rtol=0)
    np.testing.assert_allclose(image.stress, MIRROR @ given.stress @ MIRROR, atol=tolerance, rtol=0)


def test_stress_is_the_derivative_of_the_energy_for_either_handedness(potential):
    for crystal in (strained(), swapped(strained())):
        stress = predict(potential, crystal).stress[0]
        strain, energies = np.zeros((3, 3)), []
        strain[0, 0] = 2e-3
        for sign in (1, -1):
            moved = replace(crystal, lattice=crystal.lattice @ (np.eye(3) + sign * strain))
            energies.append(predict(potential, moved).energy[0])
        # sigma_xx = dE / (V d eps_xx)
        expected = (energies[0] - energies[1]) / (2 * 2e-3 * abs(np.linalg.det(crystal.lattice)))
        assert stress[0, 0] == pytest.approx(expected, abs=2e-3, rel=2e-2)


def test_a_batch_gives_what_each_crystal_gives_alone(potential, tolerance):
    rows = [strained(), swapped(strained()), crystal_of(bulk("MgO", "rocksalt", a=4.3))]
    geometry = Motion.of(rows).geometry()
    together = potential.evaluate(geometry)
    for index, (row, atoms) in enumerate(zip(rows, geometry.slices, strict=True)):
        alone = predict(potential, row)
        assert together.energy[index] == pytest.approx(alone.energy[0], abs=tolerance * row.n_atoms)
        np.testing.assert_allclose(together.forces[atoms], alone.forces, atol=tolerance, rtol=0)
        np.testing.assert_allclose(together.stress[index], alone.stress[0], atol=tolerance, rtol=0)


def test_features_depend_on_neither_the_basis_nor_the_cell(potential):
    atoms = bulk("MgO", "rocksalt", a=4.3)
    given = potential.features(crystal_of(atoms))
    assert given.ndim == 1
    assert np.isfinite(given).all()
    for other in (swapped(crystal_of(atoms)), mirrored(crystal_of(atoms)), crystal_of(atoms * (2, 1, 1))):
        np.testing.assert_allclose(potential.features(other), given, rtol=1e-3, atol=1e-4)


def test_a_left_handed_cell_relaxes_as_the_right_handed_one(potential):
    config = RelaxConfig(fmax=0.1, max_steps=30, timeout=None)
    rows = [strained(), swapped(strained()), mirrored(strained())]
    given, other, image = relax_crystals(rows, potential, config)
    for outcome in (other, image):
        assert (outcome.status, outcome.n_steps, outcome.converged) == (given.status, given.n_steps, given.converged)
        assert outcome.energy == pytest.approx(given.energy, abs=1e-3)
        assert outcome.volume_ratio == pytest.approx(given.volume_ratio, rel=1e-3)
    np.testing.assert_allclose(np.array(other.lattice)[[1, 0, 2]], given.lattice, atol=5e-3)
    np.testing.assert_allclose(np.array(image.lattice) @ MIRROR, given.lattice, atol=5e-3)


def test_the_potential_of_the_guide_relaxes_a_table(tmp_path, example):
    argon = crystal_of(Atoms("Ar", cell=3.6 * (np.ones((3, 3)) - np.eye(3)) / 2, pbc=True), "argon")
    crystals.write_table(crystals.to_table([argon], {}), tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    options = {"fmax": 0.01, "max_steps": 50, "workers": 1, "timeout": None, "device": "cpu"}
    relax(tmp_path / "in.parquet", potential=example, **options, work=tmp_path / "work", out=out)
    (row,) = crystals.read_crystals(out)
    assert row.info["converged"]
    assert crystals.read_metadata(crystals.read_table(out))["potential"] == example
