"""Choices of recipes: a misspelt one is refused with the list."""

import pytest

from xtalgen.metrics.choices import Geometry, MatchFilter, Split
from xtalgen.metrics.coverage import CoverageRules
from xtalgen.metrics.novelty import LikenessRules
from xtalgen.metrics.protocols import PredictionRules
from xtalgen.metrics.stability import StabilityRules
from xtalgen.metrics.validity import ValidityRules


def made(rules, **given):
    """Returns rules of texts, past the type checks that are switched on in tests only."""
    found = rules()
    for name, value in given.items():
        object.__setattr__(found, name, value)
    found.__post_init__()
    return found


@pytest.mark.parametrize(
    ("rules", "given", "listed"),
    [
        (PredictionRules, {"first": "valid"}, "'prediction and target valid', 'prediction valid', 'no filter'"),
        (ValidityRules, {"rates_of": "asked"}, "'asked for', 'parsed', 'with a fingerprint'"),
        (ValidityRules, {"oxidation_states": "smact"}, "'smact_2_2_1', 'smact_2_5', 'smact14', 'icsd24'"),
        (CoverageRules, {"standardised_by": "train"}, "'training split', 'constants of CDVAE'"),
        (LikenessRules, {"known": ("train", "valid")}, "'train', 'val', 'test'"),
        (StabilityRules, {"unique_among": "all"}, "'all crystals', 'the crystals of the same stability class'"),
    ],
)
def test_misspelt_choices_are_refused(rules, given, listed):
    with pytest.raises(ValueError, match=f"choose from {listed}"):
        made(rules, **given)


def test_texts_become_choices():
    assert made(PredictionRules, first="no filter").first is MatchFilter.NEITHER
    assert made(LikenessRules, geometry="as sampled", known=("val",)) == LikenessRules(
        geometry=Geometry.SAMPLED, known=(Split.VAL,)
    )
