from dataclasses import replace

import numpy as np
import pytest

from crystal_cases import broken, caesium_chloride, library, listed, moved, mp_20, one_atom, rock_salt, with_nan
from tolerances import SUMS
from xtalgen.crystals import Crystal
from xtalgen.metrics.tasks.csp import Predictions, assign_targets, match_targets, score_prediction
from xtalgen.metrics.types import MetricConfig
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.matcher import Tolerances

SETTINGS = MetricConfig(resamples=50)


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    # Worker processes take seconds to start; test_evaluate.py uses them.
    import xtalgen.metrics.tasks.csp as module
    from xtalgen.runtime.resume import map_resumably

    monkeypatch.setattr(
        module, "map_resumably", lambda *args, **options: map_resumably(*args, **(options | {"timeout": None}))
    )


def score(sample, targets, own, work):
    predictions = listed(Predictions, sample, targets, own, None, None)
    return score_prediction(predictions, SETTINGS, work=work, key="test").metrics


def compare(sample, targets, own, work):
    lists = CrystalList(sample), CrystalList(targets)
    return match_targets(*lists, own, work=work, key="k", workers=1, timeout=9.0)


def prediction(crystal, identifier, shift=0.0):
    coordinates = crystal.frac_coords.copy()
    coordinates[-1] += shift
    return Crystal(identifier, "ok", crystal.lattice, coordinates % 1.0, crystal.atomic_numbers)


def test_truth_matches_itself(tmp_path):
    targets = library(6)[:20]
    sample = [moved(crystal, f"p{i}", seed=i) for i, crystal in enumerate(targets)]
    found = score(sample, targets, list(range(len(targets))), tmp_path)
    assert found["match_rate_all"].value == found["metre"].value == 1.0
    assert found["rms_dist_all"].value == pytest.approx(0.0, abs=1e-6)
    assert found["crmse"].value == pytest.approx(0.0, abs=1e-6)
    assert found["match_rate"].value == found["valid"].value < 1.0  # the filtered rate asks for validity too
    assert found["match_rate"].n == len(targets)


def test_rate_of_real_truth(shared_data, tmp_path):
    targets = mp_20(shared_data, "test", 60)
    found = score(targets, targets, list(range(60)), tmp_path)
    assert found["match_rate_all"].value == 1.0
    assert found["match_rate"].value == found["comp_valid"].value


def test_a_miss_counts_in_every_denominator(tmp_path):
    targets = [rock_salt("a"), one_atom("b"), caesium_chloride("c", elements=("Cs", "Cl"))]
    sample = [prediction(targets[0], "pa"), broken("pb"), with_nan("pc")]
    found = score(sample, targets, [0, 1, 2], tmp_path)
    assert found["match_rate"].value == found["match_rate_all"].value == pytest.approx(1 / 3)
    assert found["crmse"].value == pytest.approx((0 + 0.5 + 0.5) / 3, abs=SUMS)
    assert found["rms_dist"].n == 1


def test_best_of_several_counts(tmp_path):
    target = rock_salt("a")
    sample = [prediction(target, "p0", 0.06), prediction(target, "p1"), broken("p2")]
    found = score(sample, [target], [0, 0, 0], tmp_path)
    assert found["match_rate"].value == found["match_rate_best"].value == 1.0
    assert found["match_rate"].n == 1
    assert found["rms_dist"].value > 0.1  # the first prediction of the target
    assert found["rms_dist_best"].value == pytest.approx(0.0, abs=SUMS)
    assert found["valid"].n == 3
    single = score(sample[:1], [target], [0], tmp_path / "single")
    assert single["match_rate_best"].reason == "one prediction per target"


def test_polymorphs_in_the_wrong_order_are_found_by_metre_only(tmp_path):
    targets = [rock_salt("a"), caesium_chloride("b")]
    sample = [caesium_chloride("pa"), rock_salt("pb")]
    found = score(sample, targets, [0, 1], tmp_path)
    assert found["match_rate_all"].value == 0.0
    assert found["rms_dist_all"].reason == "no target is matched"
    assert found["metre"].value == 1.0
    assert found["crmse"].value == pytest.approx(0.0, abs=SUMS)


def test_wrong_composition_is_no_match_and_not_compared(tmp_path):
    found = compare([rock_salt("p", elements=("K", "Cl"))], [rock_salt("a")], [0], tmp_path)
    assert np.isnan(found.own).all()
    assert not list(tmp_path.iterdir())


def test_the_tolerances_are_those_of_the_recipe(tmp_path):
    tight = replace(SETTINGS.recipe.prediction, tolerances=Tolerances(ltol=0.3, stol=0.02, angle_tol=10.0))
    strict = replace(SETTINGS, recipe=replace(SETTINGS.recipe, prediction=tight))
    predictions = listed(Predictions, [prediction(rock_salt(), "p", shift=0.03)], [rock_salt("a")], [0], None, None)
    rates = [
        score_prediction(predictions, settings, work=tmp_path / name, key=name).metrics["match_rate_all"].value
        for name, settings in (("usual", SETTINGS), ("strict", strict))
    ]
    assert rates == [1.0, 0.0]


def test_needle_is_a_failure(tmp_path):
    needle = Crystal("p", "ok", np.diag([0.05, 0.05, 900.0]), np.zeros((1, 3)), np.array([29], dtype=np.uint8))
    found = compare([needle], [one_atom()], [0], tmp_path)
    assert found.failures == {0: "degenerate"}


def test_targets_are_named_by_the_predictions():
    test = [rock_salt("a"), one_atom("b"), caesium_chloride("c")]
    sample = [Crystal(f"p{i}", "failed", info={"target_id": name}) for i, name in enumerate("ccb")]
    assert assign_targets(sample, test, "file") == ([2, 1], [0, 0, 1])
    with pytest.raises(ValueError, match=r"file: row 0 .*'p' has target_id None|'p'.*None"):
        assign_targets([Crystal("p", "failed")], test, "file")


def test_nothing_asked_for(tmp_path):
    found = score([], [], [], tmp_path)
    assert {name for name, estimate in found.items() if estimate.value is not None} == set()
    assert all(estimate.reason for estimate in found.values())
