"""Stage `explorer`: every generated crystal on one map, as one HTML file that works from disk without a network.

The map's positions come from `projection`, its bytes from `payload`, its look and behaviour from the files of `page`.
The 3D view is 3Dmol.js (Rego & Koes 2015, doi:10.1093/bioinformatics/btu829) as the wheel of chemiscope ships it.
"""

import html
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import numpy as np

from xtalgen.crystals import ContractError
from xtalgen.explorer import crystal_sets as layers
from xtalgen.explorer.crystal_sets import Layer
from xtalgen.explorer.encoding import FRAC_STEPS, compress, geometry_blocks, pack, scaled, unit_positions
from xtalgen.explorer.projection import Settings, nearest, project
from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import flatten
from xtalgen.runtime.atomic import write_text

PAGE = Path(__file__).parents[1] / "explorer" / "page"
SCRIPTS = (
    "data.js",
    "search.js",
    "colours.js",
    "map.js",
    "gestures.js",
    "crystal.js",
    "plots.js",
    "panels.js",
    "app.js",
)
FLAGS = (
    "struct_valid", "comp_valid", "valid", "unique", "novel", "stable", "metastable", "converged", "sun", "msun",
    "matched",
)  # fmt: skip
STATUS_WORDS = {
    "unparsable": "the model's text is no crystal",
    "bad_lattice": "the cell is flat or impossible",
    "too_close": "atoms lie on top of each other",
    "exploded": "the cell fell apart",
    "unphysical_energy": "the potential gave an impossible energy",
    "potential_failure": "the potential failed",
    "timeout": "took too long",
    "crash": "the process died",
    "no_descriptor": "no descriptor",
}
PARKED_GAP = 0.05  # of the map's size, between the map and the crystals below it


@dataclass(frozen=True)
class Options:
    """What goes on the page: at most so many crystals, generated and reference; None for all. `title` of the page."""

    title: str = "xtalgen explorer"
    max_crystals: int | None = 20_000
    max_reference: int | None = 3_000
    seed: int = 0


def explorer(
    sets: Sequence[layers.Files],
    logs: Sequence[tuple[str, Path]],
    *,
    options: Options,
    projection: Settings,
    cache: Path | None,
    out: Path,
) -> None:
    """Writes the page of some sets to `out`; whole or not at all, the same input giving the same bytes.

    Sets without rows, geometry or descriptors, and tables without verdicts, still make a page that says so. Raises
    ContractError when a file is no table of its kind or descriptors were made in different ways.
    """
    found = layers.thin(
        [layers.load(files) for files in sets], options.max_crystals, options.max_reference, options.seed
    )
    text = page(found, layers.learning_curves(logs), options, projection, cache)
    write_text(out, text)


def page(
    found: Sequence[Layer], curves: list[dict[str, Any]], options: Options, projection: Settings, cache: Path | None
) -> str:
    """Returns the page as HTML."""
    positions, neighbours, parked = place(found, projection, cache)
    header = _header(found, options, parked) | {"curves": curves}
    blocks = _columns(found, header) | {"positions": ("uint16", positions), "nearest": ("int32", neighbours)}
    values = {
        "TITLE": html.escape(options.title),
        "STYLE": (PAGE / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "PAYLOAD": pack(header, blocks),
        "VIEWER": compress(viewer_script()),
    }
    template = (PAGE / "index.html").read_text(encoding="utf-8")
    return re.sub(r"%%(\w+)%%", lambda match: values[match[1]], template)


def place(
    found: Sequence[Layer], projection: Settings, cache: Path | None
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Returns positions (uint16, x and y by turns), the nearest reference of each generated crystal, where the rest is.

    Crystals without descriptor stand in rows below the map: {"count", "x", "y"} says how many, and where they begin.
    Raises ContractError when the sets have descriptors of different kinds.
    """
    kinds = sorted({layer.embedding for layer in found if layer.embedding})
    if len(kinds) > 1:
        raise ContractError(f"descriptors of different kinds do not share a map: {' / '.join(kinds)}. Make them alike.")
    n = sum(len(layer.rows) for layer in found)
    descriptors = _stack([layer.descriptors for layer in found])
    known = np.isfinite(descriptors).all(axis=1) if descriptors.shape[1] else np.zeros(n, dtype=bool)
    points, neighbours = np.zeros((n, 2)), np.full(n, -1, dtype=np.int64)
    if known.any():
        placed, components = project(descriptors[known], projection, cache)
        span = float(np.ptp(placed, axis=0).max()) or 1.0
        points[known] = (placed - placed.min(axis=0)) / span
        reference = np.repeat([layer.reference for layer in found], [len(layer.rows) for layer in found])
        if (known & reference).any() and (known & ~reference).any():
            rows = nearest(components[~reference[known]], components[reference[known]])
            neighbours[known & ~reference] = np.flatnonzero(known & reference)[rows]
    rest = int((~known).sum())
    if rest:
        points[~known] = _rows_below(rest, width=float(points[known, 0].max(initial=0)) or 1.0)
    positions = unit_positions(points)
    corner = positions.reshape(-1, 2)[~known] / 65535
    top = {"x": float(corner[:, 0].min()), "y": float(corner[:, 1].max())} if rest else {"x": 0.0, "y": 0.0}
    return positions, neighbours, {"count": rest, **top}


def viewer_script() -> bytes:
    """Returns chemiscope's script, which holds 3Dmol.js, with the licences it asks to be kept.

    Raises FileNotFoundError when the installed chemiscope has no such script.
    """
    spec = importlib.util.find_spec("chemiscope")
    script = Path(str(spec.origin)).parent / "sphinx/static/chemiscope.min.js" if spec else None
    if script is None or not script.is_file():
        raise FileNotFoundError(
            "chemiscope's script is missing. Install the version of chemiscope in requirements.lock."
        )
    folder = script.parents[2]
    licences = [distribution("chemiscope").read_text("licenses/LICENSE") or "BSD-3-Clause"]
    licences += [path.read_text(encoding="utf-8") for path in sorted((folder / "static").glob("*.LICENSE.txt"))]
    text = "\n".join(licences).replace("*/", "* /")
    # The script is its own file in a blob; `</script>` inside it cannot end the page's.
    return f"/* chemiscope {version('chemiscope')}\n{text}\n*/\n".encode() + script.read_bytes()


def _rows_below(count: int, width: float) -> np.ndarray:
    across = max(1, int(np.ceil(np.sqrt(12 * count))))
    step = width / across
    index = np.arange(count)
    return np.column_stack([(index % across + 0.5) * step, -PARKED_GAP - (index // across) * step])


def _stack(matrices: Sequence[np.ndarray]) -> np.ndarray:
    width = max((matrix.shape[1] for matrix in matrices), default=0)
    if any(matrix.shape[1] not in (0, width) for matrix in matrices):
        raise ContractError("descriptors of different lengths do not share a map. Make them with one potential.")
    filled = [matrix if matrix.shape[1] else np.full((len(matrix), width), np.nan) for matrix in matrices]
    return np.concatenate(filled) if filled else np.zeros((0, 0))


def _columns(found: Sequence[Layer], header: dict[str, Any]) -> dict[str, tuple[str, np.ndarray]]:
    """Returns every block but the positions; columns that no set has are left out."""
    kinds = {
        "n_atoms": "uint16",
        "atomic_numbers": "uint8",
        "frac_coords": "uint16",
        "moved": "uint8",
        "moves": "int16",
    }
    kinds |= {"lengths": "uint32", "angles": "uint16", "before_lengths": "uint32", "before_angles": "uint16"}
    final = [item for layer in found for item in layer.final]
    before = [item for layer in found for item in layer.before]
    blocks = {name: (kinds[name], values) for name, values in geometry_blocks(final, before).items()}
    infos = [row.info for layer in found for row in layer.rows]
    column = lambda name: [info.get(name) for info in infos]  # noqa: E731
    sizes = [len(layer.rows) for layer in found]
    blocks["set"] = ("uint16", np.repeat(np.arange(len(found)), sizes))
    blocks["spg_num"] = ("uint8", np.array([number for layer in found for number in layer.spg_num], dtype="u1"))
    for name in FLAGS:
        if any(name in layer.columns for layer in found):
            values = np.array([0 if value is None else 1 + bool(value) for value in column(name)], dtype="u1")
            blocks[f"is_{name}"] = ("uint8", values)
    for name, step in (("e_above_hull", 1e-4), ("rmsd", 1e-3), ("gain", 1e-4), ("n_steps", 1.0)):
        values = scaled(column(name), step)
        if (values != scaled([None], 1.0)).any():
            blocks[name] = ("int32", values)
    statuses = {name: place for place, name in enumerate(header["statuses"])}
    blocks["status"] = ("uint8", np.array([statuses[row.status] for layer in found for row in layer.rows], dtype="u1"))
    relaxed = [statuses[value or ""] for value in column("relax_status")]
    blocks["relax_status"] = ("uint8", np.array(relaxed, dtype="u1"))
    matches = {name: place for place, name in enumerate(header["matches"])}
    blocks["match"] = ("int32", np.array([matches[value or ""] for value in column("match_id")], dtype="i4"))
    blocks["duplicate_of"] = ("int32", _duplicates(found))
    return blocks


def _duplicates(found: Sequence[Layer]) -> np.ndarray:
    """Returns the place on the page of the crystal that each one repeats, -1 where none or not on the page."""
    values, start = [], 0
    for layer in found:
        places = {row.id: start + place for place, row in enumerate(layer.rows)}
        values += [places.get(row.info.get("duplicate_of", ""), -1) for row in layer.rows]
        start += len(layer.rows)
    return np.array(values, dtype="i4")


def _header(found: Sequence[Layer], options: Options, parked: dict[str, Any]) -> dict[str, Any]:
    rows = [row for layer in found for row in layer.rows]
    embeddings = {layer.embedding for layer in found if layer.embedding}
    named = f"Map: {embeddings.pop()}, UMAP of principal components." if embeddings else ""
    recipes = [layer.evaluation.recipe for layer in found if layer.evaluation]
    below = [recipe.get("metastable_below") for recipe in recipes if recipe.get("metastable_below") is not None]
    colours = iter(range(len(found)))
    return {
        "ids": [row.id for row in rows],
        "sets": [layer.describe(-1 if layer.reference else next(colours)) for layer in found],
        "elements": layers.elements(),
        "space_groups": layers.space_groups(),
        "statuses": sorted(
            {"", *(row.status for row in rows), *((row.info.get("relax_status") or "") for row in rows)}
        ),
        "status_words": STATUS_WORDS,
        "matches": sorted({"", *((row.info.get("match_id") or "") for row in rows)}),
        "metastable_below": below[0] if below else 0.1,
        "metrics": [_metric(name) for name in METRICS],
        "embedding": named or "No descriptors were given: the crystals stand in the order of their tables.",
        "parked": parked,
        "notes": [note for layer in found for note in layer.notes],
        "sources": _sources(found, options),
    }


def _metric(name: str) -> dict[str, Any]:
    metric = METRICS[name]
    kept = ("name", "label", "unit", "better", "definition", "reference", "percent")
    return {key: getattr(metric, key) for key in kept}


def _sources(found: Sequence[Layer], options: Options) -> list[str]:
    lines = [
        f"Positions are kept to 1/{FRAC_STEPS} of a cell edge: a CIF from here is within 0.001 Å of the tables.",
        f"3D view: 3Dmol.js in chemiscope {version('chemiscope')} (BSD-3-Clause). Seed {options.seed}.",
    ]
    for layer in found:
        if layer.evaluation:
            recipe = "; ".join(f"{key} = {value}" for key, value in flatten(layer.evaluation.recipe).items())
            lines.append(f"{layer.name}: {recipe}")
            lines += [f"{layer.name}: {caveat}" for caveat in layer.evaluation.data.get("caveats", [])]
    return lines
