"""All numbers of the tables in long format, one per line."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation
from xtalgen.report.published import Published

CSV_COLUMNS = (
    "origin", "set", "task", "dataset", "kind", "name", "unit", "value", "n", "low", "high", "reason", "recipe",
    "recipe_name",
)  # fmt: skip


def long_csv(rows: Sequence[Evaluation], others: Sequence[Published] = ()) -> str:
    """Returns one line per number: metrics (rates as fractions), funnel, failures, cost; `recipe` is a hash."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        origin = "released" if row.released else "run here"
        common = {"origin": origin, "set": row.set, "task": row.task, "dataset": row.dataset}
        common |= {"recipe": recipe_hash(row.recipe), "recipe_name": row.recipe_name}
        for name, found in row.metrics.items():
            unit = METRICS[name].unit if name in METRICS else ""
            entry = {"value": found.value, "n": found.n, "low": found.low, "high": found.high, "reason": found.reason}
            writer.writerow({**common, "kind": "metric", "name": name, "unit": unit, **entry})
        facts = [("funnel", step, count) for step, count in row.funnel]
        facts += [("failure", name, count) for name, count in row.failures.items()]
        facts += [("cost", name, value) for name, value in row.cost.items()]
        writer.writerows({**common, "kind": kind, "name": name, "value": value} for kind, name, value in facts)
    for other in others:
        common = {"origin": "published", "set": other.name, "task": other.task, "dataset": other.dataset}
        common["reason"] = other.source
        for name in other.metrics:
            entry = {"kind": "metric", "name": name, "unit": METRICS[name].unit, "value": other.value(name)}
            writer.writerow({**common, **entry})
        writer.writerows({**common, "kind": "cost", "name": name, "value": value} for name, value in other.cost.items())
    return text.getvalue()


def recipe_hash(recipe: Mapping[str, Any]) -> str:
    """Returns 12 digits that are equal for equal recipes."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
