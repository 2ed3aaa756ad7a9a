"""Phase diagrams by path: every kind of file gives the same entries; what cannot be trusted is refused."""

import gzip
import json
import pickle

import pytest
from monty.json import MontyEncoder
from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram, PDEntry, PhaseDiagram
from pymatgen.entries.computed_entries import CompositionEnergyAdjustment, ComputedEntry

from xtalgen.crystals import ContractError
from xtalgen.thermodynamics.phase_diagram_files import read_phase_diagram, stand_in

ENERGIES = {"Mg": -1.5, "O2": -9.8, "MgO": -12.6, "MgO2": -16.0}


def diagram_entries():
    return [PDEntry(formula, energy) for formula, energy in ENERGIES.items()]


def computed_entries():
    """The same energies, of which MP2020 corrects the oxides by -0.687 eV per oxygen atom."""
    found = []
    for formula, energy in ENERGIES.items():
        n = {"MgO": 1, "MgO2": 2}.get(formula, 0)
        adjustments = [CompositionEnergyAdjustment(-0.687, n, name="oxide")] if n else []
        found.append(ComputedEntry(formula, energy + 0.687 * n, energy_adjustments=adjustments, entry_id=formula))
    return found


def dumped(path, content):
    text = json.dumps(content, cls=MontyEncoder).encode()
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    return path


@pytest.mark.parametrize(
    "content",
    [
        lambda: PhaseDiagram(diagram_entries()).as_dict(),
        lambda: PatchedPhaseDiagram(diagram_entries()).as_dict(),
        lambda: [entry.as_dict() for entry in diagram_entries()],
        lambda: {str(place): entry.as_dict() for place, entry in enumerate(computed_entries())},
        lambda: {"material_id": {"0": "a"}, "entry": {"0": [entry.as_dict() for entry in computed_entries()]}},
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_every_kind_gives_the_same_phases(tmp_path, content, suffix):
    found = read_phase_diagram(dumped(tmp_path / f"pd{suffix}", content()))
    assert len(found) == len(ENERGIES)
    energies = {}
    for entry in found:
        n = sum(count for _, count in entry.composition)
        energies[dict(entry.composition).get("O", 0.0) / n] = entry.energy / n
    assert energies == pytest.approx({0.0: -1.5, 1.0: -4.9, 0.5: -6.3, 2 / 3: -16 / 3})


def test_repeated_names_are_numbered(tmp_path):
    entries = [ComputedEntry("Mg", energy, entry_id="mp-1").as_dict() for energy in (-1.5, -1.4)]
    assert [entry.name for entry in read_phase_diagram(dumped(tmp_path / "pd.json", entries))] == ["mp-1", "mp-1#2"]


def test_stand_in_has_the_composition_and_the_energy_of_its_atoms(tmp_path):
    (entry,) = read_phase_diagram(dumped(tmp_path / "pd.json", [PDEntry("Mg4O4", -50.4).as_dict()]))
    crystal = stand_in(entry)
    assert sorted(crystal.atomic_numbers.tolist()) == [8, 12]
    assert crystal.info["energy"] == pytest.approx(-12.6)


def test_pickles_are_refused_unread(tmp_path):
    path = tmp_path / "2023-02-07-ppd-mp.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps([])))
    with pytest.raises(ContractError, match=r"ppd-mp\.pkl\.gz: such a file can run code.*as_dict"):
        read_phase_diagram(path)


def test_uncorrected_oxides_are_refused(tmp_path):
    entries = [ComputedEntry(formula, energy, entry_id=formula).as_dict() for formula, energy in ENERGIES.items()]
    with pytest.raises(ContractError, match=r"none of its 2 oxides has a correction.*MaterialsProject2020"):
        read_phase_diagram(dumped(tmp_path / "pd.json", entries))
    # An alloy has none to miss.
    assert len(read_phase_diagram(dumped(tmp_path / "alloy.json", entries[:2]))) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not readable JSON"),
        (b"[]", "holds no entries"),
        (b'[{"composition": {"Mg": "x"}, "energy": 1}]', "cannot be read"),
        (b'[{"composition": {}, "energy": 1}]', "no composition"),
        (b'[{"composition": {"Mg": 1}, "energy": NaN}]', "no finite energy"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    path = tmp_path / "pd.json"
    path.write_bytes(content)
    with pytest.raises(ContractError, match=rf"pd\.json: .*{message}"):
        read_phase_diagram(path)


def test_cut_archive_is_named(tmp_path):
    path = dumped(tmp_path / "pd.json.gz", [entry.as_dict() for entry in diagram_entries()])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ContractError, match=r"pd\.json\.gz: not readable JSON"):
        read_phase_diagram(path)


def test_elemental_references_of_the_materials_project(shared_data):
    found = read_phase_diagram(shared_data / "mp_elemental_reference_entries_2023-02-07.json.gz")
    assert len(found) == 89
    assert all(len(entry.composition) == 1 for entry in found)
