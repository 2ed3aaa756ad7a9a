"""The metrics of a set as text for a terminal and as rows of a table."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from xtalgen.commands.arguments import format_table
from xtalgen.metrics.registry import METRICS, for_task
from xtalgen.metrics.result_file import Evaluation
from xtalgen.report.score_table import ARROWS
from xtalgen.stages.evaluate import NO_DATA_SET

Rows = list[tuple[str, str, str, str]]
MANY = 20  # crystals; of more, the terminal does not list each


def report(evaluation: Evaluation) -> str:
    """Returns the metrics of a set for a terminal: value, 95 % interval and n of each, funnel, failures, recipe."""
    rows, absent = metric_rows(evaluation)
    reference = evaluation.dataset if evaluation.dataset != NO_DATA_SET else "no data set"
    compared = f"compared with {reference}, recipe {evaluation.recipe_name}"
    head = f"{evaluation.set}: {evaluation.n:,} crystals, {compared}"
    facts = ["funnel: " + " > ".join(f"{step} {count:,}" for step, count in evaluation.funnel)]
    facts += [f"failures: {', '.join(f'{name} {count:,}' for name, count in evaluation.failures.items())}"] * bool(
        evaluation.failures
    )
    facts += [f"not computed ({reason}): {', '.join(labels)}" for reason, labels in absent.items()]
    facts += [f"recipe: {evaluation.recipe['about']}"]
    followed = evaluation.recipe.get("not_followed")
    facts += [f"not followed: {followed}"] * bool(followed)
    facts += [f"data: {caveat}" for caveat in evaluation.data.get("caveats") or []]
    return "\n".join([head, "", format_table(rows), "", *facts, ""])


def metric_rows(evaluation: Evaluation) -> tuple[Rows, dict[str | None, list[str]]]:
    """Returns the head and a row for each metric with a value, and the labels of the others by their reason."""
    rows: Rows = [("", "value", "95 % interval", "n")]
    absent: dict[str | None, list[str]] = {}
    for metric in for_task(evaluation.task):
        found = evaluation.value(metric.name)
        if found.value is None:
            absent.setdefault(found.reason, []).append(METRICS[metric.name].label)
            continue
        scale, unit = (100.0, "%") if metric.percent else (1.0, metric.unit)
        label = f"{metric.label}{f' ({unit})' if unit else ''} {ARROWS[metric.better]}"
        bounds = (
            "" if found.low is None or found.high is None else f"{found.low * scale:.4g} to {found.high * scale:.4g}"
        )
        rows.append((label, f"{found.value * scale:.4g}", bounds, f"{found.n:,}"))
    return rows, absent


def crystal_lines(described: Sequence[dict[str, Any]]) -> str:
    """Returns what is known of each crystal of a small set; of a large one, the range of the densities."""
    densities = [row["density"] for row in described if row.get("density") is not None]
    if len(described) > MANY:
        middle = (
            f"median {median(densities):.3g}, {min(densities):.3g} to {max(densities):.3g}" if densities else "none"
        )
        return f"density (g/cm³): {middle}\n"
    shown = ("formula", "spg_num", "density", "min_distance", "valid", "unique", "novel", "e_above_hull")
    columns = [name for name in shown if any(name in row for row in described)]
    names = [str(row.get("source_name") or row["id"]) for row in described]
    rows = [[name, *(_cell(row.get(column)) for column in columns)] for name, row in zip(names, described, strict=True)]
    return format_table([["", *columns], *rows]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
