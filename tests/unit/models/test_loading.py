"""Loading a model by name, and building its settings."""

from dataclasses import dataclass
from typing import Literal

import pytest

from xtalgen import models


@dataclass(frozen=True)
class Settings:
    rate: float = 0.1
    steps: int = 3
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    limit: float | None = None


def test_build_reads_settings():
    assert models.build(Settings, {"rate": 1, "limit": None, "fast": True}, "here") == Settings(rate=1.0, fast=True)
    assert models.build(Settings, {"rate": "3e-4"}, "here").rate == 3e-4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 1}, "here: unknown key 'rat'; there are rate, steps, fast, kind, limit"),
        ({"steps": 1.5}, "here: steps is 1.5, a float; it must be int"),
        ({"steps": True}, "here: steps is True, a bool; it must be int"),
        ({"rate": "much"}, "here: rate is 'much', a str; it must be float"),
        ({"fast": 1}, "here: fast is 1, a int; it must be bool"),
        ({"kind": "c"}, "here: kind is 'c'; choose one of 'a', 'b'"),
        ({"limit": "x"}, "here: limit is 'x', a str; it must be float or NoneType"),
    ],
)
def test_build_refuses_wrong_settings_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        models.build(Settings, values, "here")


def test_unknown_model_is_named():
    with pytest.raises(ValueError, match=r"no model 'flomm'; there are .*flowmm"):
        models.load("flomm")
