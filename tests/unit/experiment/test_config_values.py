"""Every number of the configuration has bounds, and each mistake is told in one line."""

from pathlib import Path

import pytest
import yaml

from xtalgen.experiment.config_values import ConfigValueError, check_settings, check_values
from xtalgen.experiment.plan import Plan

ROOT = Path(__file__).parents[3]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8"))
NUMBERS = {"integer", "number"}
TINY = {"datasets": {"aflow_20": {}}}


def numeric(schema, key=()):
    """Yields key and schema of every number below a schema; free names are called `any`."""
    kinds = schema.get("type", [])
    if NUMBERS & set([kinds] if isinstance(kinds, str) else kinds):
        yield key, schema
    inner = dict(schema.get("properties", {}))
    for name in ("additionalProperties", "items"):
        if isinstance(schema.get(name), dict):
            inner["any"] = schema[name]
    for name, below in inner.items():
        yield from numeric(below, (*key, name))


EVERY = list(numeric(SCHEMA))


def configured(key, value):
    """Returns a configuration with one value set."""
    config = {"datasets": {"aflow_20": {}}}
    if key[0] == "runs":
        config["runs"] = {"any": {"model": "flowmm", "dataset": "aflow_20"}}
    place = config
    for name in key[:-1]:
        place = place.setdefault(name, {})
    place[key[-1]] = value
    return config


@pytest.mark.parametrize(("key", "schema"), EVERY, ids=[".".join(key) for key, _ in EVERY])
def test_numbers_have_bounds(key, schema):
    assert "maximum" in schema, "give it an upper bound"
    assert "minimum" in schema or "exclusiveMinimum" in schema, "give it a lower bound"
    check_values(configured(key, schema["maximum"]), SCHEMA)
    name = ".".join(key)
    for value in (schema["maximum"] * 2, 10**30):
        with pytest.raises(ConfigValueError) as caught:
            check_values(configured(key, value), SCHEMA)
        assert str(caught.value) == f"{name}: {value:,} is not allowed. Give at most {schema['maximum']:,}."
    with pytest.raises(ConfigValueError, match=rf"^{name}: -1e\+30 is not allowed\. Give (at least|more than) "):
        check_values(configured(key, -1e30), SCHEMA)
    for value in (float("inf"), float("nan"), float("-inf")):
        with pytest.raises(ConfigValueError) as caught:
            check_values(configured(key, value), SCHEMA)
        assert str(caught.value).startswith(f"{name}: {value} is not a finite number.")
        assert f"{schema['maximum']:,}" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("seed",), "x", "seed: 'x' is not integer."),
        (("device",), "gpu", "device: 'gpu' is not allowed. Give one of auto, cpu, cuda."),
        (("sede",), 1, "configuration: 'sede' was unexpected; the keys are seed, device"),
        (("relax", "fmx"), 1, "relax: 'fmx' was unexpected; the keys are potential"),
        (("relax", "fmax"), 0, "relax.fmax: 0 is not allowed. Give more than 0."),
    ],
)
def test_mistakes_are_told_in_one_line(key, value, said):
    with pytest.raises(ConfigValueError) as caught:
        check_values(configured(key, value), SCHEMA)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "settings", "said"),
    [
        ("train", {"hidden": 10**12}, r"runs\.any\.train\.hidden is 1,000,000,000,000, beyond the bound of 65,536"),
        ("train", {"epochs": float("inf")}, r"runs\.any\.train\.epochs is inf, not a finite number; at most 1,000,000"),
        ("train", {"epochs": ".inf"}, None),  # a text, which the model refuses
        ("train", {"csp": {"batch_size": 1e9}}, r"runs\.any\.train\.csp\.batch_size is 1,000,000,000\.0, beyond"),
        ("sample", {"steps": "nan"}, r"runs\.any\.sample\.steps is nan, not a finite number"),
        ("sweep", {"slope": [1, 1e99]}, r"runs\.any\.sweep\.slope is 1e\+99, beyond the bound of 1,000,000"),
    ],
)
def test_settings_of_models(stage, settings, said):
    run = {"model": "flowmm", "dataset": "aflow_20", "tasks": ["csp"], stage: settings}
    config = {**TINY, "runs": {"any": run}, "evaluate": {}, "tables": {"sets": []}}
    if said is None:
        Plan(config)
        return
    with pytest.raises(ConfigValueError, match=said):
        Plan(config)


def test_settings_of_the_distilled_potential():
    with pytest.raises(ConfigValueError, match=r"distil\.train\.epochs is 10,000,000, beyond the bound of 1,000,000"):
        check_settings({"epochs": 10**7}, "distil.train")
