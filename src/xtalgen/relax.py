"""Relaxes every crystal of a table with a machine-learned potential; failures become a status, rows are never dropped.

FIRE (Bitzek et al., PRL 97, 170201, 2006) moves atoms and cell together through ASE's FrechetCellFilter. A crystal has
converged when both its largest atomic force and its largest cell force (row of the virial per atom) are at most `fmax`.
"""

import contextlib
import hashlib
import json
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.linalg  # noqa: F401 - before _start limits the threads of all loaded libraries; the cell filter uses it
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.geometry import find_mic, minkowski_reduce
from ase.optimize import FIRE
from threadpoolctl import threadpool_limits

from xtalgen import crystals, potentials
from xtalgen.crystals import Crystal
from xtalgen.devices import pick_device
from xtalgen.parallel import Failure, map_items
from xtalgen.potentials import Identity, Potential
from xtalgen.structures import wrap

# Raise the number when a change here changes results: outcomes kept from earlier runs are then computed again.
METHOD = "fire-frechet/1"
MIN_DISTANCE = 0.5  # Å, the threshold of structural validity
MIN_VOLUME = 1.0  # Å³ per atom; diamond has 5.7, and a denser cell than this costs gigabytes of neighbours
MAX_VOLUME_RATIO = 3.0
# A soft limit ends a relaxation between two steps; the hard one, which kills the process, only when that did not help.
HARD_TIMEOUT, GRACE = 1.25, 5.0

COLUMNS = {
    "initial_status": pa.string(),
    "energy": pa.float64(),
    "e_initial": pa.float64(),
    "max_force": pa.float64(),
    "converged": pa.bool_(),
    "n_steps": pa.int64(),
    "seconds": pa.float64(),
    "rmsd": pa.float64(),
    "volume_ratio": pa.float64(),
    "relax_error": pa.string(),
}


@dataclass(frozen=True)
class Settings:
    """How to relax. fmax in eV/Å; max_steps 0 evaluates the given geometry; timeout in seconds or None."""

    fmax: float
    max_steps: int
    timeout: float | None


@dataclass(frozen=True)
class Outcome:
    """What became of one crystal. Energies in eV per cell, max_force in eV/Å, rmsd in Å; None where not known.

    status: "ok", "bad_lattice", "too_close", "exploded", "unphysical_energy", "potential_failure", "timeout", "crash".
    """

    status: str
    relax_error: str | None = None
    lattice: list[list[float]] | None = None
    frac_coords: list[list[float]] | None = None
    energy: float | None = None
    e_initial: float | None = None
    max_force: float | None = None
    converged: bool = False
    n_steps: int | None = None
    seconds: float | None = None
    rmsd: float | None = None
    volume_ratio: float | None = None


def relax(
    crystals_file: Path,
    *,
    potential: str,
    fmax: float,
    max_steps: int,
    workers: int,
    timeout: float | None,
    work: Path,
    out: Path,
    device: str = "auto",
    sha256: str | None = None,
) -> None:
    """Writes the table of the relaxed crystals: same ids, same order, all columns of the input and `COLUMNS`.

    A crystal that is not "ok", or whose relaxation fails, keeps its geometry; `status` says what failed, `relax_error`
    the details. One that has not converged after `max_steps` stays "ok" with converged = false. `work` keeps every
    finished crystal, so that a killed run goes on where it stopped. Raises PotentialError and ContractError.
    """
    table = crystals.read_table(crystals_file)
    rows = crystals.from_table(table)
    identity, device = potentials.identify(potential, sha256), pick_device(device)
    settings = Settings(fmax, max_steps, timeout)
    print(f"relax: {identity.name} ({identity.version}) sha256 {identity.sha256} on {device}", file=sys.stderr)
    wanted = [row for row in rows if row.ok]
    found, n_computed = relax_all(
        wanted, identity=identity, settings=settings, workers=workers, device=device, store=work, label="relax"
    )
    outcomes = dict(zip([row.id for row in wanted], found, strict=True))
    relaxed = [_relaxed(row, outcomes.get(row.id)) for row in rows]
    metadata = {key: value for key, value in crystals.read_metadata(table).items() if key != "contract"}
    metadata |= describe(identity, settings, device)
    # Equal crystals share one outcome, which counts once.
    seconds = sum({id(outcome): outcome.seconds or 0.0 for outcome in found}.values())
    metadata |= {"n_computed": str(n_computed), "seconds": f"{seconds:.3f}"}
    kept = {field.name: field.type for field in table.schema if field.name not in crystals.GEOMETRY.names}
    crystals.write_table(crystals.to_table(relaxed, kept | COLUMNS), out, **metadata)


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
    # Long ones first, so that no worker is left alone with one at the end.
    items = sorted(pending.items(), key=lambda item: -_cost(item[1]))
    # On a GPU one process feeds the device, and only the soft limit holds.
    hard = None if device != "cpu" or settings.timeout is None else settings.timeout * HARD_TIMEOUT + GRACE
    results = map_items(
        _relax_item,
        items,
        workers=1 if device != "cpu" else workers,
        timeout=hard,
        label=label,
        initializer=_start,
        initargs=(identity, settings, device, store),
    )
    for (key, _), result in zip(items, results if items else [], strict=True):
        known[key] = result if isinstance(result, Outcome) else _lost(result, settings)
        if isinstance(result, Failure) and result.kind == "timeout":
            _append(store / f"{uuid.uuid4().hex}.jsonl", key, known[key])
    return [known[key] for key in keys], len(items)


def relax_crystal(crystal: Crystal, potential: Potential, settings: Settings) -> Outcome:
    """Returns the outcome for one crystal; whatever goes wrong is a status."""
    started = time.perf_counter()
    try:
        with potentials.quiet():
            outcome = _refuse(crystal, potential) or _optimise(crystal, potential, settings, started)
    except Exception as error:  # noqa: BLE001 - a crystal that breaks the potential is data, whatever it raises
        outcome = Outcome("potential_failure", f"{type(error).__name__}: {error}")
    return replace(outcome, seconds=time.perf_counter() - started)


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


def _refuse(crystal: Crystal, potential: Potential) -> Outcome | None:
    """Returns why a crystal is not even started, or None."""
    flaw = _flaw(crystal.lattice, crystal.frac_coords)
    if flaw:
        return Outcome("bad_lattice", flaw)
    unknown = sorted({int(number) for number in crystal.atomic_numbers} - potential.elements)
    if unknown:
        return Outcome("potential_failure", f"{potential.identity.name} does not know atomic number {unknown[0]}")
    nearest = _nearest(crystal.lattice, crystal.frac_coords)
    if nearest.min() < MIN_DISTANCE:
        return Outcome("too_close", f"two atoms {nearest.min():.3f} Å apart, less than {MIN_DISTANCE} Å")
    if nearest.max() > potential.cutoff:
        return Outcome("potential_failure", _isolated(nearest, potential))
    return None


def _flaw(lattice: np.ndarray, frac_coords: np.ndarray) -> str | None:
    if not np.isfinite(lattice).all() or not np.isfinite(frac_coords).all():
        return "lattice or coordinates are not finite"
    volume = _volume(lattice) / len(frac_coords)
    if volume < MIN_VOLUME:
        return f"{volume:.3g} Å³ per atom, less than {MIN_VOLUME} Å³"
    try:
        minkowski_reduce(lattice, pbc=True)
    except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        return f"the cell cannot be reduced ({error})"
    return None


def _optimise(crystal: Crystal, potential: Potential, settings: Settings, started: float) -> Outcome:
    atoms = Atoms(crystal.atomic_numbers, cell=crystal.lattice, scaled_positions=crystal.frac_coords, pbc=True)
    atoms.calc = potential.calculator
    optimiser = FIRE(FrechetCellFilter(atoms), logfile=None)
    e_initial = float(atoms.get_potential_energy())
    trouble = None
    # fmax = 0 leaves the end to `_max_force`: the filter's own forces are those of the undeformed cell's coordinates,
    # so they depend on the way to a state and differ a little from what the returned crystal would give.
    for _ in optimiser.irun(fmax=0.0, steps=settings.max_steps):
        trouble = _trouble(atoms, crystal, potential)
        if trouble is None and settings.timeout is not None and time.perf_counter() - started > settings.timeout:
            trouble = Outcome("timeout", f"more than {settings.timeout} s, {optimiser.nsteps} steps done")
        if trouble or _max_force(atoms) <= settings.fmax:
            break
    trouble = trouble or _overlap(atoms, potential)
    if trouble:
        return replace(trouble, e_initial=e_initial if np.isfinite(e_initial) else None, n_steps=optimiser.nsteps)
    max_force = _max_force(atoms)
    lattice = np.array(atoms.cell.array)
    frac_coords = atoms.get_positions() @ np.linalg.inv(lattice)
    return Outcome(
        "ok",
        lattice=lattice.tolist(),
        frac_coords=wrap(frac_coords).tolist(),
        energy=float(atoms.get_potential_energy()),
        e_initial=e_initial,
        max_force=max_force,
        converged=max_force <= settings.fmax,
        n_steps=optimiser.nsteps,
        rmsd=_rmsd(crystal, lattice, frac_coords),
        volume_ratio=_volume(lattice) / _volume(crystal.lattice),
    )


def _max_force(atoms: Atoms) -> float:
    """Returns the largest force on an atom or on the cell (rows of the virial per atom), in eV/Å."""
    virial = atoms.get_volume() * atoms.get_stress(voigt=False) / len(atoms)
    return float(np.linalg.norm(np.vstack([atoms.get_forces(), virial]), axis=1).max())


def _trouble(atoms: Atoms, crystal: Crystal, potential: Potential) -> Outcome | None:
    """Returns what makes it pointless to go on, or None. Costs no evaluation."""
    if not np.isfinite(atoms.cell.array).all() or not np.isfinite(atoms.positions).all():
        return Outcome("exploded", "lattice or coordinates became infinite")
    ratio = _volume(atoms.cell.array) / _volume(crystal.lattice)
    if not 1 / MAX_VOLUME_RATIO <= ratio <= MAX_VOLUME_RATIO:
        return Outcome("exploded", f"volume changed by a factor of {ratio:.3g}")
    energy = float(atoms.get_potential_energy()) / len(atoms)
    if not np.isfinite(energy) or not np.isfinite(atoms.get_forces()).all():
        return Outcome("unphysical_energy", "energy or forces are not finite")
    floor = potential.identity.energy_floor
    return Outcome("unphysical_energy", f"{energy:.3f} eV/atom, below {floor} eV/atom") if energy < floor else None


def _overlap(atoms: Atoms, potential: Potential) -> Outcome | None:
    """Returns why the final geometry is not a crystal, or None."""
    nearest = _nearest(atoms.cell.array, atoms.get_scaled_positions(wrap=True))
    if nearest.min() < MIN_DISTANCE:
        return Outcome("too_close", f"two atoms {nearest.min():.3f} Å apart after relaxation")
    return Outcome("exploded", _isolated(nearest, potential)) if nearest.max() > potential.cutoff else None


def _isolated(nearest: np.ndarray, potential: Potential) -> str:
    return f"atom {int(nearest.argmax())} has no neighbour within the cutoff of {potential.cutoff:g} Å"


def _nearest(lattice: np.ndarray, frac_coords: np.ndarray) -> np.ndarray:
    """Returns each atom's distance (Å) to its nearest neighbour, its own periodic images included."""
    reduced, _ = minkowski_reduce(lattice, pbc=True)
    n_atoms = len(frac_coords)
    distances = np.full((n_atoms, n_atoms), np.linalg.norm(reduced, axis=1).min())
    first, second = np.triu_indices(n_atoms, k=1)
    if len(first):
        _, lengths = find_mic((frac_coords[second] - frac_coords[first]) @ lattice, lattice, pbc=True)
        distances[first, second] = distances[second, first] = lengths
    return distances.min(axis=1)


def _rmsd(crystal: Crystal, lattice: np.ndarray, frac_coords: np.ndarray) -> float:
    """Returns the root mean square displacement (Å) by atom index, in the mean of both cells, drift removed."""
    mean = (crystal.lattice + lattice) / 2
    moved, _ = find_mic((frac_coords - crystal.frac_coords) @ mean, mean, pbc=True)
    return float(np.sqrt(((moved - moved.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _volume(lattice: np.ndarray) -> float:
    return float(abs(np.linalg.det(lattice)))


def _cost(crystal: Crystal) -> float:
    """Returns a number that grows with the neighbour pairs of a crystal: atoms × density."""
    volume = _volume(crystal.lattice)
    return crystal.n_atoms**2 / volume if np.isfinite(volume) and volume > 0 else 0.0


def _relaxed(row: Crystal, outcome: Outcome | None) -> Crystal:
    info: dict[str, Any] = {**row.info, **dict.fromkeys(COLUMNS), "initial_status": row.status}
    if outcome is None:
        return replace(row, info=info | {"converged": False})
    info |= {name: value for name, value in asdict(outcome).items() if name in COLUMNS}
    return replace(moved(row, outcome), info=info)


def _lost(failure: Failure, settings: Settings) -> Outcome:
    if failure.kind == "error":
        # Crystals cannot raise here; this is the potential's file, the GPU, the disk or the like.
        raise potentials.PotentialError(failure.message.removeprefix("PotentialError: "))
    seconds = settings.timeout if failure.kind == "timeout" else None
    return Outcome(failure.kind, failure.message, seconds=seconds)


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


def _relax_item(item: tuple[str, Crystal]) -> Outcome:
    if "error" in _worker:
        raise _worker["error"]
    key, crystal = item
    # chgnet writes files into the current folder when a graph fails.
    with contextlib.chdir(_worker["file"].parent):
        outcome = relax_crystal(crystal, _worker["potential"], _worker["settings"])
    if outcome.relax_error and "CUDA error" in outcome.relax_error:
        # After such a fault a process fails on everything it is given, which would pass for a poor model.
        raise RuntimeError(f"the GPU failed at {crystal.id!r}: {outcome.relax_error}. Run again; nothing is lost.")
    # Not kept: what may be the machine's fault (memory, for one) and deserves another try.
    if outcome.status != "potential_failure":
        _append(_worker["file"], key, outcome)
    return outcome


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
        for line in file.read_text().splitlines():
            try:
                key, values = json.loads(line)
                outcome = Outcome(**values)
            except (ValueError, TypeError):
                continue
            if outcome.status != "timeout" or (outcome.seconds or 0.0) >= limit:
                found[key] = outcome
    return found
