"""Stage `sweep`: compares sampling settings by the match rate on the validation split.

The test split is not used for tuning.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation, read_evaluation
from xtalgen.metrics.statistics.intervals import Estimate
from xtalgen.report.score_table import NONE, align
from xtalgen.report.style import BLUE, GREY, ORANGE, STYLE
from xtalgen.runtime.atomic import write_bytes

SHOWN = ("match_rate", "match_rate_all", "rms_dist", "rms_dist_all")
BEST = "match_rate_all"


@dataclass(frozen=True)
class Point:
    """Sampling settings and the metrics of their predictions."""

    settings: Mapping[str, Any]
    evaluation: Evaluation


def sweep(points: Sequence[tuple[str, Path]], *, run: str, out: Path) -> None:
    """Writes the page `out` (.md), and the same numbers (.csv) and a figure (.svg) beside it.

    points: settings as JSON and the metrics file of their predictions, in order. Raises ValueError when there are no
    points or settings are not a JSON object, ContractError when a file is not a metrics file.
    """
    read = [Point(_settings(text), read_evaluation(path)) for text, path in points]
    if not read:
        raise ValueError("there are no settings to compare: list some under `sweep`.")
    write_bytes(out, markdown(run, read).encode())
    write_bytes(out.with_suffix(".csv"), _csv(read).encode())
    write_bytes(out.with_suffix(".svg"), _draw(run, read))


def markdown(run: str, points: Sequence[Point]) -> str:
    """Returns the page in Markdown: one row per point, the best in bold, and the others within its interval."""
    first = points[0].evaluation
    best = best_point(points)
    rows = [
        [
            _named(point.settings),
            *(_cell(point.evaluation.value(name), name, bold=i == best and name == BEST) for name in SHOWN),
        ]
        for i, point in enumerate(points)
    ]
    head = ["Settings", *(f"{METRICS[name].label}{' (%)' if METRICS[name].percent else ''}" for name in SHOWN)]
    about = (
        f"Crystal structure prediction for {first.n:,} validation crystals of `{first.dataset}`, one prediction each; "
        "95 % intervals. The test split was not used."
    )
    lines = [
        f"# Settings of `{run}` on the validation split",
        "",
        about,
        "",
        *(f"> **Data.** {caveat}\n" for caveat in first.data.get("caveats") or []),
        *align([head, *rows]),
        "",
    ]
    if best is None:
        return "\n".join([*lines, "No prediction matched, so there is no best setting.", ""])
    near = _within(points, best)
    others = f"{len(near)} other{'s' if len(near) > 1 else ''}" if near else "no other"
    lines.append(f"Best {METRICS[BEST].label.lower()}: {_named(points[best].settings)}; {others} within its interval.")
    chosen = json.dumps({"csp": dict(points[best].settings)})
    return "\n".join([*lines, f"To use it: `sample: {chosen}` under `runs.{run}`.", ""])


def best_point(points: Sequence[Point]) -> int | None:
    """Returns the index of the (first) highest unfiltered match rate; None when nothing matched."""
    rates = [point.evaluation.value(BEST).value or 0.0 for point in points]
    return int(np.argmax(rates)) if max(rates) > 0 else None


def _within(points: Sequence[Point], best: int) -> list[int]:
    low = points[best].evaluation.value(BEST).low or 0.0
    rates = [point.evaluation.value(BEST).value or 0.0 for point in points]
    return [i for i, value in enumerate(rates) if i != best and value >= low]


def _settings(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if type(values) is not dict:
        raise ValueError(f'{text}: settings are a JSON object such as {{"slope": 5}}.')
    return values


def _named(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _cell(value: Estimate, name: str, *, bold: bool) -> str:
    if value.value is None:
        return f"{NONE} ({value.reason})"
    scale, digits = (100, 1) if METRICS[name].percent else (1, 3)
    low, high = (scale * (bound if bound is not None else value.value) for bound in (value.low, value.high))
    text = f"{scale * value.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"**{text}**" if bold else text


def _csv(points: Sequence[Point]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["settings", "metric", "value", "n", "low", "high"])
    for point in points:
        for name in SHOWN:
            found = point.evaluation.value(name)
            row = [found.value, found.n, found.low, found.high]
            writer.writerow([json.dumps(dict(point.settings), sort_keys=True), name, *row])
    return text.getvalue()


def _draw(run: str, points: Sequence[Point]) -> bytes:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.6 + 0.8 * max(len(points), 4), 4), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for name, colour in ((BEST, BLUE), ("match_rate", ORANGE)):
            found = [point.evaluation.value(name) for point in points]
            values = 100 * np.array([value.value or 0.0 for value in found])
            low, high = (100 * np.array([getattr(value, end) or 0.0 for value in found]) for end in ("low", "high"))
            axes.errorbar(
                range(len(points)),
                values,
                yerr=[values - low, np.maximum(high - values, 0)],
                fmt="o-",
                color=colour,
                capsize=3,
                label=METRICS[name].label,
            )
        axes.set_xticks(
            range(len(points)), [_named(point.settings).replace(", ", "\n") for point in points], fontsize=9
        )
        axes.set(ylabel="% of validation crystals", ylim=(0, None))
        axes.set_title(f"{run}, n = {points[0].evaluation.n:,}", loc="left", fontsize=11, color=GREY)
        axes.legend()
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        return stream.getvalue()
