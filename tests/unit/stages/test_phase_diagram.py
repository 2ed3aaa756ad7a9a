"""Stage `phase_diagram`: what matbench-discovery downloads becomes one small file of entries."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from pymatgen.entries.computed_entries import ComputedEntry

import phase_diagram as script
from xtalgen.thermodynamics.phase_diagram_files import read_phase_diagram


def test_without_matbench_discovery_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matbench_discovery", None)
    with pytest.raises(SystemExit, match=r"--sdm conda, or give a phase diagram that you have as relax\.phase_diagram"):
        script.main(["--out", str(tmp_path / "entries.json.gz")])
    assert not list(tmp_path.iterdir())


def test_entries_keep_their_name_composition_and_corrected_energy(tmp_path, monkeypatch):
    downloaded = tmp_path / "downloaded.json"
    energies = {"Mg": -1.5, "Mg2": -3.0}  # eV
    entries = [ComputedEntry(formula, energy, entry_id=f"mp-{formula}") for formula, energy in energies.items()]
    downloaded.write_text(f"[{', '.join(entry.to_json() for entry in entries)}]")
    data = ModuleType("matbench_discovery.data")
    data.DataFiles = SimpleNamespace(mp_computed_structure_entries=SimpleNamespace(path=str(downloaded)))
    monkeypatch.setitem(sys.modules, "matbench_discovery", ModuleType("matbench_discovery"))
    monkeypatch.setitem(sys.modules, "matbench_discovery.data", data)
    out = tmp_path / "entries.json.gz"
    script.main(["--out", str(out)])
    found, wanted = (
        [(each.name, each.composition, each.energy) for each in read_phase_diagram(path)] for path in (out, downloaded)
    )
    assert found == wanted
    assert len(found) == 2
