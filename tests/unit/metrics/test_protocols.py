"""For every choice that recipes make differently: a set of crystals on which they disagree."""

from dataclasses import fields, replace

import numpy as np
import pytest

from crystal_cases import broken, caesium_chloride, listed, one_atom, rock_salt, with_nan
from xtalgen.crystals import Crystal
from xtalgen.featurizers.fingerprints import N_OPS, Fingerprints
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.metrics.coverage import Cutoffs
from xtalgen.metrics.protocols import RECIPES, choose_recipe, describe_recipes
from xtalgen.metrics.tasks.csp import Predictions, score_prediction
from xtalgen.metrics.tasks.dng import score_generation
from xtalgen.metrics.types import Inputs, MetricConfig
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.lattice import lattice_from_parameters

CASES = {}
GROUPS = ("validity", "coverage", "distributions", "prediction", "likeness", "stability")


def differs(choice):
    def register(test):
        CASES[choice] = test
        return test

    return register


def made(numbers, lengths=(4.0, 4.0, 4.0), angles=(90.0, 90.0, 90.0), identifier="x"):
    """Returns atoms spread along the diagonal of a cell."""
    lattice = lattice_from_parameters(np.array(lengths), np.array(angles))
    places = np.repeat(np.arange(len(numbers))[:, None] / len(numbers), 3, axis=1)
    return Crystal(identifier, "ok", lattice, places, np.array(numbers, dtype=np.uint8))


def score(name, sample, *, train=(), test=(), known=None, relaxed=None, hull=None, prints=None, references=None):
    recipe = RECIPES[name]
    splits = {"train": list(train), "val": [], "test": list(test)}
    inputs = listed(
        Inputs,
        sample=list(sample),
        relaxed=relaxed,
        hull=hull,
        train=list(train),
        test=list(test),
        known=[crystal for split in recipe.likeness.known for crystal in splits[split]],
        fingerprints=prints,
        references=references,
        limits=Cutoffs(),
    )
    return score_generation(inputs, MetricConfig(recipe, resamples=20))


def value(name, metric, sample, **options):
    return score(name, sample, **options).metrics[metric].value


def relaxation(crystals, energies, initial=None):
    """Returns rows as the relax stage writes them; energies in eV/atom."""
    return [
        replace(
            crystal,
            info={
                "energy": energy * crystal.n_atoms,
                "e_initial": (energy if initial is None else initial[place]) * crystal.n_atoms,
                "converged": True,
            },
        )
        for place, (crystal, energy) in enumerate(zip(crystals, energies, strict=True))
    ]


def prints(crystals, structure=None, failed=()):
    """Returns fingerprints: the structure's all equal unless given, the composition's real."""
    status = ["error" if row in failed else "ok" for row in range(len(crystals))]
    values = np.zeros((len(crystals), N_OPS)) if structure is None else structure
    return Fingerprints(status, values, magpie_features([reduced_counts(each.atomic_numbers) for each in crystals]))


@differs("validity.oxidation_states")
def test_table_of_oxidation_states():
    promethium = made([61, 17, 17, 17], (6.0, 6.0, 6.0))
    found = {name: value(name, "comp_valid", [promethium]) for name in RECIPES}
    assert {name for name, each in found.items() if not each} == {"mattergen", "lemat"}


@differs("validity.max_combinations")
def test_too_many_combinations():
    many = made([*range(22, 30), *range(40, 46), 8, 16], (12.0, 12.0, 12.0))
    assert value("cdvae", "comp_valid", [many]) == 1.0
    assert value("flowmm", "comp_valid", [many]) == value("xtalgen", "comp_valid", [many]) == 0.0


@differs("validity.angles")
def test_angles_that_flowmm_takes_for_no_crystal():
    sharp = made([11, 17], angles=(49.0, 90.0, 90.0))
    for metric in ("struct_valid", "comp_valid"):
        assert value("flowmm", metric, [sharp]) == 0.0
        assert value("cdvae", metric, [sharp]) == 1.0


@differs("validity.max_number")
def test_heavy_elements():
    heavy = made([110])
    assert value("cdvae", "struct_valid", [heavy]) == 1.0
    assert value("flowmm", "struct_valid", [heavy]) == 0.0


@differs("validity.composition_needs_geometry")
def test_composition_of_a_crystal_without_cell():
    assert value("cdvae", "comp_valid", [with_nan()]) == 1.0
    assert value("xtalgen", "comp_valid", [with_nan()]) == 0.0


@differs("validity.needs_fingerprint")
def test_failed_fingerprint():
    salt = [rock_salt("a"), rock_salt("b")]
    found = {name: value(name, "valid", salt, prints=prints(salt, failed=[1])) for name in RECIPES}
    assert found["xtalgen"] == found["cdvae"] == 0.5
    assert found["mattergen"] == found["lemat"] == 1.0


@differs("validity.rates_of")
def test_rates_over_what_could_be_parsed():
    sample = [rock_salt("a"), broken("b"), broken("c")]
    assert value("crystal_text_llm", "struct_valid", sample) == 1.0
    assert value("xtalgen", "struct_valid", sample) == pytest.approx(1 / 3)


def coverage(name, sample, test, failed=(), structure=None):
    options = {"prints": prints(sample, structure, failed), "references": prints(test)}
    return score(name, sample, train=[one_atom(), rock_salt()], test=test, **options).metrics


@differs("coverage.standardised_by")
def test_scale_of_composition_features():
    # Where all that is known is rare earths, titanium is far from them; by CDVAE's constants it is near.
    kind = [one_atom(f"t{number}", number=number) for number in (57, 58, 59, 60)]
    sample, test = [one_atom("s", number=22)], [one_atom("r", number=57)]
    options = {"train": kind, "test": test, "prints": prints(sample), "references": prints(test)}
    found = {name: value(name, "cov_recall", sample, **options) for name in ("xtalgen", "cdvae", "flowmm")}
    assert found == {"xtalgen": 0.0, "cdvae": 1.0, "flowmm": 1.0}


@differs("coverage.precision_of")
def test_precision_of_survivors():
    sample = [rock_salt("a"), rock_salt("b")]
    assert coverage("crystal_text_llm", sample, [rock_salt("t")], failed=[1])["cov_precision"].value == 1.0
    assert coverage("cdvae", sample, [rock_salt("t")], failed=[1])["cov_precision"].value == 0.5


@differs("coverage.only_valid")
def test_coverage_by_valid_crystals_only():
    invalid = made([11, 11, 17], (5.0, 5.0, 5.0))  # Na2Cl
    assert coverage("cdvae", [invalid], [rock_salt("t")])["cov_recall"].value == 1.0
    found = coverage("crystal_text_llm", [invalid], [rock_salt("t")])
    assert found["cov_recall"].value == 0.0
    assert found["cov_precision"].reason == "no crystal has a fingerprint"


@differs("distributions.fewer")
def test_fewer_valid_crystals_than_the_draw():
    found = score("cdvae", [rock_salt()], test=[rock_salt()]).metrics["wdist_density"]
    assert found.value is None
    assert found.reason == "1 valid crystals; this recipe takes 1,000"
    assert value("xtalgen", "wdist_density", [rock_salt()], test=[rock_salt()]) == 0.0


@differs("distributions.elements_of_all")
def test_number_of_elements_of_invalid_crystals():
    sample = [rock_salt("a"), made([11, 11, 17, 8]), made([11, 17], angles=(40.0, 90.0, 90.0))]
    found = score("flowmm", sample, test=[rock_salt()]).metrics["wdist_num_elems"]
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)  # 2, 3 and, outside the angles, 1 against 2
    assert value("xtalgen", "wdist_num_elems", sample[:1], test=[rock_salt()]) == 0.0


def predict(name, predictions, work, monkeypatch):
    import xtalgen.metrics.tasks.csp as module
    from xtalgen.runtime.resume import map_resumably

    in_process = lambda *args, **options: map_resumably(*args, **(options | {"timeout": None}))  # noqa: E731
    monkeypatch.setattr(module, "map_resumably", in_process)
    settings = MetricConfig(RECIPES[name], resamples=20)
    return score_prediction(predictions, settings, work=work / name, key="k").metrics


@differs("prediction.first")
@differs("prediction.best")
def test_filter_of_the_match_rate(tmp_path, monkeypatch):
    # The prediction is a little off and valid; the target has two atoms too close.
    target = made([6, 6], (3.0, 3.0, 3.0))
    target = replace(target, frac_coords=np.array([[0.0, 0, 0], [0.16, 0, 0]]))
    close = replace(target, id="p", frac_coords=np.array([[0.0, 0, 0], [0.2, 0, 0]]))
    predictions = listed(Predictions, [close, replace(close, id="q")], [target], [0, 0], None, None)
    found = {name: predict(name, predictions, tmp_path, monkeypatch) for name in ("xtalgen", "cdvae", "flowmm")}
    assert {name: each["match_rate"].value for name, each in found.items()} == {
        "xtalgen": 0.0, "cdvae": 1.0, "flowmm": 0.0
    }  # fmt: skip
    assert {name: each["match_rate_best"].value for name, each in found.items()} == {
        "xtalgen": 0.0, "cdvae": 1.0, "flowmm": 1.0
    }  # fmt: skip
    assert all(each["match_rate_all"].value == each["match_rate_best_all"].value == 1.0 for each in found.values())


@differs("likeness.tolerances")
def test_tolerance_of_lengths():
    # Two tetragonal cells whose c/a differ by 15 %.
    cells = [made([11, 17], (4.0, 4.0, length), identifier=f"c{length}") for length in (4.0, 4.75)]
    assert value("lemat", "unique", cells) == 1.0
    assert value("xtalgen", "unique", cells) == 0.5


@differs("likeness.geometry")
def test_geometry_that_is_compared():
    sample = [rock_salt("a"), caesium_chloride("b")]
    relaxed = relaxation([sample[0], replace(sample[0], id="b")], [-3.0, -3.0])
    assert value("lemat", "unique", sample, relaxed=relaxed) == 1.0
    assert value("xtalgen", "unique", sample, relaxed=relaxed) == 0.5
    assert value("xtalgen", "unique_sampled", sample, relaxed=relaxed) == 1.0


@differs("likeness.known")
def test_splits_that_are_known():
    options = {"train": [one_atom()], "test": [rock_salt("t")]}
    found = {name: value(name, "novel", [rock_salt()], **options) for name in RECIPES}
    assert {name for name, each in found.items() if not each} == {"mattergen", "lemat"}


HULL = [one_atom("cu"), one_atom("na", 3.7, 11), one_atom("cl", 4.0, 17)]


def stability(name, sample, energies, initial=None):
    """Returns the metrics where every energy is relative to a hull at 0."""
    return score(
        name, sample, relaxed=relaxation(sample, energies, initial), hull=relaxation(HULL, [0.0, 0.0, 0.0])
    ).metrics


@differs("stability.stable_below")
def test_threshold_of_stable():
    found = {name: stability(name, [rock_salt()], [0.05])["stable"].value for name in RECIPES}
    assert {name for name, each in found.items() if each} == {"mattergen"}


def test_what_relaxation_leaves_undecided_counts_as_on_the_hull():
    assert stability("xtalgen", [rock_salt()], [0.99e-4])["stable"].value == 1.0
    assert stability("xtalgen", [rock_salt()], [1.01e-4])["stable"].value == 0.0
    assert stability("xtalgen", [rock_salt()], [0.1 + 0.99e-4])["metastable"].value == 1.0


@differs("stability.disjoint")
def test_metastable_without_stable():
    sample = [rock_salt("a"), caesium_chloride("b")]
    found = {name: stability(name, sample, [-0.1, 0.05]) for name in RECIPES}
    assert found["xtalgen"]["metastable"].value == found["xtalgen"]["msun"].value == 1.0
    assert found["lemat"]["metastable"].value == found["lemat"]["msun"].value == 0.5
    assert found["lemat"]["stable"].value == found["lemat"]["sun"].value == 0.5


@differs("stability.energies")
def test_energy_before_relaxation():
    found = {name: stability(name, [rock_salt()], [-0.1], [0.3])["stable"].value for name in RECIPES}
    assert {name for name, each in found.items() if not each} == {"lemat"}


@differs("stability.unique_among")
def test_duplicate_of_an_unstable_crystal():
    sample = [rock_salt("a"), rock_salt("b")]
    found = {name: stability(name, sample, [0.5, -0.1])["sun"].value for name in RECIPES}
    assert {name for name, each in found.items() if each} == {"flowmm", "lemat"}
    assert found["flowmm"] == 0.5


@differs("stability.elements")
def test_pure_elements_in_sun():
    found = {name: stability(name, [one_atom()], [-0.1])["sun"].value for name in RECIPES}
    assert {name for name, each in found.items() if not each} == {"flowmm"}


@differs("only_valid")
def test_novelty_of_valid_crystals_only():
    sample = [rock_salt("a"), made([11, 11, 17], (5.0, 5.0, 5.0), identifier="b")]
    found = {name: stability(name, sample, [-0.1, -0.1]) for name in RECIPES}
    for metric in ("unique", "novel", "stable", "sun"):
        assert found["lemat"][metric].value == 0.5
        assert found["xtalgen"][metric].value == 1.0


def test_every_difference_has_a_case():
    def flat(recipe):
        nested = {f"{group}.{item.name}": getattr(getattr(recipe, group), item.name)
                  for group in GROUPS for item in fields(getattr(recipe, group))}  # fmt: skip
        return nested | {"only_valid": recipe.only_valid}

    found = [flat(recipe) for recipe in RECIPES.values()]
    differing = {choice for choice in found[0] if len({str(each[choice]) for each in found}) > 1}
    assert differing == set(CASES)


def test_recipe_is_told_with_its_choices():
    choices = RECIPES["flowmm"].describe("dng")
    assert choices["name"] == "flowmm"
    assert choices["validity"]["angles"] == (50.0, 130.0)
    assert choices["stable_below"] == 0.0
    assert "DFT" in choices["not_followed"]
    assert "prediction" not in choices
    assert RECIPES["flowmm"].describe("csp")["prediction"]["best"] == "prediction valid"


def test_thresholds_can_be_changed_and_show():
    assert choose_recipe("cdvae") is RECIPES["cdvae"]
    assert choose_recipe("cdvae", stable_below=0.0).label == "cdvae"
    changed = choose_recipe("cdvae", stable_below=0.025, metastable_below=0.2)
    assert changed.label == "cdvae with stable_below = 0.025, metastable_below = 0.2"
    assert changed.stability.stable_below == 0.025
    with pytest.raises(ValueError, match="no recipe 'cdva'; there are xtalgen, cdvae"):
        choose_recipe("cdva")


def test_page_and_schema_are_current(root):
    import yaml

    page = root / "docs" / "reference" / "recipes.md"
    assert page.read_text() == describe_recipes(), "docs/reference/recipes.md is stale: run `make docs`"
    schema = yaml.safe_load((root / "workflow" / "schemas" / "config.schema.yaml").read_text())
    assert schema["properties"]["evaluate"]["properties"]["recipe"]["enum"] == list(RECIPES)
