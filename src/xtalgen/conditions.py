"""What was asked of Crystal-text-LLM against what came out, and how well it guesses hidden elements."""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen import models
from xtalgen.crystals import Crystal, read_crystals, to_table, write_table
from xtalgen.curves import BLUE, GREY, ORANGE, STYLE
from xtalgen.devices import pick_device
from xtalgen.metrics.intervals import Estimate, rate
from xtalgen.models.crystal_text_llm import generate_conditional, infill
from xtalgen.models.nn.checkpoint import write_json
from xtalgen.models.nn.crystal_text import formula, read_formula
from xtalgen.models.nn.generation import TextSampling
from xtalgen.models.nn.prompts import attributes_of
from xtalgen.symmetry import space_group

ATTRIBUTES = ("formula", "n_atoms", "spg_num", "band_gap", "e_form_per_atom", "e_above_hull")
# What can be told of a crystal without running a potential.
COLUMNS = {
    "target_id": pa.string(),
    "text": pa.string(),
    "n_tries": pa.int64(),
    **{f"asked_{name}": kind for name, kind in zip(ATTRIBUTES, [pa.string(), pa.int64(), pa.int64()], strict=False)},
    **{f"asked_{name}": pa.float64() for name in ATTRIBUTES[3:]},
    "asked_density": pa.float64(),  # g/cm³, of the crystal whose attributes were asked for
    "formula": pa.string(),
    "spg_num": pa.int64(),
    "density": pa.float64(),
}
INFILL_COLUMNS = {"hidden": pa.string(), "rank": pa.int64(), "guesses": pa.string()}
GRAMS_PER_A3 = 1.66053906660  # of one atomic mass unit in Å³, in g/cm³
TOPS = (1, 3, 5, 10)
MATCHES: Mapping[str, str] = {"formula": "same formula", "n_atoms": "same atoms in cell", "spg_num": "same space group"}


def run(
    task: str,
    *,
    checkpoint: Path,
    table: Path,
    out: Path,
    limit: int | None = None,
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    figure: Path | None = None,
) -> None:
    """Runs a task of `TASKS` on the crystals of a table, the first `limit` of them; writes its table and its rates.

    options: of the task; settings: of sampling. Raises ContractError for a wrong table, ValueError for a wrong setting,
    TypeError for an unknown option.
    """
    stage, columns, summarise_task = TASKS[task]
    sampling = models.build(TextSampling, dict(settings or {}), "--settings")
    crystals = read_crystals(table)[:limit]
    rows = stage(checkpoint, crystals, sampling, seed, pick_device(device), **(options or {}))
    write_table(to_table(rows, columns), out)
    write_json(out.with_suffix(".json"), summarise_task(rows))
    if figure is not None and task == "conditional":
        draw_conditional(rows, figure)


def run_conditional(
    checkpoint: Path,
    crystals: Sequence[Crystal],
    sampling: TextSampling,
    seed: int,
    device: str,
    *,
    attributes: Sequence[str] = ("formula", "spg_num"),
) -> list[Crystal]:
    """Returns a crystal made for the attributes of each crystal that is ok, with the columns of `COLUMNS`.

    Raises ValueError on an unknown attribute, and as `generate_conditional` does.
    """
    targets = [crystal for crystal in crystals if crystal.ok]
    asked = [conditions_of(target, attributes) for target in targets]
    made = generate_conditional(checkpoint, asked, sampling, seed, device)
    return [judge(*one, place) for place, one in enumerate(zip(targets, asked, made, strict=True))]


def conditions_of(crystal: Crystal, attributes: Sequence[str]) -> dict[str, Any]:
    """Returns the attributes of a crystal that is ok, as a prompt states them; those that it lacks are left out.

    Raises ValueError on an unknown attribute.
    """
    unknown = sorted(set(attributes) - set(ATTRIBUTES))
    if unknown:
        raise ValueError(f"no attribute {unknown[0]!r}; there are {', '.join(ATTRIBUTES)}.")
    known = {"formula": formula(crystal.atomic_numbers), "n_atoms": crystal.n_atoms, **attributes_of(crystal)}
    return {name: known[name] for name in attributes if name in known}


def judge(target: Crystal, asked: Mapping[str, Any], made: Crystal, place: int) -> Crystal:
    """Returns what was made for a target, with asked and obtained values in `info` (see `COLUMNS`)."""
    found = {"target_id": target.id, "asked_density": density(target)}
    found |= {f"asked_{name}": value for name, value in asked.items()}
    if made.ok:
        number = space_group((made.lattice, made.frac_coords, made.atomic_numbers))
        found |= {"formula": formula(made.atomic_numbers), "spg_num": number or None, "density": density(made)}
    return replace(made, id=f"conditional-{place:06d}", info={**made.info, **found})


def density(crystal: Crystal) -> float:
    """Returns the density in g/cm³."""
    from ase.data import atomic_masses

    return float(atomic_masses[crystal.atomic_numbers].sum() * GRAMS_PER_A3 / abs(np.linalg.det(crystal.lattice)))


def matches(row: Crystal, attribute: str) -> bool:
    """Whether a judged crystal has what was asked; a failed one has nothing."""
    if not row.ok:
        return False
    if attribute == "formula":
        return read_formula(row.info["formula"]) == _reduced(read_formula(row.info["asked_formula"]))
    obtained = row.n_atoms if attribute == "n_atoms" else row.info["spg_num"]
    return obtained == row.info[f"asked_{attribute}"]


def summarise(rows: Sequence[Crystal]) -> dict[str, Any]:
    """Returns rates over everything that was asked, failures included, with 95 % intervals."""
    values = {"ok": rate(sum(row.ok for row in rows), len(rows))}
    for attribute in MATCHES:
        asked = [row for row in rows if row.info.get(f"asked_{attribute}") is not None]
        if asked:
            values[f"{attribute}_matched"] = rate(sum(matches(row, attribute) for row in asked), len(asked))
    return {
        "contract": "conditional/1",
        "n": len(rows),
        "n_tries": sum(row.info["n_tries"] for row in rows),
        "statuses": dict(Counter(row.status for row in rows)),
        "metrics": _as_json(values),
    }


def summarise_infilling(rows: Sequence[Crystal]) -> dict[str, Any]:
    """Returns how often the hidden element is among the k likeliest, over all crystals that had one hidden."""
    ranks = [row.info["rank"] for row in rows if row.info["hidden"] is not None]
    values = {f"top_{k}": rate(sum(rank is not None and rank <= k for rank in ranks), len(ranks)) for k in TOPS}
    return {"contract": "infilling/1", "n": len(ranks), "n_left_out": len(rows) - len(ranks),
            "metrics": _as_json(values)}  # fmt: skip


def draw_conditional(rows: Sequence[Crystal], path: Path) -> None:
    """Draws asked against obtained to an .svg or .png: matches, space groups, densities."""
    _save(path, lambda figure: _draw_conditional(figure, rows))


def _draw_conditional(figure: Any, rows: Sequence[Crystal]) -> None:
    figure.set_size_inches(12, 4)
    shares, groups, densities = figure.subplots(1, 3)
    metrics = summarise(rows)["metrics"]
    labels = {"ok": "is a crystal", **{f"{name}_matched": label for name, label in MATCHES.items()}}
    names = list(metrics)
    values = np.array([metrics[name]["value"] for name in names])
    spread = np.array([[metrics[name]["value"] - metrics[name]["low"], metrics[name]["high"] - metrics[name]["value"]]
                       for name in names]).T  # fmt: skip
    shares.barh([f"{labels[name]} (n = {metrics[name]['n']})" for name in names], values, xerr=spread, color=BLUE,
                error_kw={"ecolor": "black"})  # fmt: skip
    shares.set(xlim=(0, 1), xlabel="share of what was asked")
    shares.invert_yaxis()
    made = [row for row in rows if row.ok]
    _scatter(groups, made, "spg_num", "space group number", (0.0, 231.0))
    _scatter(densities, made, "density", "density (g/cm³)", None)


def _scatter(axes: Any, rows: Sequence[Crystal], name: str, label: str, limits: tuple[float, float] | None) -> None:
    pairs = [(row.info.get(f"asked_{name}"), row.info.get(name)) for row in rows]
    points = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
    if len(points):
        low, high = limits or (0.0, float(points.max()) * 1.05)
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=":")
        axes.scatter(*points.T, s=14, alpha=0.5, color=ORANGE, linewidths=0)
        axes.set(xlim=(low, high), ylim=(low, high))
    else:
        axes.text(0.5, 0.5, "nothing to show", ha="center", va="center", color=GREY, transform=axes.transAxes)
    axes.set(xlabel=f"{label}, asked", ylabel=f"{label}, obtained")


def _save(path: Path, draw: Callable[[Any], None]) -> None:
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        kind = path.suffix.removeprefix(".")
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, dpi=200, metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


def _reduced(counts: Mapping[str, int]) -> dict[str, int]:
    divisor = int(np.gcd.reduce(list(counts.values())))
    return {symbol: count // divisor for symbol, count in counts.items()}


def _as_json(values: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.as_json() for name, estimate in values.items()}


# By name: what runs it (its keyword arguments are the options), the columns of its table, its rates.
TASKS: Mapping[str, tuple[Callable[..., list[Crystal]], Mapping[str, pa.DataType], Callable[..., dict[str, Any]]]] = {
    "conditional": (run_conditional, COLUMNS, summarise),
    "infill": (infill, INFILL_COLUMNS, summarise_infilling),
}
