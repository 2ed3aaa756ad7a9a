"""Stage `explorer`: every generated crystal on one map, as one HTML file that works from disk without a network.

`explorer.layout` computes the positions on the map, `explorer.columns` lists the columns shown per crystal,
`explorer.encoding` packs the data, and `explorer/page` holds HTML, CSS and JavaScript. The 3D view is 3Dmol.js (Rego &
Koes 2015, doi:10.1093/bioinformatics/btu829), taken from the wheel of chemiscope.
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

from xtalgen.explorer.columns import Column, column_blocks
from xtalgen.explorer.crystal_sets import CrystalSet, Files, elements, learning_curves, load, space_groups, thin
from xtalgen.explorer.encoding import FRAC_STEPS, compress, geometry_blocks, pack
from xtalgen.explorer.layout import Layout, layout
from xtalgen.explorer.projection import UmapConfig
from xtalgen.explorer.scripts import PAGE, bundle
from xtalgen.metrics.registry import METRICS
from xtalgen.metrics.result_file import Evaluation, flatten
from xtalgen.report.marks import MEANING, marks
from xtalgen.runtime.atomic import write_text

STATUS_WORDS = {
    "unparsable": "the model's text is not a crystal",
    "bad_lattice": "the cell is flat or impossible",
    "too_close": "two atoms nearly coincide",
    "not_finite": "the model gave a number that is not finite",
    "unknown_element": "an element is unknown",
    "disordered": "a site is partially occupied",
    "exploded": "the crystal came apart during relaxation",
    "unphysical_energy": "the potential gave an unphysical energy",
    "potential_failure": "the potential failed",
    "out_of_memory": "the crystal did not fit into memory",
    "timeout": "the time limit was reached",
    "crash": "the process died",
    "no_descriptor": "no descriptor",
}


@dataclass(frozen=True)
class Options:
    """Title, and maximum numbers of generated and reference crystals on the page (None: all)."""

    title: str = "xtalgen explorer"
    max_crystals: int | None = 20_000
    max_reference: int | None = 3_000
    seed: int = 0


def write_explorer(
    sets: Sequence[Files],
    logs: Sequence[tuple[str, Path]],
    *,
    options: Options,
    umap: UmapConfig,
    cache: Path | None,
    out: Path,
) -> None:
    """Writes the page of the given sets to `out`, atomically; the same input gives the same bytes.

    Sets without rows, geometry or descriptors, and tables without verdicts, still give a page, which states what is
    missing. Raises ContractError when a file is not the expected table or the descriptors of the sets differ in kind.
    """
    loaded = [load(files) for files in sets]
    thinned = thin(loaded, options.max_crystals, options.max_reference, options.seed)
    write_text(out, page(thinned, learning_curves(logs), options, umap, cache))


def page(
    sets: Sequence[CrystalSet], curves: list[dict[str, Any]], options: Options, umap: UmapConfig, cache: Path | None
) -> str:
    """Returns the page as HTML."""
    placed = layout(sets, umap, cache)
    rows = [row for crystal_set in sets for row in crystal_set.rows]
    columns, values = column_blocks(rows, frozenset().union(*(crystal_set.columns for crystal_set in sets)))
    header = _header(sets, columns, placed, options) | {"curves": curves}
    blocks = _blocks(sets, header) | values
    blocks |= {"positions": ("uint16", placed.positions), "nearest": ("int32", placed.nearest)}
    parts = {
        "TITLE": html.escape(options.title),
        "STYLE": (PAGE / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": bundle(),
        "PAYLOAD": pack(header, blocks),
        "VIEWER": compress(viewer_script()),
    }
    template = (PAGE / "index.html").read_text(encoding="utf-8")
    return re.sub(r"%%(\w+)%%", lambda match: parts[match[1]], template)


def viewer_script() -> bytes:
    """Returns chemiscope's script, which contains 3Dmol.js, preceded by the licences that must accompany it.

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
    # The script is loaded as a separate blob, so a `</script>` inside it cannot end the page's script element.
    return f"/* chemiscope {version('chemiscope')}\n{text}\n*/\n".encode() + script.read_bytes()


def _blocks(sets: Sequence[CrystalSet], header: dict[str, Any]) -> dict[str, tuple[str, np.ndarray]]:
    """Returns the blocks of geometries, sets, space groups, statuses, matches and duplicates."""
    types = {
        "n_atoms": "uint16",
        "atomic_numbers": "uint8",
        "frac_coords": "uint16",
        "moved": "uint8",
        "moves": "int16",
        "lengths": "uint32",
        "angles": "uint16",
        "before_lengths": "uint32",
        "before_angles": "uint16",
    }
    final = [item for crystal_set in sets for item in crystal_set.final]
    before = [item for crystal_set in sets for item in crystal_set.before]
    blocks = {name: (types[name], values) for name, values in geometry_blocks(final, before).items()}
    rows = [row for crystal_set in sets for row in crystal_set.rows]
    statuses = {name: index for index, name in enumerate(header["statuses"])}
    matches = {name: index for index, name in enumerate(header["matches"])}
    spg_num = [number for crystal_set in sets for number in crystal_set.spg_num]
    relax_status = [statuses[row.info.get("relax_status") or ""] for row in rows]
    match = [matches[row.info.get("match_id") or ""] for row in rows]
    blocks["set"] = ("uint16", np.repeat(np.arange(len(sets)), [len(item.rows) for item in sets]))
    blocks["spg_num"] = ("uint8", np.array(spg_num, dtype="u1"))
    blocks["status"] = ("uint8", np.array([statuses[row.status] for row in rows], dtype="u1"))
    blocks["relax_status"] = ("uint8", np.array(relax_status, dtype="u1"))
    blocks["match"] = ("int32", np.array(match, dtype="i4"))
    blocks["duplicate_of"] = ("int32", _duplicates(sets))
    return blocks


def _duplicates(sets: Sequence[CrystalSet]) -> np.ndarray:
    """Returns, for each crystal, the index of the one it duplicates; -1 where there is none on the page."""
    values, start = [], 0
    for crystal_set in sets:
        index = {row.id: start + place for place, row in enumerate(crystal_set.rows)}
        values += [index.get(row.info.get("duplicate_of", ""), -1) for row in crystal_set.rows]
        start += len(crystal_set.rows)
    return np.array(values, dtype="i4")


def _header(sets: Sequence[CrystalSet], columns: list[Column], placed: Layout, options: Options) -> dict[str, Any]:
    rows = [row for crystal_set in sets for row in crystal_set.rows]
    embeddings = {crystal_set.embedding for crystal_set in sets if crystal_set.embedding}
    descriptors = f"Map: {embeddings.pop()}, principal components laid out by UMAP." if embeddings else ""
    recipes = [crystal_set.evaluation.recipe for crystal_set in sets if crystal_set.evaluation]
    below = [recipe.get("metastable_below") for recipe in recipes if recipe.get("metastable_below") is not None]
    colours, marked = iter(range(len(sets))), _marks(sets)
    described = [item.describe(-1 if item.reference else next(colours)) for item in sets]
    return {
        "ids": [row.id for row in rows],
        "sets": [{**shown, "marks": found} for shown, found in zip(described, marked, strict=True)],
        "marks": MEANING,
        "columns": [column.describe() for column in columns],
        "elements": elements(),
        "space_groups": space_groups(),
        "statuses": sorted({"", *(row.status for row in rows), *(row.info.get("relax_status") or "" for row in rows)}),
        "status_words": STATUS_WORDS,
        "matches": sorted({"", *(row.info.get("match_id") or "" for row in rows)}),
        "metastable_below": below[0] if below else 0.1,
        "metrics": [_metric(name) for name in METRICS],
        "embedding": descriptors or "No descriptors were given, so the crystals are laid out in table order.",
        "parked": {"count": placed.n_parked, "x": placed.parked_x, "y": placed.parked_y},
        "notes": [note for crystal_set in sets for note in crystal_set.notes],
        "sources": _sources(sets, options),
    }


def _marks(sets: Sequence[CrystalSet]) -> list[dict[str, str]]:
    """Returns the marks of each set's scores by metric; sets of one data set and recipe are compared, as in tables."""
    found: list[dict[str, str]] = [{} for _ in sets]
    groups: dict[tuple[str, str], list[tuple[int, Evaluation]]] = {}
    for place, item in enumerate(sets):
        if item.evaluation:
            key = (item.evaluation.dataset, item.evaluation.recipe_name)
            groups.setdefault(key, []).append((place, item.evaluation))
    for group in groups.values():
        for name in METRICS:
            for (place, _), mark in zip(group, marks([row for _, row in group], name), strict=True):
                found[place] |= {name: mark} if mark else {}
    return found


def _metric(name: str) -> dict[str, Any]:
    metric = METRICS[name]
    kept = ("name", "label", "unit", "better", "definition", "reference", "percent")
    return {key: getattr(metric, key) for key in kept}


def _sources(sets: Sequence[CrystalSet], options: Options) -> list[str]:
    lines = [
        f"Positions are stored to 1/{FRAC_STEPS} of a cell edge: CIFs from this page are within 0.001 Å of the tables.",
        f"3D view: 3Dmol.js in chemiscope {version('chemiscope')} (BSD-3-Clause). Seed {options.seed}.",
    ]
    for crystal_set in sets:
        if crystal_set.evaluation:
            recipe = "; ".join(f"{key} = {value}" for key, value in flatten(crystal_set.evaluation.recipe).items())
            lines.append(f"{crystal_set.name}: {recipe}")
            lines += [f"{crystal_set.name}: {caveat}" for caveat in crystal_set.evaluation.data.get("caveats", [])]
            if released := crystal_set.evaluation.released:
                facts = "; ".join(f"{key} = {released[key]}" for key in sorted(released))
                lines.append(f"{crystal_set.name}: samples that the model's authors released: {facts}")
    return lines
