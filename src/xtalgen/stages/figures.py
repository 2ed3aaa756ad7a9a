"""Stage `figures`: draws the distributions, energies and funnels of all sets as SVG and PNG for papers and reports."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.explorer.crystal_sets import CrystalSet, Files, elements, load
from xtalgen.explorer.encoding import Geometry
from xtalgen.report.style import GREY, STYLE
from xtalgen.runtime.atomic import write_bytes

FORMATS = ("svg", "png")
DPI = 200
# Okabe and Ito's palette without yellow, which is invisible on white; the explorer's page has the same order.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7B4FA3", "#6B6B00")
DASHES = ("-", "--", ":", "-.")
REFERENCE = "#B9C0C8"
SYSTEMS = (2, 15, 74, 142, 167, 194, 230)
SYSTEM_NAMES = ("tricl.", "mono.", "ortho.", "tetra.", "trig.", "hex.", "cubic")
AVOGADRO = 0.602214076
HULL_RANGE = (-0.1, 0.5)  # eV/atom

Values = Float[np.ndarray, " n"]


def draw_figures(sets: Sequence[Files], out: Path) -> list[Path]:
    """Draws all figures into the folder `out` and returns the files, `NAME.svg` and `NAME.png` for each of `DRAWN`.

    Sets without the values of a figure are left out of it; an empty figure says so. The same input gives the same
    bytes. Raises ContractError when a file is not the expected table.
    """
    found = [load(files) for files in sets]
    written = []
    for name, draw in DRAWN.items():
        for kind, content in render(draw, found).items():
            path = out / f"{name}.{kind}"
            write_bytes(path, content)
            written.append(path)
    return written


def render(draw: Callable[[Any, Sequence[CrystalSet]], None], found: Sequence[CrystalSet]) -> dict[str, bytes]:
    """Returns one figure in every format."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    contents = {}
    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, found)
        for kind in FORMATS:
            stream = io.BytesIO()
            metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
            figure.savefig(stream, format=kind, dpi=DPI, metadata=metadata)
            contents[kind] = stream.getvalue()
    return contents


def draw_distributions(figure: Any, found: Sequence[CrystalSet]) -> None:
    """Draws density, number of elements, atoms in the cell and crystal systems against the reference crystals."""
    figure.set_size_inches(10, 6.4)
    axes = figure.subplots(2, 2).ravel()
    densities = [density(crystal_set) for crystal_set in found]
    every = np.concatenate([*densities, np.zeros(0)])
    top = max(1.0, float(np.quantile(every, 0.995))) if len(every) else 1.0
    edges = np.linspace(0, top, 41)
    for crystal_set, values, look in zip(found, densities, looks(found), strict=True):
        share = np.histogram(values, edges)[0] / max(1, len(values))
        fill = (
            {"fill": True, "alpha": 0.45, "linewidth": 0, "zorder": 1} if crystal_set.reference else {"linewidth": 1.8}
        )
        axes[0].stairs(share, edges, label=crystal_set.name, **look, **fill)
    axes[0].set_xlabel("density (g/cm³)")
    _bars(axes[1], found, num_elems, [*"1234567", "8+"], title="number of elements")
    atoms = [str(count) if count % 5 == 0 else "" for count in range(1, 20)]
    _bars(axes[2], found, n_atoms, [*atoms, "20+"], title="atoms in the cell")
    _bars(axes[3], found, crystal_system, SYSTEM_NAMES, title="crystal system", first=0)
    for panel in axes:
        panel.set_ylabel("share")
    _legend(figure, axes[0])


def draw_energies(figure: Any, found: Sequence[CrystalSet]) -> None:
    """Draws the cumulative distribution of energies above the hull; crystals without one stay in the denominator."""
    figure.set_size_inches(7, 4.6)
    axes = figure.subplots()
    drawn = False
    for crystal_set, look in zip(found, looks(found), strict=True):
        energies = np.sort(column(crystal_set, "e_above_hull"))
        if crystal_set.reference or not len(energies):
            continue
        drawn = True
        label = f"{crystal_set.name} ({len(energies):,} of {len(crystal_set.rows):,} with energy)"
        steps = np.arange(1, len(energies) + 1) / len(crystal_set.rows)
        axes.step([HULL_RANGE[0] - 1, *energies, 1e3], [0, *steps, steps[-1]], where="post", label=label, **look)
    axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xlim=HULL_RANGE, ylim=(0, 1), xlabel="energy above hull, at most (eV/atom)", ylabel="share of crystals")
    if drawn:
        axes.legend(loc="lower right")
    else:
        _say(axes, "no energies above the hull")


def draw_funnels(figure: Any, found: Sequence[CrystalSet]) -> None:
    """Draws how many crystals of each set are left after each step of the evaluation."""
    shown = [
        (crystal_set, look)
        for crystal_set, look in zip(found, looks(found), strict=True)
        if crystal_set.evaluation is not None and crystal_set.evaluation.funnel
    ]
    figure.set_size_inches(7, max(2.4, 2.3 * len(shown)))
    if not shown:
        _say(figure.subplots(), "no evaluated sets")
        return
    for axes, (crystal_set, look) in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
        assert crystal_set.evaluation is not None
        steps = [step.replace("_", " ") for step, _ in crystal_set.evaluation.funnel]
        counts = [count for _, count in crystal_set.evaluation.funnel]
        bars = axes.barh(steps, counts, color=look["color"], height=0.72)
        first = max(1, counts[0])
        axes.bar_label(bars, [f"{count:,} ({count / first:.1%})" for count in counts], padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.set_title(crystal_set.name, loc="left", fontsize=11)
        axes.set_xlim(0, 1.25 * first)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(left=False, bottom=False, labelbottom=False)


DRAWN: Mapping[str, Callable[[Any, Sequence[CrystalSet]], None]] = {
    "distributions": draw_distributions,
    "energy_above_hull": draw_energies,
    "funnel": draw_funnels,
}


def looks(found: Sequence[CrystalSet]) -> list[dict[str, Any]]:
    """Returns colour and line style of each set: reference crystals grey, the others in order."""
    styles, place = [], 0
    for crystal_set in found:
        if crystal_set.reference:
            styles.append({"color": REFERENCE, "linestyle": "-"})
        else:
            dash = DASHES[place // len(COLOURS) % len(DASHES)]
            styles.append({"color": COLOURS[place % len(COLOURS)], "linestyle": dash})
            place += 1
    return styles


def column(crystal_set: CrystalSet, name: str) -> Values:
    """Returns the finite values of a column."""
    values = np.array([row.info.get(name) for row in crystal_set.rows], dtype=float)
    return values[np.isfinite(values)]


def density(crystal_set: CrystalSet) -> Values:
    """Returns densities in g/cm³ of the crystals that have a geometry."""
    masses = np.array(elements()["mass"])
    return np.array(
        [masses[item.atomic_numbers].sum() / AVOGADRO / _volume(item) for item in _drawn(crystal_set)], dtype=float
    )


def num_elems(crystal_set: CrystalSet) -> Values:
    """Returns numbers of elements, 8 for eight and more."""
    return np.array([min(8, len(np.unique(item.atomic_numbers))) for item in _drawn(crystal_set)], dtype=float)


def n_atoms(crystal_set: CrystalSet) -> Values:
    """Returns numbers of atoms in the cell, 20 for twenty and more."""
    return np.array([min(20, len(item.atomic_numbers)) for item in _drawn(crystal_set)], dtype=float)


def crystal_system(crystal_set: CrystalSet) -> Values:
    """Returns crystal systems, 0 (triclinic) to 6 (cubic), of the crystals whose space group is known."""
    numbers = np.array([number for number in crystal_set.spg_num if number])
    return np.searchsorted(SYSTEMS, numbers).astype(float)


def _drawn(crystal_set: CrystalSet) -> list[Geometry]:
    return [item for item in crystal_set.final if item is not None]


def _volume(item: Geometry) -> float:
    cosines = np.cos(np.radians(item.angles))
    return float(np.prod(item.lengths) * np.sqrt(max(1e-12, 1 + 2 * np.prod(cosines) - (cosines**2).sum())))


def _bars(
    axes: Any,
    found: Sequence[CrystalSet],
    values: Callable[[CrystalSet], Values],
    labels: Sequence[str],
    *,
    title: str,
    first: int = 1,
) -> None:
    """Draws a bar chart of integer values from `first` upwards, one label per value."""
    categories = range(first, first + len(labels))
    generated = sum(not crystal_set.reference for crystal_set in found)
    place = 0
    for crystal_set, look in zip(found, looks(found), strict=True):
        numbers = values(crystal_set)
        shares = np.array([(numbers == category).sum() for category in categories]) / max(1, len(numbers))
        at = np.arange(len(categories), dtype=float)
        if crystal_set.reference:
            axes.bar(at, shares, width=0.94, color=look["color"], alpha=0.45, zorder=1)
            continue
        width = 0.8 / generated
        axes.bar(at - 0.4 + (place + 0.5) * width, shares, width=width * 0.94, color=look["color"], zorder=2)
        place += 1
    axes.set_xticks(range(len(categories)), labels)
    axes.set_xlabel(title)
    axes.grid(visible=False, axis="x")


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(handles)))
    else:
        _say(axes, "no crystals")


def _say(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes)
