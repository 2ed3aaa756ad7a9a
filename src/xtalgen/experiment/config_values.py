"""Values of a configuration against its schema, each mistake in one line: key, value, what is allowed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]

from xtalgen.runtime.bounds import explain_number

BOUNDS = {"maximum": "at most", "minimum": "at least", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than"}


class ConfigValueError(ValueError):
    """A value of the configuration is not allowed; the message names its key, the value and what is allowed."""


def check_values(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raises ConfigValueError for the first value that the schema does not allow, or that is not a finite number."""
    for key, value in _leaves(config):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigValueError(f"{_name(key)}: {value} is not a finite number. {_remedy(key, schema)}")
    error = next(iter(sorted(Draft202012Validator(schema).iter_errors(config), key=_depth)), None)
    if error is not None:
        raise ConfigValueError(f"{_name(error.absolute_path)}: {_explain(error)}")


def check_settings(values: Any, where: str, name: str = "") -> None:
    """Raises ConfigValueError, naming the key below `where`, for a number beyond its bound (`runtime.bounds`).

    Settings of models are free in the schema, since each model has its own.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            check_settings(value, f"{where}.{key}", key)
    elif isinstance(values, list):
        for value in values:
            check_settings(value, where, name)
    elif reason := explain_number(name, _number(values)):
        raise ConfigValueError(f"{where} {reason}. Give a sensible number.")


def _number(value: Any) -> Any:
    """Returns a text that is a number as such: YAML reads 3e-4 and inf as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _leaves(values: Any, key: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for name, value in items:
        yield from _leaves(value, (*key, name))
    if not isinstance(values, Mapping | list):
        yield key, values


def _remedy(key: Sequence[str | int], schema: Any) -> str:
    for name in key:
        schema = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or {}
        if not isinstance(schema, Mapping):
            return "Give a number."
    return f"Give a number of at most {schema['maximum']:,}." if "maximum" in schema else "Give a number."


def _explain(error: ValidationError) -> str:
    value = f"{error.instance:,}" if isinstance(error.instance, int | float) else repr(error.instance)
    value = value if len(value) <= 80 else f"{value[:77]}…"
    kind, allowed = error.validator, error.validator_value
    if kind in BOUNDS:
        return f"{value} is not allowed. Give {BOUNDS[kind]} {allowed:,}."
    if kind == "type":
        return f"{value} is not {' or '.join([allowed] if isinstance(allowed, str) else allowed)}. Give such a value."
    if kind == "enum":
        return f"{value} is not allowed. Give one of {', '.join(map(str, allowed))}."
    if kind == "additionalProperties":
        unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
        known = ", ".join(error.schema.get("properties", {}))
        was = "was" if len(unknown) == 1 else "were"
        return f"{', '.join(map(repr, unknown))} {was} unexpected; the keys are {known}. Correct it or take it out."
    return f"{' '.join(error.message.split())}. docs/reference/config.md lists what is allowed."


def _depth(error: ValidationError) -> tuple[int, str]:
    return len(error.absolute_path), _name(error.absolute_path)


def _name(key: Any) -> str:
    return ".".join(map(str, key)) or "configuration"
