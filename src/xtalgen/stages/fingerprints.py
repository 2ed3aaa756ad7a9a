"""Stage `fingerprints`: CrystalNN and Magpie fingerprints of the crystals of a table, for coverage and novelty."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal, from_table, read_facts, read_table, replace_columns, write_table
from xtalgen.featurizers.fingerprints import NOT_CHOSEN, quick_fingerprint, structure_fingerprint, warm_up
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.featurizers.voronoi import TooThinError
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.runtime.resume import clear, content_key, map_resumably
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.geometry import MIN_VOLUME, usable, volume
from xtalgen.structure.matcher import Arrays, arrays, content


def compute_fingerprints(
    crystals: Path, *, out: Path, work: Path, workers: int, timeout: float, limit: int | None, seed: int
) -> None:
    """Writes a table with the same ids and the columns `structure_fingerprint` and `composition_fingerprint` to `out`.

    Structure: mean over atoms of matminer's CrystalNNFingerprint("ops"); composition: Magpie features. Both are null
    unless `status` is "ok"; other statuses: "no_geometry", "degenerate" (not tried, or too thin a lattice), "error",
    "timeout", "crash", and "not_chosen" outside the seeded subset of `limit` usable crystals. Equal crystals are
    computed once. Crystals whose result is sensitive to rounding are left to pymatgen in worker processes, with
    `timeout` seconds of wall time each; the metadata entry `careful_crystals` counts them. A killed run resumes from
    `work`.
    """
    table = read_table(crystals)
    rows = from_table(table)
    chosen = choose(rows, limit, seed)
    status = [_guard(row) if index in chosen else NOT_CHOSEN for index, row in enumerate(rows)]
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for index, row in enumerate(rows):
        if status[index] == "ok":
            groups.setdefault(content(arrays(row)), []).append(index)
    items = [arrays(rows[members[0]]) for members in groups.values()]
    key = content_key(crystals, limit=limit, seed=seed, pymatgen=version("pymatgen-core"))
    results, n_careful = _fingerprints(items, work=work, key=key, workers=workers, timeout=timeout)
    found: list[list[float] | None] = [None] * len(rows)
    for members, result in zip(groups.values(), results, strict=True):
        for index in members:
            if isinstance(result, Failure):
                status[index] = "degenerate" if TooThinError.__name__ in result.message else result.kind
            else:
                found[index] = result
    settings = {"timeout": timeout, "limit": limit, "seed": seed, "careful_crystals": n_careful}
    _write(table, rows, status, found, out, **{name: str(value) for name, value in settings.items()})
    clear(work)


def choose(crystals: Sequence[Crystal], limit: int | None, seed: int) -> set[int]:
    """Returns the rows to fingerprint: all, or a seeded subset of `limit` rows with usable geometry."""
    candidates = [row for row, crystal in enumerate(crystals) if usable(crystal)]
    if limit is None or limit >= len(candidates):
        return set(range(len(crystals)))
    generator = np.random.default_rng(seed)
    return {int(row) for row in generator.choice(candidates, size=limit, replace=False)}


def _fingerprints(
    items: list[Arrays], *, work: Path, key: str, workers: int, timeout: float
) -> tuple[list[list[float] | Failure], int]:
    """Returns the structure fingerprint of each item, and how many of them pymatgen had to compute."""
    results = list(map_items(quick_fingerprint, items, workers=1, timeout=None, label="fingerprints"))
    doubtful = [index for index, result in enumerate(results) if result is None]
    careful = map_resumably(
        structure_fingerprint,
        [items[index] for index in doubtful],
        work=work,
        key=key,
        workers=workers,
        timeout=timeout,
        label="fingerprints by pymatgen",
        initializer=warm_up,
    )
    for index, result in zip(doubtful, careful, strict=True):
        results[index] = result
    return results, len(doubtful)


def _guard(crystal: Crystal) -> str:
    """Returns "ok", or the status of a crystal whose fingerprint is not attempted."""
    if usable(crystal):
        return "ok"
    flat = crystal.lattice is not None and np.isfinite(crystal.lattice).all() and volume(crystal.lattice) < MIN_VOLUME
    return "degenerate" if flat else "no_geometry"


def _write(
    table: pa.Table, rows: list[Crystal], status: list[str], structures: list[Any], out: Path, **settings: str
) -> None:
    ok = [index for index, found in enumerate(structures) if found is not None]
    features = magpie_features([reduced_counts(rows[index].atomic_numbers) for index in ok])
    compositions: list[list[float] | None] = [None] * len(rows)
    for index, values in zip(ok, features, strict=True):
        compositions[index] = values.tolist()
    kind = pa.list_(pa.float64())
    kept = table.select(["id", "status", "lattice", "frac_coords", "atomic_numbers"])
    columns = {
        "status": (pa.string(), status),
        "structure_fingerprint": (kind, structures),
        "composition_fingerprint": (kind, compositions),
    }
    metadata = read_facts(table)
    write_table(
        replace_columns(kept, columns),
        out,
        **metadata | settings,
        matminer=version("matminer"),
        pymatgen=version("pymatgen"),
    )
