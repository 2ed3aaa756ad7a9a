"""The model card: errors that are put in are the errors that are found, and the page says them."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from toy_potential import potential_of
from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.stages import distil_card
from xtalgen.stages.distil_card import write_distil_card
from xtalgen.structure.lattice import wrap

LEVEL = {12: -2.0, 8: -5.0, 16: -4.0}


class Teacher(Calculator):
    """Energies of elements, and for compounds a formation energy that grows with the volume."""

    implemented_properties = ("energy", "forces", "stress")
    error, force = 0.0, 0.0

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy = sum(LEVEL[int(z)] for z in atoms.numbers)
        if len(set(atoms.numbers)) > 1:
            sulphide = 16 in atoms.numbers
            energy += len(atoms) * (-1.0 + 0.01 * atoms.get_volume() / len(atoms) + self.error * (3 if sulphide else 1))
        self.results = {"energy": energy, "forces": np.full((len(atoms), 3), self.force), "stress": np.zeros(6)}


class Student(Teacher):
    error, force = 0.02, 0.3


def cell(identifier, formula, structure="rocksalt", a=4.2, e_form=None):
    atoms = bulk(formula, structure, a=a)
    places = wrap(atoms.get_scaled_positions())
    info = {"e_form_per_atom": e_form}
    return Crystal(identifier, "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8), info)


def write(rows, path):
    crystals.write_table(crystals.to_table(rows, {"e_form_per_atom": pa.float64()}), path)
    return path


@pytest.fixture
def pair(monkeypatch):
    toys = {"teacher": Teacher(), "student": Student()}
    known = {}
    for name, calculator in toys.items():
        potential = potential_of(calculator, 5.0)
        identity = replace(potential.identity, name=name, sha256=("1" if name == "student" else "2") * 64)
        known[name] = replace(potential, identity=identity, elements=frozenset(LEVEL))

    def identify(name, *_):
        return known["student" if name.endswith(".safetensors") else name].identity

    monkeypatch.setattr(registry, "identify", identify)
    monkeypatch.setattr(registry, "load_identified", lambda identity, _: known[identity.name])
    monkeypatch.setattr(registry, "read_metadata", lambda _: {"n_learned": "7", "n_crystals": "5", "mace": "0"})


def test_errors_that_were_put_in_are_found(pair, tmp_path):
    elements = [cell("Mg", "Mg", "fcc", 4.5), cell("O", "O", "fcc", 3.5), cell("S", "S", "fcc", 4.0)]
    known = write([*elements, cell("k", "MgO", a=4.0)], tmp_path / "train.parquet")
    tested = [cell(f"o{n}", "MgO", a=4.0 + 0.1 * n, e_form=-1.0) for n in range(4)]
    tested += [cell(f"s{n}", "MgS", a=5.0 + 0.1 * n, e_form=-0.5) for n in range(3)]
    tested += [cell("unknown", "NaCl", a=5.6)]
    page, facts = tmp_path / "card.md", tmp_path / "card.json"
    write_distil_card(
        tmp_path / "model.safetensors",
        teacher="teacher",
        test=write(tested, tmp_path / "test.parquet"),
        known=[known],
        size=distil_card.TestSize(max_steps=0),
        work=tmp_path / "work",
        out_json=facts,
        out_markdown=page,
    )
    found = json.loads(facts.read_text())
    # 20 meV/atom in four oxides, 60 in three sulphides; sodium and chlorine have no crystal of their own.
    mean = (4 * 20 + 3 * 60) / 7
    assert found["given"]["n"] == 7
    assert found["given"]["e_form_mae"] == pytest.approx(mean, abs=1e-6)
    assert found["given"]["e_form_bias"] == pytest.approx(mean, abs=1e-6)
    assert found["given"]["e_form_median"] == pytest.approx(20.0, abs=1e-6)
    assert found["given"]["forces_mae"] == pytest.approx(300.0)
    assert found["relaxed"]["e_form_mae"] == pytest.approx(mean, abs=1e-6)
    assert {symbol: round(one["mae"]) for symbol, one in found["per_element"].items()} == {"O": 20, "Mg": 37, "S": 60}
    assert found["meets_bar"] is True
    # One oxide is known: the teacher's hull stands 4 points of volume above or below it, the student's 20 meV higher.
    assert found["hull"]["n"] == 7
    assert found["hull"]["mae"] == pytest.approx(3 * 60 / 7, abs=1.0)
    text = page.read_text()
    assert "It meets the bar" in text
    assert "S (60 meV/atom, n = 3)" in text
    assert f"| formation energy as given, meV/atom | {mean:.0f} (median 20) |" in text


def test_bad_student_is_called_so(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(Student, "error", 0.08)
    known = write([cell("Mg", "Mg", "fcc", 4.5), cell("O", "O", "fcc", 3.5)], tmp_path / "train.parquet")
    test = write([cell(f"o{n}", "MgO", a=4.0 + 0.1 * n, e_form=-1.0) for n in range(3)], tmp_path / "test.parquet")
    page, facts = tmp_path / "card.md", tmp_path / "card.json"
    options = {
        "teacher": "teacher",
        "test": test,
        "known": [known],
        "size": distil_card.TestSize(max_steps=0),
        "work": tmp_path / "w",
    }
    write_distil_card(tmp_path / "m.safetensors", **options, out_json=facts, out_markdown=page)
    assert json.loads(facts.read_text())["meets_bar"] is False
    assert "**does not meet** the bar" in page.read_text()
    assert distil_card.BAR == 50.0
