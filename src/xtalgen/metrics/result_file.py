"""The contract `metrics/1`: the metrics of one set as JSON, its writer and its reader."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtalgen.crystals import ContractError
from xtalgen.metrics.statistics.intervals import Estimate
from xtalgen.runtime.atomic import write_text

CONTRACT = "metrics/1"
# Whether the splits are the published ones: all of them are, one is known not to be, or a source does not say.
PUBLISHED = ("yes", "no", "unknown")
# Where crystals come from, and what that says of them.
ORIGINS = {
    "trained here": "by a model that this experiment trained",
    "sampled here": "by a model that came trained",
    "released": "samples that the model's authors released, scored here",
    "own file": "structures from a file of yours",
}


@dataclass(frozen=True)
class Evaluation:
    """Everything that the metrics file of a set holds: one row of the tables.

    recipe: every choice behind the numbers; data: data set, caveats, sizes of the splits, `published`, one of
    `PUBLISHED`, and, of released samples, what is known of their release (`released`); funnel: (step, number of
    crystals left) in order; failures: count by class; cost: facts by name, None where unknown; outcomes: input of
    paired tests (see `comparisons.pack_outcomes`).
    """

    set: str
    task: str
    n: int
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    funnel: tuple[tuple[str, int], ...]
    failures: Mapping[str, int]
    metrics: Mapping[str, Estimate]
    cost: Mapping[str, Any]
    outcomes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The name of the data set that the crystals are compared with."""
        return str(self.data["dataset"])

    @property
    def has_other_splits(self) -> bool:
        """Whether a split is known to differ from the published one."""
        return self.data.get("published") == "no"

    @property
    def recipe_name(self) -> str:
        """The name of the recipe, with what was changed of it; empty where the file names none."""
        return str(self.recipe.get("name", ""))

    @property
    def run(self) -> str:
        """The name of the row inside a table of one task."""
        return self.set.split("/")[0]

    @property
    def released(self) -> Mapping[str, Any]:
        """What is known of the release of samples that a model's authors released; empty for other sets."""
        return self.data.get("released") or {}

    @property
    def origin(self) -> str:
        """Where the crystals come from, one of `ORIGINS`."""
        if self.released:
            return "released"
        if self.task == "own":
            return "own file"
        return "sampled here" if self.cost.get("train_seconds") is None else "trained here"

    @property
    def label(self) -> str:
        """The name of the row in a sentence, where a run and released samples may have one name."""
        return f"released {self.run}" if self.released else self.run

    def value(self, metric: str) -> Estimate:
        """Returns the estimate of a metric; without a value, but with a reason, where the file does not hold it."""
        return self.metrics.get(metric, Estimate(None, reason="not computed for this set"))


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Writes the metrics file of a set. Raises ValueError when a number is not finite or `published` is misspelt."""
    if evaluation.data.get("published") not in PUBLISHED:
        raise ValueError(f"published is {evaluation.data.get('published')!r}; choose from {', '.join(PUBLISHED)}")
    content = {
        "contract": CONTRACT,
        "set": evaluation.set,
        "task": evaluation.task,
        "n": evaluation.n,
        "recipe": evaluation.recipe,
        "data": evaluation.data,
        "funnel": [{"step": step, "count": count} for step, count in evaluation.funnel],
        "failures": dict(sorted(evaluation.failures.items())),
        "metrics": {name: estimate.as_json() for name, estimate in evaluation.metrics.items()},
        "cost": evaluation.cost,
        "outcomes": evaluation.outcomes,
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


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
        content = json.loads(path.read_text(encoding="utf-8"))
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
            recipe=content.get("recipe") or {},
            data={"dataset": content["data"]["dataset"], **content["data"]},
            funnel=tuple((entry["step"], int(entry["count"])) for entry in content.get("funnel") or []),
            failures=content.get("failures") or {},
            metrics={name: _estimate(entry) for name, entry in content["metrics"].items()},
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


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    value, low, high = (_finite(entry.get(key)) for key in ("value", "low", "high"))
    reason = entry.get("reason") or (None if value is not None else "no value")
    return Estimate(value, entry.get("n"), low, high, reason)


def _finite(number: Any) -> float | None:
    return None if number is None or not math.isfinite(number) else float(number)
