"""What must come out: the truth against itself, and a published sample against its published values."""

import csv
import gzip

import jaxtyping
import numpy as np
import pytest

import real_crystals
from crystal_cases import diffcsp, listed
from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import Fingerprints, structure_fingerprint
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.io.structure_files import read_crystal
from xtalgen.metrics.coverage import cutoffs
from xtalgen.metrics.distributions import density, num_elems, wasserstein
from xtalgen.metrics.protocols import RECIPES
from xtalgen.metrics.tasks.csp import Predictions, score_prediction
from xtalgen.metrics.tasks.dng import score_generation
from xtalgen.metrics.types import Inputs, MetricConfig
from xtalgen.metrics.validity import ValidityRules
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.matcher import arrays


def prints(crystals):
    structures = np.array([structure_fingerprint(arrays(crystal)) for crystal in crystals])
    features = magpie_features([reduced_counts(crystal.atomic_numbers) for crystal in crystals])
    return Fingerprints(["ok"] * len(crystals), structures, features)


def generation(sample, test, recipe="xtalgen", train=()):
    return score_generation(
        listed(
        Inputs,
            sample=sample, relaxed=None, hull=None, train=train, test=test, known=train, fingerprints=prints(sample),
            references=prints(test), limits=cutoffs("mp_20"),
        ),
        MetricConfig(RECIPES[recipe], resamples=50),
    ).metrics  # fmt: skip


def prediction(crystals, recipe, work, monkeypatch):
    import xtalgen.metrics.tasks.csp as module
    from xtalgen.runtime.resume import map_resumably

    in_process = lambda *args, **options: map_resumably(*args, **(options | {"timeout": None}))  # noqa: E731
    monkeypatch.setattr(module, "map_resumably", in_process)
    predictions = listed(Predictions, crystals, crystals, list(range(len(crystals))), None, None)
    return score_prediction(
        predictions, MetricConfig(RECIPES[recipe], resamples=50), work=work / recipe, key="k"
    ).metrics


def check_truth(crystals, work, monkeypatch):
    valid = [crystal for crystal, fine in zip(crystals, ValidityRules().judge(crystals).both, strict=True) if fine]
    for recipe in ("xtalgen", "flowmm"):
        found = {name: each.value for name, each in generation(valid, valid, recipe).items()}
        assert found["cov_recall"] == found["cov_precision"] == found["struct_valid"] == found["comp_valid"] == 1.0
        assert found["wdist_num_elems"] == 0.0
        assert found["tvd_space_group"] == 0.0
        if recipe == "xtalgen":
            assert found["wdist_density"] == 0.0
    for recipe in ("xtalgen", "cdvae"):
        found = prediction(crystals, recipe, work, monkeypatch)
        assert found["match_rate_all"].value == found["metre"].value == 1.0
        assert found["rms_dist_all"].value == pytest.approx(0.0, abs=1e-6)
        assert found["crmse"].value == pytest.approx(0.0, abs=1e-6)
        assert found["match_rate"].value == len(valid) / len(crystals)
    return len(valid) / len(crystals)


def test_truth_of_the_library_against_itself(tmp_path, monkeypatch):
    assert check_truth(real_crystals.embedded(40), tmp_path, monkeypatch) > 0.8


@pytest.mark.long
def test_truth_of_mp_20_against_itself(shared_data, tmp_path, monkeypatch):
    crystals = real_crystals.mp_20(shared_data, 250)
    assert check_truth(crystals, tmp_path, monkeypatch) == pytest.approx(0.9, abs=0.04)


def test_share_of_published_sample(shared_data):
    found = ValidityRules().judge(diffcsp(shared_data, 10_000))
    assert found.structure.mean() == 1.0
    assert found.composition.mean() == pytest.approx(0.8325)  # DiffCSP's paper (arXiv:2309.04475)


@pytest.fixture
def without_type_checks():
    # Twenty thousand fingerprints take twice as long when every call of every part is checked.
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.long
@pytest.mark.usefixtures("without_type_checks")
def test_published_sample_has_its_published_values(shared_data):
    # DiffCSP's paper, MP-20: COV-R 99.71 %, COV-P 99.76 %, W(density) 0.3502, W(elements) 0.3398 in one unseeded draw.
    with gzip.open(shared_data / "mp_20" / "test.csv.gz", "rt") as file:
        rows = [(row["material_id"], read_crystal(row["cif"])) for row in csv.DictReader(file)]
    test = [Crystal(name, "ok", cell.lattice, cell.frac_coords, cell.atomic_numbers) for name, cell in rows]
    sample = diffcsp(shared_data, 10_000)
    recipe = RECIPES["cdvae"]
    validity = recipe.validity.judge(sample)
    covered, _ = recipe.coverage.measure(prints(sample), prints(test), CrystalList([]), validity.both, cutoffs("mp_20"))
    assert round(covered["cov_recall"].value, 4) == 0.9971
    assert round(covered["cov_precision"].value, 4) == 0.9976
    valid = [crystal for crystal, fine in zip(sample, validity.both, strict=True) if fine]
    for prop, published in ((density, 0.3502), (num_elems, 0.3398)):
        values, known = (np.array([prop(crystal) for crystal in each], dtype=float) for each in (valid, test))
        distance = wasserstein(values, known, at_most=1000)
        drawn = [distance.estimate(seed=seed, resamples=1).value for seed in range(20)]
        assert min(drawn) < published < max(drawn)
