"""Stage `embeddings`: one descriptor per crystal, for the map of the explorer.

It is the mean over atoms of the invariant features of the potential that relaxed the crystals. Without a potential it
is the pair of fingerprints that coverage compares: structure (CrystalNN) and composition (Magpie).
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import ContractError, Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.potentials.registry import identify, load_identified
from xtalgen.potentials.types import Identity, Potential
from xtalgen.runtime.devices import pick_device
from xtalgen.runtime.parallel import Failure
from xtalgen.runtime.quiet import quiet
from xtalgen.runtime.resume import clear, content_key, map_resumably
from xtalgen.structure.geometry import MIN_VOLUME_PER_ATOM, usable, volume
from xtalgen.structure.space_group import Item, space_group

METHOD = "mean-invariants/1"
FINGERPRINTS = "fingerprints"
FEW = 100  # crystals; below, loading the potential in several processes costs more than it saves
DIGITS = 6  # significant digits of a descriptor; more make no visible difference on the map


def compute_embeddings(
    crystals: Path,
    *,
    potential: str,
    out: Path,
    work: Path,
    workers: int = 1,
    timeout: float | None = None,
    device: str = "auto",
    sha256: str | None = None,
) -> None:
    """Writes a table of the same ids with `descriptor` and `spg_num` (moyo, 0.1 Å) to `out`.

    potential: its name or checkpoint, or "fingerprints" when `crystals` is a table of fingerprints. timeout: seconds of
    wall time per crystal. Both columns are null where they could not be computed; `status` says why: that of the input,
    "no_geometry", "too_dense", "unknown_element", "no_fingerprint", "potential_failure", "timeout" or "crash". Resumes
    from `work` after a kill. Raises PotentialError, and ContractError when the table is not one of crystals, or has no
    fingerprints.
    """
    table = read_table(crystals)
    rows = from_table(table)
    if potential == FINGERPRINTS:
        named, extra, compute = "structure and composition fingerprints (CrystalNN, Magpie)", {}, symmetry
        given = _fingerprints(rows, crystals)
    else:
        identity, device = identify(potential, sha256), pick_device(device)
        named = f"mean atom features of {identity.name} ({identity.version})"
        extra = {"potential_sha256": identity.sha256}
        compute, given = functools.partial(embed_crystal, identity=identity, device=device), None
        # Several processes would only compete for one GPU.
        workers = 1 if device != "cpu" or len(rows) <= FEW else workers
    status = [_guard(row) for row in rows]
    items = [_item(row) for row, state in zip(rows, status, strict=True) if state == "ok"]
    key = content_key(crystals, method=METHOD, potential=potential, timeout=timeout, **extra)
    results = iter(
        map_resumably(compute, items, work=work, key=key, workers=workers, timeout=timeout, label="embeddings")
    )
    found: list[Any] = [next(results) if state == "ok" else Failure(state, "") for state in status]
    status = [_outcome(result) for result in found]
    if given is not None:
        found, status = _with_fingerprints(given, found, status)
    _write(table, found, status, out, embedding=named, **extra)
    clear(work)


def embed_crystal(item: Item, *, identity: Identity, device: str) -> list[Any]:
    """Returns [descriptor, space group number] of a cell: None for the descriptor where an element is unknown.

    Raises ValueError when the descriptor is not finite.
    """
    potential = _potential(identity, device)
    if not set(item[2].tolist()) <= potential.elements:
        return [None, space_group(item)]
    with quiet():
        features = potential.features(Crystal("", "ok", *item))
    if not np.isfinite(features).all():
        raise ValueError("the descriptor is not finite")
    return [[float(f"{value:.{DIGITS}g}") for value in features], space_group(item)]


def symmetry(item: Item) -> list[Any]:
    """Returns [None, space group number] of a cell."""
    return [None, space_group(item)]


@functools.cache
def _potential(identity: Identity, device: str) -> Potential:
    return load_identified(identity, device)


def _item(row: Crystal) -> Item:
    return row.lattice, row.frac_coords, row.atomic_numbers


def _guard(row: Crystal) -> str:
    if not usable(row):
        return row.status if row.status != "ok" else "no_geometry"
    return "ok" if volume(row.lattice) >= MIN_VOLUME_PER_ATOM * row.n_atoms else "too_dense"


def _outcome(result: Any) -> str:
    if isinstance(result, Failure):
        return "potential_failure" if result.kind == "error" else result.kind
    return "ok"


def _fingerprints(rows: Sequence[Crystal], path: Path) -> list[list[float] | None]:
    parts = ("structure_fingerprint", "composition_fingerprint")
    if rows and parts[0] not in rows[0].info:
        raise ContractError(f"{path}: no column {parts[0]!r}. Give a table of the fingerprints stage.")
    found: list[list[Any]] = [[row.info.get(part) for part in parts] for row in rows]
    return [None if None in both else [*both[0], *both[1]] for both in found]


def _with_fingerprints(
    given: Sequence[list[float] | None], found: Sequence[Any], status: Sequence[str]
) -> tuple[list[Any], list[str]]:
    """Returns results with fingerprints as descriptors, and each status; "no_fingerprint" where there is none."""
    rows = list(zip(given, found, status, strict=True))
    return (
        [[vector, result[1]] if state == "ok" and vector is not None else result for vector, result, state in rows],
        ["no_fingerprint" if state == "ok" and vector is None else state for vector, _, state in rows],
    )


def _write(table: pa.Table, found: Sequence[Any], status: list[str], out: Path, **metadata: str) -> None:
    vectors = [None if isinstance(result, Failure) else result[0] for result in found]
    numbers = [None if isinstance(result, Failure) else result[1] or None for result in found]
    status = [
        "unknown_element" if state == "ok" and vector is None else state
        for state, vector in zip(status, vectors, strict=True)
    ]
    kept = table.select(["id", "status", "lattice", "frac_coords", "atomic_numbers"])
    columns: dict[str, tuple[pa.DataType, Sequence[Any]]] = {
        "status": (pa.string(), status),
        "descriptor": (pa.list_(pa.float32()), vectors),
        "spg_num": (pa.int64(), numbers),
    }
    carried = {name: value for name, value in read_metadata(table).items() if name in ("dataset", "set")}
    write_table(replace_columns(kept, columns), out, **carried, **metadata)
