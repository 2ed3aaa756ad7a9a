"""Every number of every model's settings has an upper bound of its own."""

from dataclasses import fields
from typing import get_args, get_type_hints

import pytest

from xtalgen import models
from xtalgen.runtime.bounds import BOUNDS, LARGEST, explain_number
from xtalgen.stages.distil_training import Recipe, read_recipe


def numbers(kind):
    """Returns the fields of a settings dataclass that hold a number, with their types."""
    hints = get_type_hints(kind)
    parts = {field.name: (hints[field.name], *get_args(hints[field.name])) for field in fields(kind)}
    return {
        name: next(part for part in found if part in (int, float))
        for name, found in parts.items()
        if {int, float} & set(found)
    }


KINDS = [kind for name in models.names() for kind in (models.load(name).Config, models.load(name).Sampling)]
EVERY = [(kind, name) for kind in KINDS for name in numbers(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=[f"{kind.__name__}.{name}" for kind, name in EVERY])
def test_numbers_of_models(kind, name):
    assert name in BOUNDS, f"enter {name} in runtime/bounds.py"
    default = next(field.default for field in fields(kind) if field.name == name)
    assert default is None or abs(default) <= BOUNDS[name]
    number = numbers(kind)[name]
    wrong = [number(BOUNDS[name] * 2), number(-BOUNDS[name] * 2)]
    for value in wrong if number is int else [*wrong, float("inf"), float("nan")]:
        with pytest.raises(ValueError, match=rf"^settings: {name} is ") as caught:
            models.build(kind, {name: value}, "settings")
        assert f"{BOUNDS[name]:,.12g}" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", numbers(Recipe))
def test_numbers_of_the_distilled_potential(name):
    assert abs(getattr(Recipe(), name)) <= BOUNDS[name]
    with pytest.raises(ValueError, match=rf"distil\.train: {name} is .* bound of {BOUNDS[name]:,.12g}"):
        read_recipe({name: numbers(Recipe)[name](BOUNDS[name] * 2)})


def test_numbers_that_yaml_reads_as_text():
    with pytest.raises(ValueError, match="learning_rate is inf, not a finite number; at most 1,000"):
        models.build(models.load("flowmm").Config, {"learning_rate": "inf"}, "settings")


def test_a_number_that_is_not_listed():
    assert explain_number("new", LARGEST) is None
    assert "beyond the bound" in explain_number("new", 10**12)
    assert explain_number("new", "text") is None
    assert explain_number("new", True) is None
