"""Resumable relaxation of many crystals: duplicates once, outcomes stored on disk, batches in several processes."""

import contextlib
import hashlib
import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - before _initialise limits the threads of all loaded libraries
from threadpoolctl import threadpool_limits

from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import Identity, PotentialError
from xtalgen.relaxation.in_flight import Outcome, RelaxConfig, cost, relax_crystals
from xtalgen.runtime.atomic import seal, unseal
from xtalgen.runtime.parallel import Failure, map_items

log = logging.getLogger(__name__)
# Increase the number when a change affects results, so that stored outcomes are computed again.
METHOD = "fire-frechet/2"
LEFT_HANDED = "right-handed basis"  # part of the key of left-handed cells, whose earlier outcomes may be wrong
# The soft limit ends a relaxation between two steps. The hard limit kills a process that exceeded it.
HARD_TIMEOUT, GRACE = 1.25, 5.0
BATCH = 32  # crystals per task of a process, on a CPU


def relax_all(
    rows: Sequence[Crystal],
    *,
    identity: Identity,
    config: RelaxConfig,
    workers: int,
    device: str,
    store: Path,
    label: str,
) -> tuple[list[Outcome], int]:
    """Returns one outcome per crystal, in order, and the number computed in this call; all rows must be "ok".

    Equal crystals are relaxed once. Each outcome is written to the folder `store` at once, under a key of geometry,
    potential and settings: jobs may share the folder, and a killed job loses only the crystals that it was relaxing.
    Raises PotentialError when the potential cannot be loaded.
    """
    store.mkdir(parents=True, exist_ok=True)
    known = _read_store(store, config)
    keys = [_key(row, identity, config, device) for row in rows]
    pending = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
    run: dict[str, Any] = {"workers": workers, "device": device, "store": store, "identity": identity, "config": config}
    # Expensive crystals first, to balance the load. A batch that hung or died is split up.
    items = sorted(pending.items(), key=lambda item: -cost(item[1]))
    undone = _relax_batches(_batches(items, workers, device), label, known, **run)
    shared = [[item] for item, _, alone in undone if not alone]
    lost = [entry for entry in undone if entry[2]] + _relax_batches(shared, f"{label}: one by one", known, **run)
    for (key, _), failure, _ in lost:
        known[key] = Outcome(failure.kind, failure.message, seconds=config.timeout)
        if failure.kind == "timeout":
            _append(store / f"{uuid.uuid4().hex}.jsonl", key, known[key])
    return [known[key] for key in keys], len(items)


Item = tuple[str, Crystal]


def _batches(items: Sequence[Item], workers: int, device: str) -> list[list[Item]]:
    """Returns the items in batches: one for a GPU, which batches them in flight; several per process on a CPU."""
    if device != "cpu":
        return [list(items)] if items else []
    size = max(1, min(BATCH, -(-len(items) // (4 * workers))))
    return [list(items[first : first + size]) for first in range(0, len(items), size)]


def _relax_batches(
    batches: Sequence[Sequence[Item]],
    label: str,
    known: dict[str, Outcome],
    *,
    workers: int,
    device: str,
    store: Path,
    identity: Identity,
    config: RelaxConfig,
) -> list[tuple[Item, Failure, bool]]:
    """Adds the outcomes of batches to `known`; returns the unfinished items of processes that hung or died.

    Each comes with the failure and with whether it was alone in its batch. Raises PotentialError when a worker could
    not start.
    """
    if not batches:
        return []
    # On a GPU a single process runs, and only the soft limit applies.
    soft = None if device != "cpu" else config.timeout
    longest = max(len(batch) for batch in batches)
    results = map_items(
        _relax_batch,
        batches,
        workers=1 if device != "cpu" else workers,
        timeout=None if soft is None else (soft * HARD_TIMEOUT) * longest + GRACE,
        label=label,
        initializer=_initialise,
        initargs=(identity, config, device, store),
    )
    undone = []
    for batch, result in zip(batches, results, strict=True):
        if isinstance(result, Failure):
            if result.kind == "error":
                # Crystals do not raise here: the cause is the potential's file, the GPU, the disk or similar.
                raise PotentialError(result.message.removeprefix("PotentialError: "))
            kept = _read_store(store, config)
            known |= {key: kept[key] for key, _ in batch if key in kept}
            undone += [(item, result, len(batch) == 1) for item in batch if item[0] not in kept]
        else:
            known |= dict(zip((key for key, _ in batch), result, strict=True))
    return undone


def energy_metadata(identity: Identity, config: RelaxConfig, device: str) -> dict[str, str]:
    """Returns the metadata of a table of energies."""
    return {
        "potential": identity.name,
        "potential_sha256": identity.sha256,
        "potential_version": identity.version,
        "potential_licence": identity.licence,
        "fmax": str(config.fmax),
        "max_steps": str(config.max_steps),
        "device": device,
    }


def moved(row: Crystal, outcome: Outcome) -> Crystal:
    """Returns the crystal with the status of the outcome, and with its geometry where it has one."""
    if outcome.lattice is None:
        return replace(row, status=outcome.status)
    lattice, frac_coords = np.array(outcome.lattice), np.array(outcome.frac_coords)
    return replace(row, status=outcome.status, lattice=lattice, frac_coords=frac_coords)


_worker: dict[str, Any] = {}


def _initialise(identity: Identity, config: RelaxConfig, device: str, store: Path) -> None:
    """Initialises a worker; errors are re-raised on the first item, since the pool restarts workers that fail here."""
    _worker.clear()
    _worker.update(config=config, file=(store / f"{uuid.uuid4().hex}.jsonl").absolute())
    # The cell filter's 3 × 3 matrices are 15 times slower on two BLAS threads than on one.
    threadpool_limits(1)
    try:
        import torch

        if device == "cpu":
            torch.set_num_threads(1)
        _worker["potential"] = registry.load_identified(identity, device)
    except Exception as error:  # noqa: BLE001 - re-raised by _relax_batch
        _worker["error"] = error


def _relax_batch(batch: Sequence[Item]) -> list[Outcome]:
    if "error" in _worker:
        raise _worker["error"]

    def keep(index: int, outcome: Outcome) -> None:
        # Failures that may be due to the machine, such as lack of memory, are not stored, as they may not recur.
        if outcome.status not in ("potential_failure", "out_of_memory"):
            _append(_worker["file"], batch[index][0], outcome)

    # chgnet writes files into the current folder when a graph cannot be built.
    with contextlib.chdir(_worker["file"].parent):
        crystals = [crystal for _, crystal in batch]
        return relax_crystals(crystals, _worker["potential"], _worker["config"], finished=keep)


def _key(crystal: Crystal, identity: Identity, config: RelaxConfig, device: str) -> str:
    recipe = [METHOD, identity.sha256, identity.version, identity.dtype, config.fmax, config.max_steps, device]
    if np.linalg.det(crystal.lattice) < 0:
        recipe.append(LEFT_HANDED)
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for array, kind in ((crystal.lattice, "<f8"), (crystal.frac_coords, "<f8"), (crystal.atomic_numbers, "u1")):
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()


def _append(file: Path, key: str, outcome: Outcome) -> None:
    # One file per process and one line per crystal: no lock is needed, and a kill can only truncate the last line.
    with file.open("a", encoding="utf-8") as stream:
        stream.write(seal([key, asdict(outcome)]) + "\n")


def _read_store(store: Path, config: RelaxConfig) -> dict[str, Outcome]:
    """Returns the outcomes stored in a folder, without damaged lines and timeouts under a shorter limit than now."""
    found: dict[str, Outcome] = {}
    limit = float("inf") if config.timeout is None else config.timeout
    for file in sorted(store.glob("*.jsonl")):
        damaged = 0
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                # Lines of earlier versions are plain JSON.
                key, values = json.loads(line) if line.startswith("[") else unseal(line)
                outcome = Outcome(**values)
            except (ValueError, TypeError):
                damaged += 1
                continue
            if outcome.status != "timeout" or (outcome.seconds or 0.0) >= limit:
                found[key] = outcome
        if damaged:
            log.warning("%s: %d lines are damaged; their crystals are computed again", file, damaged)
    return found
