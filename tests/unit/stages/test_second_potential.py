"""Second opinions: the other potential's hull is its own, geometries stay, and what makes no sense is refused."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

import second_potential as script
from toy_potential import potential_of
from xtalgen import crystals
from xtalgen.crystals import ContractError, Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import PotentialError
from xtalgen.stages import second_potential
from xtalgen.structure.lattice import wrap

GOOD = dict.fromkeys(("unique", "novel", "struct_valid", "comp_valid"), True)
FLAGS = dict.fromkeys(GOOD, pa.bool_())


class PerAtom(Calculator):
    """Gives every atom its element's energy, and the mixtures of magnesium and oxygen something on top."""

    implemented_properties = ("energy", "forces", "stress")
    level, mixed = {12: -2.0, 8: -5.0}, -1.5

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy = sum(self.level[int(z)] for z in atoms.numbers)
        energy += self.mixed * len(atoms) if len(set(atoms.numbers)) > 1 else 0.0
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def cell(identifier, formula, structure="rocksalt", a=4.2, **info):
    atoms = bulk(formula, structure, a=a)
    places = wrap(atoms.get_scaled_positions())
    return Crystal(identifier, "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8), info)


@pytest.fixture
def second(monkeypatch):
    potential = potential_of(PerAtom(), 5.0)
    identity = replace(potential.identity, name="second", sha256="2" * 64)
    monkeypatch.setattr(registry, "identify", lambda *_: identity)
    monkeypatch.setattr(registry, "load_identified", lambda *_: replace(potential, identity=identity))
    monkeypatch.setattr(registry, "load_identified", lambda *_: replace(potential, identity=identity))


def written(folder, rows=None, energies="consistent", sha256="1" * 64):
    """A table of candidates, and a hull of magnesium and oxygen and a compound that the first potential made."""
    rows = [cell("new", "MgO", "zincblende", 4.6, **GOOD, e_above_hull=0.2)] if rows is None else rows
    evaluated, hull = folder / "evaluated.parquet", folder / "hull.parquet"
    crystals.write_table(crystals.to_table(rows, {**FLAGS, "e_above_hull": pa.float64()}), evaluated)
    references = [
        cell("Mg", "Mg", "fcc", 4.5, energy=-1.0),
        cell("O", "O", "fcc", 3.5, energy=-1.0),
        cell("failed", "MgO", energy=None),
        cell("Cu", "Cu", "fcc", 3.6, energy=-1.0),
    ]
    table = crystals.to_table(references, {"energy": pa.float64()})
    crystals.write_table(table, hull, energies=energies, potential_sha256=sha256)
    return evaluated, hull


def run(folder, evaluated, hull, **options):
    out = folder / "second_potential.parquet"
    options = {"potential": "second", "count": 5, "workers": 1, "timeout": None, "device": "cpu"} | options
    second_potential.apply_second_potential(evaluated, hull, cache=folder / "cache", out=out, **options)
    return crystals.read_crystals(out), crystals.read_metadata(crystals.read_table(out))


def test_value_is_against_the_second_potentials_own_hull(second, tmp_path):
    rows, metadata = run(tmp_path, *written(tmp_path))
    assert [(row.id, row.info["second_status"]) for row in rows] == [("new", "ok")]
    # The mixture gains 1.5 eV per atom against its elements; the failed reference takes no part.
    assert rows[0].info["second_e_above_hull"] == pytest.approx(-1.5)
    assert metadata["potential_sha256"] == "2" * 64


def test_only_candidates_are_asked_about(second, tmp_path):
    rows = [
        cell("best", "MgO", **GOOD, e_above_hull=0.0),
        cell("known", "MgO", a=4.3, **{**GOOD, "novel": False}, e_above_hull=0.0),
        cell("no energy", "MgO", a=4.4, **GOOD, e_above_hull=None),
        cell("worse", "MgO", a=4.5, **GOOD, e_above_hull=0.1),
    ]
    files = written(tmp_path, rows)
    assert [row.id for row in run(tmp_path, *files)[0]] == ["best", "worse"]
    assert [row.id for row in run(tmp_path, *files, count=1)[0]] == ["best"]
    assert run(tmp_path, *written(tmp_path, []))[0] == []


def test_missing_terminal_is_a_status(second, tmp_path):
    rows = [cell("salt", "MgO", **GOOD, e_above_hull=0.0)]
    evaluated, hull = written(tmp_path, rows)
    table = crystals.to_table([cell("Mg", "Mg", "fcc", 4.5, energy=-1.0)], {"energy": pa.float64()})
    crystals.write_table(table, hull, energies="consistent", potential_sha256="1" * 64)
    (row,) = run(tmp_path, evaluated, hull)[0]
    assert (row.info["second_e_above_hull"], row.info["second_status"]) == (None, "no_terminal")


def test_other_hulls_and_the_same_potential_are_refused(second, tmp_path):
    with pytest.raises(ContractError, match=r"hull\.parquet.*'mp2020' hull.*relax\.hull: consistent"):
        run(tmp_path, *written(tmp_path, energies="mp2020"))
    with pytest.raises(PotentialError, match="it relaxed the crystals"):
        run(tmp_path, *written(tmp_path, sha256="2" * 64))
    evaluated, hull = written(tmp_path, energies="dft")
    words = ["--evaluated", str(evaluated), "--hull", str(hull), "--potential", "second", "--device", "cpu"]
    with pytest.raises(SystemExit, match=r"error: .*'dft' hull"):
        script.main([*words, "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "o.parquet")])
