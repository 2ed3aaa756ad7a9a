"""The baseline: structures of training crystals with other elements."""

import json

import numpy as np
import pytest
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from real_crystals import described
from xtalgen import models
from xtalgen.crystals import Crystal
from xtalgen.models.orbits.analogues import counts_of
from xtalgen.models.orbits.steps import formula_of
from xtalgen.models.substitution import Model, SubstitutionConfig, SubstitutionSampling
from xtalgen.training.job import Job

CRYSTALS = described(60)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("substitution")
    job = Job("csp", 0, folder / "work", folder / "out")
    job.out.mkdir()
    Model().train(CRYSTALS, CRYSTALS[:6], SubstitutionConfig(epochs=2, batch_size=16), job)
    return folder / "out" / "checkpoint.safetensors"


def sample(checkpoint, wanted, seed=0, batch_size=250):
    return list(Model().sample(checkpoint, wanted, SubstitutionSampling(batch_size), seed, "cpu"))


def structure(crystal):
    return Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)


def test_structures_are_those_of_training_crystals(checkpoint):
    wanted = [np.where(crystal.atomic_numbers == 8, 16, crystal.atomic_numbers) for crystal in CRYSTALS]
    made = sample(checkpoint, wanted)
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
    for numbers, crystal in zip(wanted, made, strict=True):
        assert crystal.status in {"ok", "no_analogue"}
        if crystal.ok:
            assert crystal.atomic_numbers.tolist() == numbers.tolist()
            assert any(
                matcher.fit_anonymous(structure(crystal), structure(known))
                for known in CRYSTALS
                if known.n_atoms == crystal.n_atoms
            )
    assert sum(crystal.ok for crystal in made) > len(made) / 2


def test_what_nothing_is_alike_to_has_a_status(checkpoint):
    kinds = {counts_of(formula_of(crystal.atomic_numbers)) for crystal in CRYSTALS}
    lonely = np.array([11] * 7 + [17] * 9)
    assert counts_of(formula_of(lonely)) not in kinds
    found = sample(checkpoint, [lonely, np.array([], dtype=int), np.array([104])])
    assert [crystal.status for crystal in found] == ["no_analogue", "no_atoms", "unknown_element"]


def test_neither_seed_nor_batch_matters(checkpoint):
    wanted = [crystal.atomic_numbers for crystal in CRYSTALS[:7]]
    first, other = sample(checkpoint, wanted), sample(checkpoint, wanted, seed=1, batch_size=2)
    assert all(np.array_equal(a.frac_coords, b.frac_coords) for a, b in zip(first, other, strict=True))


def test_it_predicts_structures_only(checkpoint):
    with pytest.raises(ValueError, match="trained for 'csp', cannot sample 'dng'"):
        sample(checkpoint, 3)


def test_the_training_says_what_it_cost(checkpoint):
    facts = json.loads((checkpoint.parent / "training.json").read_text())
    assert facts["n_train"] == len(CRYSTALS)
    assert facts["flop_per_crystal"] > 0
    assert facts["parameters"] < 10_000


def test_settings_are_checked():
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        models.build(SubstitutionSampling, {"batch_size": 0}, "test")


def test_crystals_without_wyckoff_positions_are_refused(tmp_path):
    job = Job("csp", 0, tmp_path / "work", tmp_path)
    bare = [Crystal("a", "ok", 4 * np.eye(3), np.zeros((1, 3)), np.array([11], np.uint8))]
    with pytest.raises(ValueError, match="no Wyckoff positions"):
        Model().train(bare, bare, SubstitutionConfig(), job)
