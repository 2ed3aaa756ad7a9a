"""Sets that are wrong all over: no hang, no crash, defined values, under every recipe."""

from dataclasses import replace

import numpy as np
import pytest

from crystal_cases import broken, caesium_chloride, listed, one_atom, rock_salt, with_nan
from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import N_OPS, Fingerprints
from xtalgen.metrics.coverage import Cutoffs
from xtalgen.metrics.protocols import RECIPES
from xtalgen.metrics.registry import for_task
from xtalgen.metrics.tasks.csp import Predictions, score_prediction
from xtalgen.metrics.tasks.dng import score_generation
from xtalgen.metrics.types import Inputs, MetricConfig

MANY = 10_000
REASONS = {"p1", "n_space_groups", "tvd_space_group", "wdist_density", "wdist_num_elems"}


def cell(identifier, lengths, numbers, places=None):
    coordinates = np.zeros((len(numbers), 3)) if places is None else np.array(places, dtype=float)
    return Crystal(identifier, "ok", np.diag(np.array(lengths, dtype=float)), coordinates, np.array(numbers, np.uint8))


HOSTILE = [
    broken("unparsable"),
    with_nan("nan"),
    replace(rock_salt("nan-positions"), frac_coords=np.full((2, 3), np.nan)),
    cell("flat", (5, 5, 0), [11]),
    cell("tiny", (0.3, 0.3, 0.3), [11]),
    cell("needle", (0.4, 0.4, 900), [11, 17], [[0, 0, 0], [0, 0, 0.5]]),
    cell("vast", (1e6, 1e6, 1e6), [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    cell("overlapping", (5, 5, 5), [11, 17, 17]),
    cell("nothing", (4, 4, 4), [0]),
    cell("heaviest", (4, 4, 4), [118]),
    cell("beyond", (4, 4, 4), [119]),
    cell("crowded", (3, 3, 3), [6] * 60, np.random.default_rng(0).random((60, 3))),
]


def score(sample, recipe="xtalgen", *, relaxed=None, hull=None, with_prints=False):
    test = [rock_salt("t"), one_atom("u")]
    prints = Fingerprints(
        ["error"] * len(sample), np.full((len(sample), N_OPS), np.nan), np.full((len(sample), 132), np.nan)
    )
    references = Fingerprints(["ok"] * 2, np.zeros((2, N_OPS)), np.ones((2, 132)))
    inputs = listed(
        Inputs,
        sample=sample, relaxed=relaxed, hull=hull, train=[one_atom()], test=test, known=[one_atom()],
        fingerprints=prints if with_prints else None, references=references if with_prints else None, limits=Cutoffs(),
    )  # fmt: skip
    return score_generation(inputs, MetricConfig(RECIPES[recipe], match_timeout=20.0, resamples=20))


def check(scores, n):
    assert set(scores.metrics) == {metric.name for metric in for_task("dng")}
    for name, found in scores.metrics.items():
        assert (found.value is None) == (found.reason is not None), name
        assert found.value is None or np.isfinite(found.value), name
    for name, (_, values) in scores.columns.items():
        assert len(values) == n, name
    assert all(later <= earlier for (_, earlier), (_, later) in zip(scores.funnel, scores.funnel[1:], strict=False))


@pytest.mark.parametrize("recipe", RECIPES)
def test_hostile_crystals(recipe):
    scores = score(HOSTILE, recipe, with_prints=True)
    check(scores, len(HOSTILE))
    valid = dict(zip([crystal.id for crystal in HOSTILE], scores.columns["struct_valid"][1], strict=True))
    assert not any(
        valid[name] for name in ("unparsable", "nan", "nan-positions", "flat", "tiny", "overlapping", "nothing")
    )
    assert valid["vast"]
    assert scores.metrics["cov_recall"].value == 0.0


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "sample", [[], [broken("a"), broken("b", "too_close"), with_nan("c")]], ids=["empty", "failed"]
)
def test_nothing_to_score(sample, recipe):
    scores = score(sample, recipe, relaxed=sample, hull=[], with_prints=True)
    check(scores, len(sample))
    for name, found in scores.metrics.items():
        # CDVAE's scripts judge the composition of a crystal without cell; FlowMM's count its one stand-in atom.
        if name not in ("comp_valid", "wdist_num_elems"):
            assert not found.value, name
    assert all(scores.metrics[name].reason for name in REASONS - {"wdist_num_elems"})


@pytest.mark.long
def test_ten_thousand_times_the_same_crystal():
    sample = [replace(rock_salt(), id=f"x{i}") for i in range(2)]
    few = score(sample).metrics
    assert few["unique"].value == 0.5
    prints = {
        name: found.value for name, found in few.items() if name not in ("unique", "unique_sampled", "unique_novel")
    }
    many = score([replace(sample[0], id=f"x{i}") for i in range(MANY)]).metrics
    assert {name: many[name].value for name in prints} == prints
    assert many["unique"].value == many["unique_sampled"].value == 1 / MANY


@pytest.mark.parametrize("recipe", RECIPES)
def test_hostile_predictions(recipe, tmp_path, monkeypatch):
    import xtalgen.metrics.tasks.csp as module
    from xtalgen.runtime.resume import map_resumably

    in_process = lambda *args, **options: map_resumably(*args, **(options | {"timeout": None}))  # noqa: E731
    monkeypatch.setattr(module, "map_resumably", in_process)
    targets = [rock_salt("t"), caesium_chloride("u"), one_atom("v")]
    own = [place % 3 for place in range(len(HOSTILE))]
    settings = MetricConfig(RECIPES[recipe], resamples=20)
    scores = score_prediction(listed(Predictions, HOSTILE, targets, own, None, None), settings, work=tmp_path, key="k")
    assert set(scores.metrics) == {metric.name for metric in for_task("csp")}
    assert scores.metrics["match_rate"].n == 3
    assert scores.metrics["match_rate_best_all"].value == scores.metrics["metre"].value == 0.0
    assert scores.metrics["crmse"].value == 0.5
    assert scores.metrics["rms_dist"].reason == "no target is matched"
    nothing = score_prediction(listed(Predictions, [], [], [], None, None), settings, work=tmp_path / "none", key="k")
    assert set(nothing.metrics) == set(scores.metrics)
    assert all(found.reason for found in nothing.metrics.values())
