"""Relaxes many crystals resumably: each once, finished ones kept on disk, batches dealt out to processes."""

import contextlib
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - before _start limits the threads of all loaded libraries
from threadpoolctl import threadpool_limits

from xtalgen.crystals import Crystal
from xtalgen.potentials import registry as potentials
from xtalgen.potentials.types import Identity
from xtalgen.relaxation.in_flight import Outcome, Settings, cost, relax_crystals
from xtalgen.runtime.parallel import Failure, map_items

# Raise the number when a change here changes results: outcomes kept from earlier runs are then computed again.
METHOD = "fire-frechet/2"
# A soft limit ends a relaxation between two steps; the hard one, which kills the process, only when that did not help.
HARD_TIMEOUT, GRACE = 1.25, 5.0
BATCH = 32  # crystals that a process is given at once, on a CPU


def relax_all(
    rows: Sequence[Crystal],
    *,
    identity: Identity,
    settings: Settings,
    workers: int,
    device: str,
    store: Path,
    label: str,
) -> tuple[list[Outcome], int]:
    """Returns one outcome per crystal that is "ok", in order, and how many of them had to be computed now.

    Equal crystals are relaxed once. Outcomes are kept in the folder `store` under a key of geometry, potential and
    settings, each as soon as it is there: jobs may share the folder, and a killed one loses only what it was at.
    Raises PotentialError when the potential cannot be loaded.
    """
    store.mkdir(parents=True, exist_ok=True)
    known = _read_store(store, settings)
    keys = [_key(row, identity, settings, device) for row in rows]
    pending = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
    run: dict[str, Any] = {
        "workers": workers,
        "device": device,
        "store": store,
        "identity": identity,
        "settings": settings,
    }
    # Costly ones first, so that no worker is left alone with them at the end. A batch that hung or died is taken apart.
    items = sorted(pending.items(), key=lambda item: -cost(item[1]))
    undone = _relax_batches(_batches(items, workers, device), label, known, **run)
    shared = [[item] for item, _, alone in undone if not alone]
    lost = [entry for entry in undone if entry[2]] + _relax_batches(shared, f"{label}: one by one", known, **run)
    for (key, _), failure, _ in lost:
        known[key] = Outcome(failure.kind, failure.message, seconds=settings.timeout)
        if failure.kind == "timeout":
            _append(store / f"{uuid.uuid4().hex}.jsonl", key, known[key])
    return [known[key] for key in keys], len(items)


Item = tuple[str, Crystal]


def _batches(items: Sequence[Item], workers: int, device: str) -> list[list[Item]]:
    """Returns the items in batches: one for a GPU, which takes in as many as it holds; several for each process."""
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
    settings: Settings,
) -> list[tuple[Item, Failure, bool]]:
    """Adds the outcomes of batches to `known`; returns what a process that hung or died left undone, and whether alone.

    Raises PotentialError when a process could not work at all.
    """
    if not batches:
        return []
    # On a GPU one process feeds the device, and only the soft limit holds.
    soft = None if device != "cpu" else settings.timeout
    longest = max(len(batch) for batch in batches)
    results = map_items(
        _relax_batch,
        batches,
        workers=1 if device != "cpu" else workers,
        timeout=None if soft is None else (soft * HARD_TIMEOUT) * longest + GRACE,
        label=label,
        initializer=_start,
        initargs=(identity, settings, device, store),
    )
    undone = []
    for batch, result in zip(batches, results, strict=True):
        if isinstance(result, Failure):
            if result.kind == "error":
                # Crystals cannot raise here; this is the potential's file, the GPU, the disk or the like.
                raise potentials.PotentialError(result.message.removeprefix("PotentialError: "))
            kept = _read_store(store, settings)
            known |= {key: kept[key] for key, _ in batch if key in kept}
            undone += [(item, result, len(batch) == 1) for item in batch if item[0] not in kept]
        else:
            known |= dict(zip((key for key, _ in batch), result, strict=True))
    return undone


def describe(identity: Identity, settings: Settings, device: str) -> dict[str, str]:
    """Returns the metadata that tables of energies carry."""
    return {
        "potential": identity.name,
        "potential_sha256": identity.sha256,
        "potential_version": identity.version,
        "potential_licence": identity.licence,
        "fmax": str(settings.fmax),
        "max_steps": str(settings.max_steps),
        "device": device,
    }


def moved(row: Crystal, outcome: Outcome) -> Crystal:
    """Returns the crystal with the outcome's status, and its geometry where there is one."""
    if outcome.lattice is None:
        return replace(row, status=outcome.status)
    lattice, frac_coords = np.array(outcome.lattice), np.array(outcome.frac_coords)
    return replace(row, status=outcome.status, lattice=lattice, frac_coords=frac_coords)


_worker: dict[str, Any] = {}


def _start(identity: Identity, settings: Settings, device: str, store: Path) -> None:
    """Readies a process. It must not raise, or the pool would restart it for ever: errors wait for the first item."""
    _worker.clear()
    _worker.update(settings=settings, file=(store / f"{uuid.uuid4().hex}.jsonl").absolute())
    # The cell filter's 3 × 3 matrices are 15 times slower on two BLAS threads than on one.
    threadpool_limits(1)
    try:
        import torch

        if device == "cpu":
            torch.set_num_threads(1)
        _worker["potential"] = potentials.load_identified(identity, device)
    except Exception as error:  # noqa: BLE001 - raised again by _relax_item
        _worker["error"] = error


def _relax_batch(batch: Sequence[Item]) -> list[Outcome]:
    if "error" in _worker:
        raise _worker["error"]

    def keep(place: int, outcome: Outcome) -> None:
        # Not kept: what may be the machine's fault (memory, for one) and deserves another try.
        if outcome.status not in ("potential_failure", "out_of_memory"):
            _append(_worker["file"], batch[place][0], outcome)

    # chgnet writes files into the current folder when a graph fails.
    with contextlib.chdir(_worker["file"].parent):
        crystals_of = [crystal for _, crystal in batch]
        return relax_crystals(crystals_of, _worker["potential"], _worker["settings"], finished=keep)


def _key(crystal: Crystal, identity: Identity, settings: Settings, device: str) -> str:
    recipe = [METHOD, identity.sha256, identity.version, identity.dtype, settings.fmax, settings.max_steps, device]
    digest = hashlib.sha256(json.dumps(recipe).encode())
    for array, kind in ((crystal.lattice, "<f8"), (crystal.frac_coords, "<f8"), (crystal.atomic_numbers, "u1")):
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()


def _append(file: Path, key: str, outcome: Outcome) -> None:
    # One file per process and one line per crystal: nothing to lock, and a kill can only tear the last line.
    with file.open("a") as stream:
        stream.write(json.dumps([key, asdict(outcome)]) + "\n")


def _read_store(store: Path, settings: Settings) -> dict[str, Outcome]:
    """Returns the outcomes kept in a folder, less torn lines and timeouts under a shorter limit than today's."""
    found: dict[str, Outcome] = {}
    limit = float("inf") if settings.timeout is None else settings.timeout
    for file in sorted(store.glob("*.jsonl")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                key, values = json.loads(line)
                outcome = Outcome(**values)
            except (ValueError, TypeError):
                continue
            if outcome.status != "timeout" or (outcome.seconds or 0.0) >= limit:
                found[key] = outcome
    return found
