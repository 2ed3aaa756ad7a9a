"""What must come out: the truth against itself, and a published sample against its published values."""

import numpy as np
import pytest

import real_crystals
from crystal_cases import diffcsp, mp_20
from xtalgen.fingerprints import Fingerprints, structure_fingerprint
from xtalgen.metrics.coverage import cutoffs
from xtalgen.metrics.generation import score_generation
from xtalgen.metrics.inputs import Inputs, Settings
from xtalgen.metrics.magpie import magpie_features
from xtalgen.metrics.matching import arrays
from xtalgen.metrics.prediction import Predictions, score_prediction
from xtalgen.metrics.recipes import RECIPES
from xtalgen.metrics.validity import judge, reduced_counts


def prints(crystals):
    structures = np.array([structure_fingerprint(arrays(crystal)) for crystal in crystals])
    features = magpie_features([reduced_counts(crystal.atomic_numbers) for crystal in crystals])
    return Fingerprints(["ok"] * len(crystals), structures, features)


def generation(sample, test, recipe="xtalgen", train=()):
    return score_generation(
        Inputs(
            sample=sample, relaxed=None, hull=None, train=train, test=test, known=train, fingerprints=prints(sample),
            references=prints(test), limits=cutoffs("mp_20"),
        ),
        Settings(RECIPES[recipe], resamples=50),
    ).metrics  # fmt: skip


def prediction(crystals, recipe, work, monkeypatch):
    import xtalgen.metrics.matching as module
    from xtalgen.resume import map_resumably

    in_process = lambda *args, **options: map_resumably(*args, **(options | {"timeout": None}))  # noqa: E731
    monkeypatch.setattr(module, "map_resumably", in_process)
    predictions = Predictions(crystals, crystals, list(range(len(crystals))), None, None)
    return score_prediction(predictions, Settings(RECIPES[recipe], resamples=50), work=work / recipe, key="k").metrics


def check_truth(crystals, work, monkeypatch):
    valid = [crystal for crystal, fine in zip(crystals, judge(crystals).both, strict=True) if fine]
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


def test_truth_of_mp_20_against_itself(shared_data, tmp_path, monkeypatch):
    crystals = real_crystals.mp_20(shared_data, 250)
    assert check_truth(crystals, tmp_path, monkeypatch) == pytest.approx(0.9, abs=0.04)


def test_published_sample_has_its_published_values(shared_data):
    # WyckoffTransformer's notebook, on 1,000 of DiffCSP's samples filtered for novelty: structure 100 %, composition
    # 81.2 %, COV-R 99.56 %, COV-P 96.26 %, W(density) 0.785, W(elements) 0.291; docs/concepts/evaluation.md compares.
    sample, test = diffcsp(shared_data, 1000), mp_20(shared_data, "test", 1000)
    found = generation(sample, test, "cdvae", mp_20(shared_data, "val", 50))
    assert found["struct_valid"].value == 1.0
    assert found["comp_valid"].value == 0.825
    assert found["cov_recall"].value > 0.95
    assert found["cov_precision"].value > 0.9
    assert found["wdist_density"].reason == f"{found['valid'].value * 1000:.0f} valid crystals; this recipe takes 1,000"
