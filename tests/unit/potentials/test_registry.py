"""Potentials: loaded by name or path, verified, quiet, with clear errors."""

import hashlib
import importlib.metadata
import os
from pathlib import Path

import pytest
from ase.build import bulk

from toy_potential import save_tiny_mace
from xtalgen.potentials import registry
from xtalgen.potentials.types import PotentialError

# (energy in eV/atom, Å): CHGNet 0.3.0 on rocksalt and diamond cells at the given lattice constants.
CHGNET_ENERGIES = {
    ("MgO", "rocksalt", 4.262): -6.3139,
    ("NaCl", "rocksalt", 5.69): -3.668,
    ("Si", "diamond", 5.464): -5.3137,
}


@pytest.fixture(scope="module")
def tiny_mace(tmp_path_factory):
    return save_tiny_mace(tmp_path_factory.mktemp("mace") / "tiny.model")


@pytest.fixture(scope="module")
def chgnet():
    return registry.load("chgnet")


@pytest.mark.parametrize(("cell", "energy"), CHGNET_ENERGIES.items())
def test_chgnet_gives_known_energies(chgnet, cell, energy):
    atoms = bulk(cell[0], cell[1], a=cell[2])
    atoms.calc = chgnet.calculator
    assert atoms.get_potential_energy() / 2 == pytest.approx(energy, abs=2e-3)


def test_chgnet_says_what_it_is(chgnet):
    identity = chgnet.identity
    assert identity.sha256 == hashlib.sha256(identity.file.read_bytes()).hexdigest()
    assert identity.version == f"chgnet {importlib.metadata.version('chgnet')}"
    assert identity.dtype == "float32"
    assert chgnet.elements == frozenset(range(1, 95))
    assert chgnet.cutoff == 6.0


def test_loading_is_quiet(capfd):
    registry.load("chgnet")
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == ""


def test_mace_by_path_is_float64_and_forces_are_the_derivative(tiny_mace):
    potential = registry.load(str(tiny_mace))
    assert potential.identity.dtype == "float64"
    assert potential.elements == frozenset({8, 12})
    assert potential.cutoff == 5.0
    atoms = bulk("MgO", "rocksalt", a=4.2) * (2, 1, 1)
    atoms.rattle(0.1, seed=1)
    atoms.calc = potential.calculator
    force = atoms.get_forces()[0, 0]
    energies = []
    for step in (1e-4, -1e-4):
        displaced = atoms.copy()
        displaced.positions[0, 0] += step
        displaced.calc = potential.calculator
        energies.append(displaced.get_potential_energy())
    assert force == pytest.approx((energies[1] - energies[0]) / 2e-4, abs=1e-6)
    assert abs(force) > 1e-4


def test_mace_leaves_torch_load_safe_and_the_default_dtype_alone(tiny_mace, monkeypatch):
    import torch

    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)
    before = torch.get_default_dtype()
    registry.load(str(tiny_mace))
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ
    assert torch.get_default_dtype() == before
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        torch.load(tiny_mace)


def test_wrong_sha256_is_refused_before_anything_is_unpickled(tiny_mace, monkeypatch):
    import torch

    right = hashlib.sha256(tiny_mace.read_bytes()).hexdigest()
    assert registry.identify(str(tiny_mace), sha256=right.upper()).sha256 == right
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled an unverified file"))
    with pytest.raises(PotentialError, match=r"tiny\.model has sha256 .* the configuration wants 0000"):
        registry.load(str(tiny_mace), sha256="0" * 64)


def test_file_changed_after_it_was_identified_is_refused(tiny_mace, tmp_path):
    file = tmp_path / "copy.model"
    file.write_bytes(tiny_mace.read_bytes())
    identity = registry.identify(str(file))
    file.write_bytes(tiny_mace.read_bytes() + b"\0")
    with pytest.raises(PotentialError, match="changed while it was in use"):
        registry.load_identified(identity, "cpu")


class Foreign:
    """A pickle of this runs a command when it is read."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_foreign_pickle_is_refused_before_it_runs(tmp_path):
    import torch

    file, marker = tmp_path / "foreign.model", tmp_path / "ran"
    torch.save(Foreign(marker), file)
    with pytest.raises(PotentialError, match=r"foreign\.model cannot be loaded.*posix\.system.*give its sha256"):
        registry.load(str(file))
    assert not marker.exists()


def test_pickle_of_somebody_elses_model_needs_its_digest(tmp_path):
    """A hook of this test's own makes it a model that holds more than mace-torch's parts."""
    file = save_tiny_mace(tmp_path / "hooked.model", hook=note)
    with pytest.raises(PotentialError, match=r"test_registry\.note"):
        registry.load(str(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert registry.load(str(file), sha256=digest).identity.pinned


def note(_module, _arguments):
    return None


def test_cut_checkpoint_is_named(tiny_mace, tmp_path):
    file = tmp_path / "cut.model"
    file.write_bytes(tiny_mace.read_bytes()[:-5000])
    with pytest.raises(PotentialError, match=r"cut\.model cannot be loaded"):
        registry.load(str(file))


def test_file_that_is_no_model_is_named(tmp_path):
    file = tmp_path / "notes.model"
    file.write_text("not a model")
    with pytest.raises(PotentialError, match=r"notes\.model cannot be loaded"):
        registry.load(str(file))


def test_unknown_name_lists_what_there_is():
    with pytest.raises(PotentialError, match=r"'chgnett'.*chgnet, .*medium-mpa-0"):
        registry.load("chgnett")


def test_chgnet_has_no_float64():
    with pytest.raises(PotentialError, match="has no float64"):
        registry.load("chgnet", dtype="float64")


@pytest.mark.parametrize("name", ["medium-mpa-0", "medium-0b3", "small"])
def test_foundation_model_without_network_says_where_to_put_the_file(name, tmp_path, monkeypatch):
    import urllib.request

    def refuse(*_args, **_kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PotentialError, match=rf"'{name}': cannot download https://.*put it at {tmp_path}/mace/\w+"):
        registry.load(name)
    assert list((tmp_path / "mace").iterdir()) == []


def test_foundation_model_is_taken_from_the_cache_and_from_a_download(tiny_mace, tmp_path, monkeypatch):
    from mace.calculators import foundations_models

    def fetch(_url, filename, *_args, **_kwargs):
        Path(filename).write_bytes(tiny_mace.read_bytes())
        return filename, ""

    monkeypatch.setattr(foundations_models, "_urlretrieve_with_timeout", fetch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    potential = registry.load("medium-0b3")
    assert potential.identity.licence == "MIT"
    assert potential.identity.sha256 == hashlib.sha256(tiny_mace.read_bytes()).hexdigest()
    assert [path.name for path in (tmp_path / "mace").iterdir()] == ["macemp0b3mediummodel"]
    monkeypatch.setattr(foundations_models, "_urlretrieve_with_timeout", lambda *_: pytest.fail("downloaded twice"))
    assert registry.identify("medium-0b3") == potential.identity


def test_every_name_is_one_that_mace_knows():
    import mace  # noqa: F401 - before e3nn
    from mace.calculators.foundations_models import mace_mp_urls

    downloaded = {entry.name for entry in registry.ENTRIES if entry.weights is None}
    assert downloaded <= set(mace_mp_urls)
