"""Training the student: what goes into mace-torch's program, what comes out, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import distil_training as script
from toy_potential import crystal_of, potential_of
from xtalgen import crystals
from xtalgen.crystals import ContractError
from xtalgen.potentials import registry
from xtalgen.potentials.types import PotentialError
from xtalgen.relaxation import single_points
from xtalgen.stages import distil, distil_training
from xtalgen.stages.distil import LabelConfig, label_crystals
from xtalgen.stages.distil_training import Recipe, arguments, atomic_energies, known_elements, read_recipe, split

TINY = Recipe(hidden_irreps="4x0e", radial_mlp="[8]", r_max=4.0, max_ell=1, epochs=2, second_stage=1, batch_size=8)


@pytest.fixture(scope="module")
def rows():
    """Copper and silver in several cells, labelled by effective medium theory."""
    found = []
    for place in range(24):
        atoms = bulk("Cu" if place % 3 else "Ag", "fcc", a=3.6 + 0.02 * place, cubic=True)
        atoms.numbers[: place % 4] = 47 if place % 3 else 29
        found.append(crystal_of(atoms, f"m{place}"))
    return [row for row in label_crystals(found, LabelConfig(24, 1.0, 0), potential_of(EMT())) if row.ok]


def write(rows, path, teacher="0" * 64):
    table = crystals.to_table(rows, distil.COLUMNS)
    crystals.write_table(table, path, teacher="chgnet", teacher_sha256=teacher)
    return path


def test_no_crystal_is_learned_and_held_out(rows):
    learned, held = split(rows, 0)
    assert len(learned) + len(held) == len(rows)
    assert held
    assert not {row.info["parent"] for row in learned} & {row.info["parent"] for row in held}


def test_the_only_crystal_with_an_element_is_learned(rows):
    odd = replace(
        rows[0], id="odd", atomic_numbers=np.array([79] * 4, dtype=np.uint8), info={**rows[0].info, "parent": "odd"}
    )
    for seed in range(40):
        learned, _ = split([*rows[:4], odd], seed)
        assert "odd" in {row.id for row in learned}


def test_elements_of_one_crystal_only_are_left_out(rows):
    odd = replace(
        rows[0], id="odd", atomic_numbers=np.array([79] * 4, dtype=np.uint8), info={**rows[0].info, "parent": "odd"}
    )
    assert known_elements([*rows, odd]) == rows


def test_energies_of_atoms_explain_a_mixture_exactly(rows):
    level = {29: -3.0, 47: -1.0}
    made = [replace(row, info={**row.info, "energy": sum(level[int(z)] for z in row.atomic_numbers)}) for row in rows]
    assert atomic_energies(made) == pytest.approx(level)


def test_elements_weigh_more_in_what_the_program_reads(rows, tmp_path):
    from mace.data import KeySpecification, load_from_xyz

    pure = next(row for row in rows if len(set(row.atomic_numbers.tolist())) == 1)
    mixed = next(row for row in rows if len(set(row.atomic_numbers.tolist())) == 2)
    distil_training.write_configurations([pure, mixed], tmp_path / "two.xyz")
    _, found = load_from_xyz(str(tmp_path / "two.xyz"), KeySpecification.from_defaults())
    assert [one.property_weights["energy"] for one in found] == [distil_training.ELEMENT_WEIGHT, 1.0]
    for one, row in zip(found, (pure, mixed), strict=True):
        assert one.properties["energy"] == pytest.approx(row.info["energy"])
        assert one.properties["forces"].ravel() == pytest.approx(row.info["forces"], abs=1e-6)
        assert one.properties["stress"].ravel() == pytest.approx(row.info["stress"], abs=1e-7)


def test_arguments_are_ones_that_the_program_knows():
    from mace.tools.arg_parser import build_default_arg_parser

    parsed = build_default_arg_parser().parse_args(arguments(Recipe(), {29: -3.5}, 7, "cpu"))
    assert (parsed.hidden_irreps, parsed.seed, parsed.loss, parsed.swa) == (
        Recipe().hidden_irreps,
        7,
        "universal",
        True,
    )
    assert (parsed.start_swa, parsed.swa_energy_weight) == (Recipe().second_stage, Recipe().second_energy_weight)
    assert parsed.pair_repulsion
    assert parsed.plot is False
    assert json.loads(parsed.E0s.replace("29", '"29"')) == {"29": -3.5}


def test_recipe_is_checked():
    assert read_recipe({"epochs": 30, "second_stage": 20}).epochs == 30
    with pytest.raises(ValueError, match=r"there is no 'epoch'; there are .*epochs"):
        read_recipe({"epoch": 3})
    with pytest.raises(ValueError, match="second_stage 8 must lie before epochs 3"):
        read_recipe({"epochs": 3})


@pytest.mark.slow
def test_a_model_is_trained_written_and_used_and_a_second_call_trains_nothing(rows, tmp_path, monkeypatch):
    labels, out = write(rows, tmp_path / "labels.parquet"), tmp_path / "student.safetensors"
    distil_training.run_distil_training([labels], recipe=TINY, out=out, work=tmp_path / "work", seed=0)
    facts = registry.read_metadata(registry.identify(str(out)))
    assert facts["teacher"] == "chgnet"
    assert facts["energy_scale"] == "corrected"
    assert int(facts["n_learned"]) + int(facts["n_held_out"]) == len(rows)
    assert int(facts["n_crystals"]) == 24
    potential = registry.load(str(out))
    assert potential.elements == frozenset({29, 47})
    atoms = bulk("Cu", "fcc", a=3.6)
    atoms.calc = potential.calculator
    assert abs(atoms.get_potential_energy()) < 3.0
    monkeypatch.setattr(distil_training.subprocess, "run", lambda *_, **__: pytest.fail("trained again"))
    first = out.read_bytes()
    distil_training.run_distil_training([labels], recipe=TINY, out=out, work=tmp_path / "work", seed=0)
    assert out.read_bytes() == first
    # Two atoms pressed together push each other away, wherever the labels end: mace-torch's ZBL.
    pair = crystal_of(bulk("Cu", "fcc", a=3.6, cubic=True))
    energies = []
    for distance in (1.2, 0.9, 0.7):
        places = np.array([[0.0, 0, 0], [distance / 8, 0, 0]])
        close = replace(pair, lattice=np.eye(3) * 8.0, frac_coords=places, atomic_numbers=pair.atomic_numbers[:2])
        ((_, found),) = single_points.evaluate([close], potential)
        energies.append(found.energy[0])
    assert energies == sorted(energies)
    assert energies[-1] > energies[0] + 10


def test_program_that_fails_is_quoted(rows, tmp_path):
    labels = write(rows, tmp_path / "labels.parquet")
    bad = replace(TINY, hidden_irreps="no irreps")
    with pytest.raises(PotentialError, match=r"training ended with code 1: .*All of its output: .*training\.log"):
        distil_training.run_distil_training([labels], recipe=bad, out=tmp_path / "o", work=tmp_path / "work", seed=0)
    assert not (tmp_path / "o").exists()


def test_labels_of_two_teachers_and_too_few_labels_are_refused(rows, tmp_path):
    one, two = write(rows, tmp_path / "a.parquet"), write(rows, tmp_path / "b.parquet", "1" * 64)
    options = {"recipe": TINY, "out": tmp_path / "o", "work": tmp_path / "work", "seed": 0}
    with pytest.raises(ContractError, match=r"a\.parquet and the other tables come from 2 teachers"):
        distil_training.run_distil_training([one, two], **options)
    few = write(rows[:1], tmp_path / "few.parquet")
    with pytest.raises(ContractError, match=r"few\.parquet: 0 configurations with labels, too few"):
        distil_training.run_distil_training([few], **options)
    words = ["--labels", str(one), "--work", str(tmp_path), "--out", str(tmp_path / "o"), "--device", "cpu"]
    with pytest.raises(SystemExit, match=r"error: .*there is no 'epoch'"):
        script.main([*words, "--recipe", '{"epoch": 1}'])
