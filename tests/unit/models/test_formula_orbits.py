"""The model as a whole: settings, statuses, order of atoms, time budget, what sampling settings do."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from real_crystals import described
from xtalgen import models
from xtalgen.crystals import Crystal, read_crystals
from xtalgen.experiment.plan import WEIGHTS
from xtalgen.models.formula_orbits import FormulaOrbitsConfig, FormulaOrbitsSampling, Model
from xtalgen.models.orbits.contacts import _shortest, pair_distances
from xtalgen.models.orbits.sampling import to_crystal
from xtalgen.models.orbits.steps import Group, Groups, Position, WyckoffCrystal
from xtalgen.structure.elements import ORDER
from xtalgen.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from xtalgen.training.job import Job

SMALL = {"hidden": 16, "layers": 1, "heads": 2, "epochs": 3, "batch_size": 8, "formula_hidden": 16, "formula_layers": 1,
         "formula_heads": 2, "formula_epochs": 3, "formula_batch_size": 8, "analogue_epochs": 2}  # fmt: skip
CRYSTALS = described(40)
GROUPS = Groups.seen([crystal.info["wyckoff"] for crystal in CRYSTALS])


def train(folder, max_seconds=None, **changes):
    job = Job("shared", 0, folder / "work", folder / "out", max_seconds=max_seconds)
    job.out.mkdir(parents=True)
    Model().train(CRYSTALS, CRYSTALS[:6], FormulaOrbitsConfig(**{**SMALL, **changes}), job)
    return folder / "out" / "checkpoint.safetensors"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("orbits"))


def sample(checkpoint, wanted, **settings):
    sampling = FormulaOrbitsSampling(**{"structure_temperature": 1.0, "candidates": 2, "analogues": 0, **settings})
    return list(Model().sample(checkpoint, wanted, sampling, 0, "cpu"))


def test_atoms_come_in_the_order_asked_for(checkpoint):
    wanted = [np.array([8, 26, 8, 26, 8]), np.array([17, 11]), np.array([11, 17])]
    for numbers, crystal in zip(wanted, sample(checkpoint, wanted), strict=True):
        assert crystal.atomic_numbers.tolist() == numbers.tolist()
        assert crystal.frac_coords.shape == (len(numbers), 3)


def test_atoms_keep_their_places_when_ordered():
    groups = Groups([Group(221, "", (Position("a", "0,0,0", 1), Position("b", "1/2,1/2,1/2", 1)), 0)])
    # Caesium on a, chlorine on b; elements by their place in the order of electronegativity.
    written = WyckoffCrystal(0, ((ORDER.index(55), 0), (ORDER.index(17), 1)), (0.5,), ())
    for numbers in ([55, 17], [17, 55]):
        crystal = to_crystal(np.array(numbers), written, groups, "")
        where = dict(zip(crystal.atomic_numbers.tolist(), crystal.frac_coords.tolist(), strict=True))
        assert where[55] == pytest.approx([0.0, 0.0, 0.0])
        assert where[17] == pytest.approx([0.5, 0.5, 0.5])


def test_what_cannot_be_made_has_a_status(checkpoint):
    wanted = [np.array([11, 17]), np.array([], dtype=int), np.full(101, 8), np.array([104])]
    statuses = [crystal.status for crystal in sample(checkpoint, wanted)]
    assert statuses == ["ok", "no_atoms", "too_large", "unknown_element"]
    assert to_crystal(np.array([11, 17]), None, GROUPS, "no_space_group").status == "no_space_group"
    groups = Groups([Group(1, "", (Position("a", "x,y,z", 1),), 0)])
    flat = WyckoffCrystal(0, ((0, 0),), (0.5, 0.5, 0.5, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
    assert to_crystal(np.array([87]), flat, groups, "").status == "bad_lattice"


def test_de_novo_crystals_have_formulas_of_their_own(checkpoint):
    crystals = sample(checkpoint, 30)
    assert len(crystals) == 30
    assert len({tuple(sorted(Counter(crystal.atomic_numbers.tolist()).items())) for crystal in crystals}) > 10


def test_a_prediction_does_not_depend_on_its_batch(checkpoint):
    wanted = [crystal.atomic_numbers for crystal in CRYSTALS[:9]]
    one, many = sample(checkpoint, wanted, batch_size=1), sample(checkpoint, wanted, batch_size=9)
    for alone, together in zip(one, many, strict=True):
        assert alone.status == together.status
        assert np.allclose(alone.lattice, together.lattice, atol=1e-4)


def test_analogues_are_used_by_default(checkpoint):
    wanted = [crystal.atomic_numbers for crystal in CRYSTALS[:12]]
    settings = {"structure_temperature": 0.0, "contact_steps": 0}
    alone, both = sample(checkpoint, wanted, **settings), sample(checkpoint, wanted, analogues=8, **settings)
    volumes = [[abs(np.linalg.det(crystal.lattice)) for crystal in made] for made in (CRYSTALS[:12], alone, both)]
    right = [np.isclose(made, volumes[0], rtol=0.05).mean() for made in volumes[1:]]
    assert right[1] > 0.5 > right[0], "the training crystals themselves are remembered"


def test_atoms_are_moved_apart_unless_asked_not_to(checkpoint):
    wanted = [crystal.atomic_numbers for crystal in CRYSTALS if crystal.n_atoms >= 6]
    nearest = [
        np.array([_shortest(crystal).min() for crystal in sample(checkpoint, wanted, contact_steps=steps)])
        for steps in (0, 100)
    ]
    assert (nearest[1] < 0.5).sum() < (nearest[0] < 0.5).sum()


def test_the_checkpoint_holds_what_sampling_needs(checkpoint):
    weights, facts = load_checkpoint(checkpoint, "cpu")
    assert Groups.from_json(facts["groups"]).groups == GROUPS.groups
    assert torch.equal(weights["distances"], torch.from_numpy(pair_distances(CRYSTALS)))
    assert not any(name.startswith("network.") for name in weights), "each weight once"
    assert facts["formulas"]["most"] == max(len(set(crystal.atomic_numbers.tolist())) for crystal in CRYSTALS)
    assert sum(facts["formulas"]["histogram"].values()) == len(CRYSTALS)
    assert facts["memory"]["n_choices"] == [len(CRYSTALS)]
    assert weights["analogues.elements"].shape[0] == len(CRYSTALS)


def test_checkpoints_without_analogues_are_refused_with_the_remedy(checkpoint, tmp_path):
    weights, facts = load_checkpoint(checkpoint, "cpu")
    del facts["memory"]
    save_checkpoint(tmp_path / "old", weights, facts)
    with pytest.raises(CheckpointError, match=r"an older version\. Train formula_orbits again"):
        sample(tmp_path / "old", 1)


@pytest.mark.parametrize("part", ["formula", "analogue"])
def test_what_comes_first_takes_a_tenth_of_a_time_budget(tmp_path, part):
    path = train(tmp_path, max_seconds=6.0, epochs=100_000, **{f"{part}_epochs": 100_000})
    facts = json.loads((path.parent / "training.json").read_text())
    assert facts["out_of_time"]
    rows = (path.parent / f"{part}s" / "log.csv").read_text().splitlines()
    seconds = float(rows[-1].split(",")[rows[0].split(",").index("seconds")])
    assert 0.4 < seconds < 2.0
    assert 4.0 < facts["seconds"] < 8.0


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (FormulaOrbitsConfig, {"hidden": 30}, "hidden must be a multiple of heads"),
        (FormulaOrbitsConfig, {"formula_dropout": 1.0}, "formula_dropout must be"),
        (FormulaOrbitsConfig, {"epochs": 0}, "epochs must be above 0"),
        (FormulaOrbitsConfig, {"schedule": "cosin"}, "schedule is 'cosin'; choose one of"),
        (FormulaOrbitsConfig, {"clip": "all"}, "clip is 'all'; choose one of"),
        (FormulaOrbitsSampling, {"temperature": 0.0}, "temperature must be above 0"),
        (FormulaOrbitsSampling, {"count_temperature": -1.0}, "count_temperature must be above 0"),
        (FormulaOrbitsSampling, {"analogues": -1}, "analogues must be at least 0"),
        (FormulaOrbitsSampling, {"structure_temperature": -1.0}, "structure_temperature must be at least 0"),
        (FormulaOrbitsSampling, {"candidates": 0}, "candidates must be at least 1"),
        (FormulaOrbitsSampling, {"contact_steps": -1}, "contact_steps must be at least 0"),
    ],
)
def test_wrong_settings_are_named(kind, values, message):
    with pytest.raises(ValueError, match=message):
        models.build(kind, values, "test")


def test_crystals_without_wyckoff_positions_are_refused(tmp_path):
    job = Job("shared", 0, tmp_path / "work", tmp_path)
    bare = [Crystal("a", "ok", 4 * np.eye(3), np.zeros((1, 3)), np.array([11], np.uint8))]
    with pytest.raises(ValueError, match="no Wyckoff positions"):
        Model().train(bare, bare, FormulaOrbitsConfig(**SMALL), job)


def test_the_recorded_checkpoint_still_gives_the_recorded_crystals(root):
    """Checkpoints written before stay readable, and sampling stays what it was."""
    folder = root / "records/2026-11-23-formula_orbits"
    model, seed = models.load("formula_orbits"), int(np.random.SeedSequence([0, 0]).generate_state(1)[0])
    predicted = read_crystals(folder / "csp.parquet")[:4]
    compositions = [crystal.atomic_numbers for crystal in predicted]
    for recorded, wanted in ((predicted, compositions), (read_crystals(folder / "dng.parquet")[:4], 4)):
        made = list(model.sample(WEIGHTS / "formula_orbits/shared.safetensors", wanted, model.Sampling(), seed, "cpu"))
        for one, other in zip(made, recorded, strict=True):
            assert one.status == other.status == "ok"
            assert one.atomic_numbers.tolist() == other.atomic_numbers.tolist()
            # The networks compute in float32, with other rounding on another processor.
            assert one.lattice == pytest.approx(other.lattice, abs=1e-3)
            assert np.abs((one.frac_coords - other.frac_coords + 0.5) % 1 - 0.5).max() < 1e-4
