"""Stage `fingerprints`: structure and composition fingerprints of every crystal of a table, for coverage."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.metrics.crystal_nn import careful_fingerprint, site_fingerprints
from xtalgen.metrics.magpie import magpie_features
from xtalgen.metrics.matching import Arrays, arrays, content, structure
from xtalgen.metrics.order_parameters import N_FEATURES
from xtalgen.metrics.validity import MIN_VOLUME, reduced_counts, usable, volume
from xtalgen.parallel import Failure, map_items
from xtalgen.resume import clear, content_key, map_resumably
from xtalgen.voronoi import TooThinError

NOT_CHOSEN = "not_chosen"
N_OPS = N_FEATURES


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints by row: status ("ok" where both exist), structure (n, 61) and composition (n, 132), else NaN."""

    status: list[str]
    structure: np.ndarray
    composition: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        """Which rows have fingerprints."""
        return np.array([status == "ok" for status in self.status], dtype=bool)

    @property
    def chosen(self) -> np.ndarray:
        """Which rows were asked for: all, or the seeded subset."""
        return np.array([status != NOT_CHOSEN for status in self.status], dtype=bool)

    def take(self, rows: Sequence[int]) -> "Fingerprints":
        """Returns the fingerprints of these rows, in this order."""
        places = np.asarray(rows, dtype=int)
        return Fingerprints([self.status[row] for row in rows], self.structure[places], self.composition[places])


def fingerprint(
    crystals: Path, *, out: Path, work: Path, workers: int, timeout: float, limit: int | None, seed: int
) -> None:
    """Writes a table of the same ids with `structure_fingerprint` and `composition_fingerprint` to `out`.

    Structure: mean over atoms of matminer's CrystalNNFingerprint("ops"); composition: Magpie features. Both are null
    unless `status` is "ok"; other statuses: "no_geometry", "degenerate" (not tried, or too thin a lattice), "error",
    "timeout", "crash", and "not_chosen" outside the seeded subset of `limit` usable crystals. Equal crystals are
    computed once. Crystals in which a last digit decides (`careful_crystals` in the metadata: how many) are done by
    pymatgen in worker processes, within `timeout` seconds of wall time each, resuming from `work` after a kill.
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


def read_fingerprints(path: Path) -> tuple[list[str], Fingerprints]:
    """Returns the ids and fingerprints of a table. Raises ValueError when it has no fingerprints."""
    table = read_table(path)
    if "structure_fingerprint" not in table.column_names:
        raise ValueError(
            f"{path}: no column 'structure_fingerprint'. Make the file with workflow/scripts/fingerprints.py."
        )
    structures = _matrix(table["structure_fingerprint"], N_OPS)
    compositions = _matrix(table["composition_fingerprint"], magpie_features([]).shape[1])
    return table["id"].to_pylist(), Fingerprints(table["status"].to_pylist(), structures, compositions)


def choose(crystals: Sequence[Crystal], limit: int | None, seed: int) -> set[int]:
    """Returns the rows to fingerprint: all, or a seeded subset of `limit` rows with usable geometry."""
    candidates = [row for row, crystal in enumerate(crystals) if usable(crystal)]
    if limit is None or limit >= len(candidates):
        return set(range(len(crystals)))
    generator = np.random.default_rng(seed)
    return {int(row) for row in generator.choice(candidates, size=limit, replace=False)}


def structure_fingerprint(item: Arrays) -> list[float]:
    """Returns the mean over atoms of CrystalNNFingerprint("ops") (Zimmermann & Jain 2020, doi:10.1039/C9RA07755C).

    Equal to matminer's to 1e-8: atoms for which the last digit decides are done again with neighbours from pymatgen.
    Raises what pymatgen raises where an atom has no cell or no radius, TooThinError and ValueError as `cells` does.
    """
    sites, certain = site_fingerprints(*item)
    if not certain.all():
        crystal = structure(item)
        for site in np.flatnonzero(~certain):
            sites[site] = careful_fingerprint(crystal, int(site))
    return _mean(sites)


def warm_up() -> None:
    """Loads in a new worker process what would else count into its first crystal's time: ten seconds on a busy node."""
    copper = (np.eye(3) * 3.0, np.zeros((1, 3)), np.array([29], dtype=np.uint8))
    structure_fingerprint(copper)
    careful_fingerprint(structure(copper), 0)


def _fingerprints(
    items: list[Arrays], *, work: Path, key: str, workers: int, timeout: float
) -> tuple[list[list[float] | Failure], int]:
    """Returns the structure fingerprint of each item, and how many of them were done with care."""
    results = list(map_items(_quick_fingerprint, items, workers=1, timeout=None, label="fingerprints"))
    doubtful = [place for place, result in enumerate(results) if result is None]
    careful = map_resumably(
        structure_fingerprint,
        [items[place] for place in doubtful],
        work=work,
        key=key,
        workers=workers,
        timeout=timeout,
        label="fingerprints with care",
        initializer=warm_up,
    )
    for place, result in zip(doubtful, careful, strict=True):
        results[place] = result
    return results, len(doubtful)


def _quick_fingerprint(item: Arrays) -> list[float] | None:
    """Returns the fingerprint, or None when some atom has to be done with care."""
    sites, certain = site_fingerprints(*item)
    return _mean(sites) if certain.all() else None


def _mean(sites: np.ndarray) -> list[float]:
    mean = np.mean(sites, axis=0)
    if not np.isfinite(mean).all():
        raise ValueError("the fingerprint is not finite")
    return mean.tolist()


def _guard(crystal: Crystal) -> str:
    """Returns "ok", or why a fingerprint is not tried."""
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
    metadata = {key: value for key, value in read_metadata(table).items() if key != "contract"}
    write_table(
        replace_columns(kept, columns),
        out,
        **metadata | settings,
        matminer=version("matminer"),
        pymatgen=version("pymatgen"),
    )


def _matrix(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """Returns a column of equally long lists as rows, NaN where it is null."""
    lists = column.combine_chunks()
    matrix = np.full((len(lists), width), np.nan)
    present = lists.is_valid().to_numpy(zero_copy_only=False)
    matrix[present] = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return matrix
