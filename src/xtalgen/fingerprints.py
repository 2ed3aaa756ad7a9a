"""Stage `fingerprints`: structure and composition fingerprints of every crystal of a table, for coverage."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.lattice import lattice_to_parameters
from xtalgen.metrics.magpie import magpie_features
from xtalgen.metrics.matching import Arrays, arrays, structure
from xtalgen.metrics.validity import MIN_VOLUME, reduced_counts, usable, volume
from xtalgen.parallel import Failure
from xtalgen.resume import clear, content_key, map_resumably

NOT_CHOSEN = "not_chosen"
MIN_ANGLE = 10.0
MIN_VOLUME_PER_ATOM = 1.0
N_OPS = 61


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

    Structure: mean over sites of matminer's CrystalNNFingerprint("ops"), within `timeout` seconds of wall time per
    crystal; composition: Magpie features. Both are null unless `status` is "ok"; other statuses: "no_geometry",
    "degenerate", "too_dense", "bad_angles" (not tried), "timeout", "crash", "error", and "not_chosen" outside the
    seeded subset of `limit` usable crystals. Equal crystals are computed once. Resumes from `work` after a kill.
    """
    table = read_table(crystals)
    rows = from_table(table)
    chosen = choose(rows, limit, seed)
    status = [_guard(row) if index in chosen else NOT_CHOSEN for index, row in enumerate(rows)]
    groups: dict[bytes, list[int]] = {}
    for index, row in enumerate(rows):
        if status[index] == "ok":
            groups.setdefault(_content(row), []).append(index)
    items = [arrays(rows[members[0]]) for members in groups.values()]
    key = content_key(crystals, timeout=timeout, limit=limit, seed=seed, matminer=version("matminer"))
    results = map_resumably(
        structure_fingerprint,
        items,
        work=work,
        key=key,
        workers=workers,
        timeout=timeout,
        label="fingerprints",
        initializer=warm_up,
    )
    found: list[list[float] | None] = [None] * len(rows)
    for members, result in zip(groups.values(), results, strict=True):
        for index in members:
            if isinstance(result, Failure):
                status[index] = result.kind
            else:
                found[index] = result
    _write(table, rows, status, found, out, timeout=str(timeout), limit=str(limit), seed=str(seed))
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
    """Returns the mean over sites of CrystalNNFingerprint("ops") (Zimmermann & Jain 2020, doi:10.1039/C9RA07755C)."""
    crystal = structure(item)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CrystalNN warns about every crystal without oxidation states
        sites = [_featurizer().featurize(crystal, site) for site in range(len(crystal))]
    mean = np.mean(np.array(sites, dtype=float), axis=0)
    if not np.isfinite(mean).all():
        raise ValueError("the fingerprint is not finite")
    return mean.tolist()


def warm_up() -> None:
    """Loads in a new worker process what would else count into its first crystal's time: ten seconds on a busy node."""
    structure_fingerprint((np.eye(3) * 3.0, np.zeros((1, 3)), np.array([29], dtype=np.uint8)))


@functools.cache
def _featurizer() -> Any:
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

    return CrystalNNFingerprint.from_preset("ops")


def _guard(crystal: Crystal) -> str:
    """Returns "ok", or why a fingerprint is not tried: CrystalNN takes minutes and gigabytes on such cells."""
    if not usable(crystal):
        flat = crystal.lattice is not None and np.isfinite(crystal.lattice).all()
        return "degenerate" if flat and volume(crystal.lattice) < MIN_VOLUME else "no_geometry"
    if volume(crystal.lattice) < MIN_VOLUME_PER_ATOM * crystal.n_atoms:
        return "too_dense"
    _, angles = lattice_to_parameters(crystal.lattice)
    return "ok" if angles.min() >= MIN_ANGLE and angles.max() <= 180.0 - MIN_ANGLE else "bad_angles"


def _content(crystal: Crystal) -> bytes:
    return b"|".join(np.ascontiguousarray(part).tobytes() for part in arrays(crystal))


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
    empty = [np.nan] * width
    values = [empty if value is None else value for value in column.to_pylist()]
    return np.array(values, dtype=float).reshape(len(values), width)
