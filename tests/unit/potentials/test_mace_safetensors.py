"""MACE models without pickles: the same energies after writing and reading, and clear refusals."""

import json

import numpy as np
import pytest
from ase.build import bulk

from toy_potential import save_tiny_mace
from xtalgen.potentials import mace_safetensors, registry
from xtalgen.potentials.mace_safetensors import ModelFileError, load_mace, read_metadata, save_mace
from xtalgen.potentials.types import PotentialError
from xtalgen.runtime.quiet import quiet


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same tiny model as a pickle and as safetensors."""
    import torch

    folder = tmp_path_factory.mktemp("mace")
    pickle = save_tiny_mace(folder / "tiny.model")
    with quiet():
        model = torch.load(pickle, weights_only=False)
        save_mace(model, folder / "tiny.safetensors", energy_scale="corrected", teacher="chgnet")
    return pickle, folder / "tiny.safetensors"


def test_energies_forces_and_stresses_are_those_of_the_pickle(files):
    found = []
    for path in files:
        atoms = bulk("MgO", "rocksalt", a=4.2) * (2, 1, 1)
        atoms.rattle(0.1, seed=1)
        atoms.calc = registry.load(str(path)).calculator
        found.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    # The file holds float32, as the model was trained; the pickle has its constants in float32 too.
    assert found[1][0] == pytest.approx(found[0][0], abs=1e-6)
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-6)
    assert found[1][2] == pytest.approx(found[0][2], abs=1e-7)


def test_model_does_not_depend_on_orientation(files):
    """Constants in float64: turning the crystal changes nothing but the last digits."""
    calculator = registry.load(str(files[1])).calculator
    atoms = bulk("MgO", "rocksalt", a=4.2) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    turned = atoms.copy()
    turned.rotate(37.0, (1, 2, 3), rotate_cell=True)
    energies = []
    for each in (atoms, turned):
        each.calc = calculator
        energies.append(each.get_potential_energy())
    assert energies[1] == pytest.approx(energies[0], abs=1e-10)


def test_file_says_what_it_is_and_is_small(files):
    pickle, path = files
    metadata = read_metadata(path.read_bytes())
    assert metadata["teacher"] == "chgnet"
    assert json.loads(metadata["hyper_parameters"])["atomic_numbers"] == [8, 12]
    assert path.stat().st_size < pickle.stat().st_size / 2
    identity = registry.identify(str(path))
    assert (identity.family, identity.scale, identity.dtype) == ("mace", "corrected", "float64")
    assert registry.MACE.read_metadata(pickle) == {}


def test_reading_runs_no_code_and_needs_no_sha256(files, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    assert registry.load(str(files[1])).elements == frozenset({8, 12})


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"no model",
        lambda _: b"",
        lambda content: content[:-100],
        lambda content: content.replace(b"xtalgen-mace/1", b"xtalgen-mace/9"),
        lambda content: content.replace(b"node_embedding", b"mode_embedding"),
    ],
)
def test_damaged_files_are_refused(files, tmp_path, damage):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(damage(files[1].read_bytes()))
    with pytest.raises(ModelFileError):
        load_mace(path.read_bytes())
    with pytest.raises(PotentialError, match=r"bad\.safetensors cannot be loaded"):
        registry.load(str(path))


def test_other_models_cannot_be_written(tmp_path):
    import torch

    with pytest.raises(ValueError, match="only a plain ScaleShiftMACE"):
        save_mace(torch.nn.Linear(1, 1), tmp_path / "no.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_building_leaves_the_default_dtype_alone(files):
    import torch

    before = torch.get_default_dtype()
    model = load_mace(files[1].read_bytes())
    assert torch.get_default_dtype() == before
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert np.isfinite(model.r_max.item())
    assert mace_safetensors.hyper_parameters(model)["r_max"] == 5.0
