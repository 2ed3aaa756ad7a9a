"""The contract `metrics/1`: what the evaluate stage says about one set, read back for people."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtalgen.crystals import ContractError

CONTRACT = "metrics/1"


@dataclass(frozen=True)
class Value:
    """One metric of one set: rates are fractions; n crystals stand behind it; 95 % interval from low to high.

    value is None where the metric could not be computed; `reason` says why.
    """

    value: float | None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """One row of the tables: everything the metrics file of a set says.

    funnel: (step, count) in order; failures: count by class; cost: facts by name, None where unknown; outcomes:
    what paired tests need.
    """

    set: str
    task: str
    n: int
    dataset: str
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    funnel: tuple[tuple[str, int], ...]
    failures: Mapping[str, int]
    metrics: Mapping[str, Value]
    cost: Mapping[str, Any]
    outcomes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipe_name(self) -> str:
        """The name of the recipe, with what was changed of it; empty where the file names none."""
        return str(self.recipe.get("name", ""))

    @property
    def run(self) -> str:
        """The name of the row inside a table of one task."""
        return self.set.split("/")[0]

    def value(self, metric: str) -> Value:
        """Returns a metric's value; one that is missing has a reason instead."""
        return self.metrics.get(metric, Value(None, reason="not computed for this set"))


def read_evaluations(paths: Iterable[Path]) -> list[Evaluation]:
    """Returns the evaluations in the order given.

    Raises ContractError, naming file and remedy, when there are none, one is no metrics file, or a set comes twice.
    """
    found: dict[str, Path] = {}
    evaluations = []
    for path in paths:
        evaluation = read_evaluation(path)
        if evaluation.set in found:
            raise ContractError(f"{path}: set {evaluation.set!r} stands in {found[evaluation.set]} too. Give it once.")
        found[evaluation.set] = path
        evaluations.append(evaluation)
    if not evaluations:
        raise ContractError("There are no evaluations. Give at least one file results/evaluate/SET.json.")
    return evaluations


def read_evaluation(path: Path) -> Evaluation:
    """Returns the evaluation of a metrics file. Raises ContractError, naming file and remedy, when it is none."""
    try:
        content = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractError(f"{path}: not readable JSON ({error}). Delete it and rerun the evaluate stage.") from error
    contract = content.get("contract") if isinstance(content, dict) else None
    if contract != CONTRACT:
        raise ContractError(f"{path}: contract is {contract!r}, expected {CONTRACT!r}. Rerun the evaluate stage.")
    try:
        return Evaluation(
            set=content["set"],
            task=content["task"],
            n=int(content["n"]),
            dataset=content["data"]["dataset"],
            recipe=content.get("recipe") or {},
            data=content["data"],
            funnel=tuple((entry["step"], int(entry["count"])) for entry in content.get("funnel") or []),
            failures=content.get("failures") or {},
            metrics={name: _value(entry) for name, entry in content["metrics"].items()},
            cost=content.get("cost") or {},
            outcomes=content.get("outcomes") or {},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContractError(
            f"{path}: breaks the contract {CONTRACT} ({type(error).__name__}: {error}). Rerun the evaluate stage."
        ) from error


def flatten(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Returns the entries of a nested recipe by dotted name, each as text."""
    flat: dict[str, str] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


def _value(entry: Mapping[str, Any]) -> Value:
    value, low, high = (_finite(entry.get(key)) for key in ("value", "low", "high"))
    reason = entry.get("reason") or (None if value is not None else "no value")
    return Value(value, entry.get("n"), low, high, reason)


def _finite(number: Any) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)
