"""Labels: what the teacher says, of the crystals that were chosen; nothing is dropped, a killed run goes on."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import distil as script
from toy_potential import Constant, crystal_of, potential_of
from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import PotentialError
from xtalgen.stages import distil
from xtalgen.stages.distil import LabelConfig, choose, label_crystals

METALS = ("Cu", "Ag", "Au", "Ni", "Pd", "Pt")


def metals():
    rows = []
    for place, symbol in enumerate(METALS):
        atoms = bulk(symbol, "fcc", a=4.0, cubic=True)
        if place % 2:
            atoms.numbers[0] = 29
        rows.append(crystal_of(atoms, symbol))
    return rows


def write(rows, path):
    crystals.write_table(crystals.to_table(rows), path)
    return path


@pytest.fixture
def emt(monkeypatch):
    """Effective medium theory as the teacher of the stage."""
    potential = potential_of(EMT(), 5.0)
    monkeypatch.setattr(registry, "identify", lambda *_: potential.identity)
    monkeypatch.setattr(registry, "load_identified", lambda *_: potential)
    monkeypatch.setattr(distil, "_loaded", {})
    return potential


def run(table, folder, config, part=(1, 1), **options):
    out = folder / f"labels-{part[0]}.parquet"
    options = {"teacher": "toy", "device": "cpu"} | options
    distil.distil([table], config=config, part=part, work=folder / f"work-{part[0]}", out=out, **options)
    table = crystals.read_table(out)
    return crystals.from_table(table), crystals.read_metadata(table)


def test_labels_are_those_of_the_teacher(emt):
    found = label_crystals(metals(), LabelConfig(6, 2.0, 0), emt)
    checked = 0
    for row in found:
        if not row.ok:
            continue
        atoms = bulk("Cu").__class__(
            row.atomic_numbers, cell=row.lattice, scaled_positions=row.frac_coords, pbc=True, calculator=EMT()
        )
        assert row.info["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        assert np.array(row.info["forces"]).reshape(-1, 3) == pytest.approx(atoms.get_forces(), abs=1e-6)
        assert np.array(row.info["stress"]).reshape(3, 3) == pytest.approx(atoms.get_stress(voigt=False), abs=1e-8)
        checked += 1
    assert checked >= 12


def test_every_kind_is_made_and_the_share_is_as_asked(emt):
    rows = [replace(row, id=f"{row.id}-{place}") for place in range(30) for row in metals()]
    found = label_crystals(rows, LabelConfig(len(rows), 1.5, 0), emt)
    kinds = Counter(row.info["kind"] for row in found)
    assert kinds["given"] == len(rows)
    assert set(kinds) == {"given", *distil.SHARES}
    made = sum(count for kind, count in kinds.items() if kind not in ("given", distil.RELAXING))
    made += kinds[distil.RELAXING] / len(distil.KEPT_STEPS)
    assert made == pytest.approx(1.5 * len(rows), rel=0.15)
    assert len({row.id for row in found}) == len(found)


def test_steps_of_a_relaxation_go_downhill(emt):
    start = distil._named(metals()[0], "Cu", distil.RELAXING, 1)
    start = replace(start, lattice=start.lattice * 1.08)
    found = distil._relaxing(start, emt)
    assert [row.id.rsplit(":", 1)[1] for row in found] == [str(step) for step in distil.KEPT_STEPS]
    energies = [row.info["energy"] for row in found]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] - energies[-1] > 0.01


def test_configurations_without_a_label_keep_their_row(emt):
    clash = replace(metals()[0], id="clash", frac_coords=np.zeros((4, 3)))
    unknown = replace(metals()[0], id="unknown", atomic_numbers=np.array([92] * 4, dtype=np.uint8))
    tight = replace(metals()[0], id="tight", lattice=np.eye(3) * 2.3)
    found = {row.id: row for row in label_crystals([clash, unknown, tight], LabelConfig(3, 0.0, 0), emt)}
    assert {identifier: row.status for identifier, row in found.items()} == {
        "clash:given-0": "potential_failure",
        "unknown:given-0": "potential_failure",
        "tight:given-0": "ok",
    }
    assert found["clash:given-0"].info.get("energy") is None


def test_strong_forces_and_holes_of_the_teacher_are_marked(emt, monkeypatch):
    monkeypatch.setattr(distil, "MAX_FORCE", 1e-3)
    shaken = replace(
        metals()[0], frac_coords=metals()[0].frac_coords + np.array([[0.03, 0, 0], [0] * 3, [0] * 3, [0] * 3])
    )
    assert [row.status for row in label_crystals([shaken], LabelConfig(1, 0.0, 0), emt)] == ["too_strong"]
    # A constant energy: pressing atoms together costs nothing.
    monkeypatch.setattr(distil, "SHARES", {distil.PRESSED: 1.0})
    found = label_crystals(metals()[:1], LabelConfig(1, 1.0, 0), potential_of(Constant(-1.0)))
    assert [row.status for row in found] == ["ok", "attractive"]


def test_elements_come_first_and_the_choice_is_seeded(tmp_path):
    table = write([*metals(), Crystal("broken", "unparsable")], tmp_path / "t.parquet")
    chosen = choose([table], LabelConfig(4, 0.0, 0))
    assert {row.id for row in chosen[:3]} == {"Cu", "Au", "Pd"}  # the others hold copper too
    assert [row.id for row in choose([table], LabelConfig(4, 0.0, 0))] == [row.id for row in chosen]
    assert len(choose([table], LabelConfig(100, 0.0, 0))) == 6


def test_shares_together_are_the_whole(emt, tmp_path):
    table, config = write(metals(), tmp_path / "t.parquet"), LabelConfig(6, 0.7, 3)
    whole = {row.id: row.info["energy"] for row in run(table, tmp_path / "whole", config)[0]}
    parts = [run(table, tmp_path, config, (place, 2))[0] for place in (1, 2)]
    assert {row.id: row.info["energy"] for part in parts for row in part} == whole
    assert sum(map(len, parts)) == len(whole)


def test_table_says_who_labelled_and_what_failed(emt, tmp_path):
    rows = [*metals(), replace(metals()[0], id="clash", frac_coords=np.zeros((4, 3)))]
    found, metadata = run(write(rows, tmp_path / "t.parquet"), tmp_path, LabelConfig(7, 0.0, 0))
    assert len(found) == 7
    assert metadata["teacher_sha256"] == emt.identity.sha256
    assert metadata["statuses"] == "ok 6 potential_failure 1"
    assert not (tmp_path / "work-1").exists()


def test_killed_run_goes_on_with_what_is_kept(emt, tmp_path, monkeypatch):
    table, config = write(metals(), tmp_path / "t.parquet"), LabelConfig(6, 0.0, 0)
    monkeypatch.setattr("xtalgen.runtime.resume.PART", 1)
    monkeypatch.setattr(distil, "PER_TASK", 2)
    real, asked = distil.label_crystals, []

    def interrupted(rows, *rest):
        asked.append(len(rows))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return real(rows, *rest)

    monkeypatch.setattr(distil, "label_crystals", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(table, tmp_path, config)
    assert len(list((tmp_path / "work-1").glob("part-*.json"))) == 2
    asked.clear()
    found, _ = run(table, tmp_path, config)
    assert asked == [2], "the two parts that were done are not done again"
    assert len(found) == 6


def test_teacher_that_cannot_be_loaded_is_named(tmp_path, capsys):
    table = write(metals(), tmp_path / "t.parquet")
    with pytest.raises(PotentialError, match="no such file"):
        distil.distil(
            [table], config=LabelConfig(1, 0.0, 0), part=(1, 1), teacher="nothing", work=tmp_path, out=tmp_path / "o"
        )
    command = ["--tables", str(table), "--crystals", "1", "--teacher", "nothing", "--work", str(tmp_path)]
    with pytest.raises(SystemExit, match=re.escape("error: potential 'nothing'")):
        script.main([*command, "--out", str(tmp_path / "o")])
