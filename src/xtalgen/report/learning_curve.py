"""Learning curves: the log of a training, read and drawn."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.report.style import BLUE, GREY, ORANGE, STYLE

# Columns of a training log that are not parts of the loss.
FIXED = ("epoch", "step", "seconds", "clock", "loss", "val_loss", "lr", "skipped", "samples_per_s", "gflop_per_s")
PARTS = ("#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#8C6D31", "#999999")
DASHES = ((), (5, 1.5), (1.5, 1.5), (5, 1.5, 1.5, 1.5))
SMOOTH_FROM = 400


@dataclass(frozen=True)
class Log:
    """A training log: one array per column, NaN where a row has no value; steps are unique and ascending."""

    columns: dict[str, Float[np.ndarray, " rows"]]

    def __getitem__(self, name: str) -> Float[np.ndarray, " rows"]:
        """Returns a column; NaN everywhere when the log lacks it."""
        return self.columns.get(name, np.full(len(self.columns["loss"]), np.nan))

    @property
    def parts(self) -> list[str]:
        """The columns that are parts of the training loss."""
        return [name for name in self.columns if name not in FIXED and np.isfinite(self.columns[name]).any()]


def read_log(path: Path) -> Log:
    """Returns a training log. Incomplete rows of a killed training and rows without a step are left out.

    Where a resumed training repeated a step, the later row counts. Raises ValueError, naming the file, when columns
    `step` and `loss` are missing.
    """
    # A row counts once its line is complete: "0.12" may be the beginning of "0.125".
    whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    rows = csv.DictReader(io.StringIO(whole))
    names = rows.fieldnames or []
    if not {"step", "loss"} <= set(names):
        raise ValueError(f"{path}: not a training log: columns `step` and `loss` are missing. Rerun the train stage.")
    by_step: dict[float, list[float]] = {}
    for row in rows:
        values = [_number(row[name]) for name in names]
        step = values[names.index("step")]
        if np.isfinite(step):
            by_step[step] = values
    table = np.array([by_step[step] for step in sorted(by_step)]).reshape(-1, len(names))
    return Log({name: table[:, index] for index, name in enumerate(names)})


def draw(log: Log, *, title: str) -> bytes:
    """Returns the SVG: losses on a logarithmic scale (linear if some are not positive), learning rate below."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 5.2), layout="constrained")
        FigureCanvasSVG(figure)
        losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
        losses.set_title(summary(log), loc="left", fontsize=10, color=GREY)
        _draw_losses(losses, log)
        rates.plot(log["step"], log["lr"], color=GREY, linewidth=1.4)
        rates.set_ylabel("learning\nrate")
        rates.set_xlabel("optimiser step")
        rates.set_ylim(bottom=0)
        rates.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        rates.xaxis.set_major_locator(MaxNLocator(integer=True))
        rates.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        figure.align_ylabels()
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
        return stream.getvalue()


def summary(log: Log) -> str:
    """Returns one line of facts: last epoch, best validation, speed, time, steps skipped for NaN."""
    if not len(log["loss"]):
        return "nothing logged yet"
    facts = []
    if np.isfinite(log["epoch"]).any():
        facts.append(f"epoch {np.nanmax(log['epoch']):,.0f}")
    if np.isfinite(log["val_loss"]).any():
        best = int(np.nanargmin(log["val_loss"]))
        facts.append(f"best validation {log['val_loss'][best]:.4g} at step {log['step'][best]:,.0f}")
    if np.isfinite(log["samples_per_s"]).any():
        facts.append(f"{np.nanmedian(log['samples_per_s']):,.0f} crystals/s")
    if np.isfinite(log["seconds"]).any():
        facts.append(_duration(float(np.nanmax(log["seconds"]))))
    skipped = log["skipped"][np.isfinite(log["skipped"])]
    if skipped.any():
        facts.append(f"steps skipped as not finite: {skipped.sum():,.0f}")
    return " · ".join(facts)


def _draw_losses(axes: Any, log: Log) -> None:
    step, drawn = log["step"], []
    for index, name in enumerate(log.parts):
        style: dict[str, Any] = {
            "color": PARTS[index % len(PARTS)],
            "dashes": DASHES[index // len(PARTS) % len(DASHES)],
        }
        _line(axes, step, log[name], label=name, linewidth=1.0, **style)
        drawn.append(log[name])
    _line(axes, step, log["loss"], label="training loss", color=BLUE, linewidth=2.0)
    if np.isfinite(log["val_loss"]).any():
        _line(axes, step, log["val_loss"], label="validation loss", color=ORANGE, linewidth=2.0)
    values = np.concatenate([log["loss"], log["val_loss"], *drawn])
    finite = values[np.isfinite(values)]
    if finite.size and (finite > 0).all():
        axes.set_yscale("log")
        _label_decades(axes, finite)
    axes.set_ylabel("loss")
    if finite.size:
        # Outside the axes, since curves may pass through every corner of the plot.
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), reverse=True)
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no finite loss yet", transform=axes.transAxes, ha="center", color=GREY)


def _label_decades(axes: Any, values: Float[np.ndarray, " values"]) -> None:
    """Labels the ticks with plain numbers, including 2 and 5 where the values span less than two decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    narrow = values.max() < 100 * values.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _line(
    axes: Any,
    x: Float[np.ndarray, " rows"],
    y: Float[np.ndarray, " rows"],
    *,
    label: str,
    color: str,
    **style: object,
) -> None:
    """Draws a curve; one with very many points is drawn pale below its running mean."""
    has = np.isfinite(y)
    x, y = x[has], y[has]
    if len(y) >= SMOOTH_FROM:
        axes.plot(x, y, color=color, alpha=0.2, linewidth=0.8)
        window = len(y) // 100
        sums = np.cumsum(np.concatenate([[0.0], y]))
        y, x = (sums[window:] - sums[:-window]) / window, x[window - 1 :]
    axes.plot(x, y, label=label, color=color, marker=_marker(y), ms=3.5, **style)


def _marker(y: Float[np.ndarray, " rows"]) -> str | None:
    return "o" if len(y) <= 60 else None


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
