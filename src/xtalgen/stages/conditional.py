"""Stage `conditional`: a figure of requested against obtained attributes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal, read_crystals
from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation, read_evaluation
from xtalgen.report.style import BLUE, GREY, ORANGE, STYLE
from xtalgen.runtime.atomic import write_bytes

EXACT = ("struct_valid", "comp_valid", "formula_matched", "n_atoms_matched", "spg_num_matched")
# Attributes drawn as scatter plots: column, label, limits of both axes (None: from the values).
NUMBERS = (
    ("spg_num", "space group number", (0.0, 231.0)),
    ("density", "density (g/cm³)", None),
    ("e_form_per_atom", "formation energy (eV/atom)", None),
    ("e_above_hull", "energy above hull (eV/atom)", None),
)


def draw_conditional(evaluated: Path, metrics: Path, *, out: Sequence[Path]) -> None:
    """Draws requested against obtained attributes to each `out` (.svg or .png); the same input gives the same bytes.

    evaluated, metrics: files of the stage `evaluate` for a set of the task "conditional". Raises ContractError when one
    of them is another file, ValueError for a set of another task.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    evaluation, rows = read_evaluation(metrics), read_crystals(evaluated)
    if evaluation.task != "conditional":
        raise ValueError(f"{metrics}: is of the task {evaluation.task!r}, not 'conditional'.")
    with mpl.rc_context(STYLE):
        panels = [number for number in NUMBERS if any(row.info.get(f"asked_{number[0]}") is not None for row in rows)]
        figure = Figure(layout="constrained", figsize=(4 * (1 + len(panels)), 4))
        FigureCanvasAgg(figure)
        shares, *others = np.atleast_1d(figure.subplots(1, 1 + len(panels)))
        _draw_shares(shares, evaluation)
        for axes, (name, label, limits) in zip(others, panels, strict=True):
            _draw_points(axes, _pairs(rows, name), label, limits, len(rows))
        figure.suptitle(f"{evaluation.set}: asked for and obtained (n = {evaluation.n:,})", fontsize=12)
        for path in out:
            _save(figure, path)


def _draw_shares(axes: Any, evaluation: Evaluation) -> None:
    found = [(METRICS[name].label, evaluation.value(name)) for name in EXACT]
    found = [(label, value) for label, value in found if value.value is not None]
    values = np.array([value.value for _, value in found])
    bounds = np.array([(value.low, value.value, value.high) for _, value in found], dtype=float)
    spread = np.diff(bounds, axis=1).T
    axes.barh([label for label, _ in found], 100 * values, xerr=100 * spread, color=BLUE, error_kw={"ecolor": "black"})
    axes.set(xlim=(0, 100), xlabel="% of what was asked for, 95 % interval")
    axes.invert_yaxis()


def _pairs(rows: Sequence[Crystal], name: str) -> Float[np.ndarray, "n 2"]:
    pairs = [(row.info.get(f"asked_{name}"), row.info.get(name)) for row in rows]
    return np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)


def _draw_points(
    axes: Any, pairs: Float[np.ndarray, "n 2"], label: str, limits: tuple[float, float] | None, n: int
) -> None:
    axes.set(xlabel=f"{label}, asked for", ylabel="obtained", title=f"{len(pairs):,} of {n:,}")
    if len(pairs) == 0:
        axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", color=GREY, transform=axes.transAxes)
        return
    margin = 0.05 * max(float(np.ptp(pairs)), 0.1)
    low, high = limits or (float(pairs.min()) - margin, float(pairs.max()) + margin)
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=":")
    axes.scatter(*pairs.T, s=14, alpha=0.5, color=ORANGE, linewidths=0)
    axes.set(xlim=(low, high), ylim=(low, high))


def _save(figure: Any, path: Path) -> None:
    kind = path.suffix.removeprefix(".")
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
    write_bytes(path, stream.getvalue())
