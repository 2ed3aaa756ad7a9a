"""In-flight batching: crystals relax together in a batch, and a finished crystal makes room for the next one.

A crystal has converged when both its largest atomic force and its largest cell force (row of the virial per atom) are
at most `fmax`, both computed at the geometry that is returned. Every failure is a status of the crystal concerned.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase.geometry import find_mic, minkowski_reduce

from xtalgen.crystals import Crystal
from xtalgen.potentials.types import Geometry, Potential, Prediction
from xtalgen.relaxation.fire import Motion, max_forces
from xtalgen.runtime.quiet import quiet
from xtalgen.structure.geometry import MIN_DISTANCE, MIN_VOLUME_PER_ATOM
from xtalgen.structure.lattice import wrap

MAX_VOLUME = 1e5  # Å³ per atom, less dense than air; the neighbour search would divide it into gigabytes of boxes
MAX_VOLUME_RATIO = 3.0


@dataclass(frozen=True)
class RelaxConfig:
    """Settings of a relaxation.

    fmax in eV/Å; max_steps 0 evaluates the given geometry; timeout in seconds per crystal or None.
    """

    fmax: float
    max_steps: int
    timeout: float | None


@dataclass(frozen=True)
class Outcome:
    """The result of relaxing one crystal. Energies in eV per cell, max_force in eV/Å, rmsd in Å; None where unknown.

    status: "ok", "bad_lattice", "too_close", "exploded", "unphysical_energy", "potential_failure", "out_of_memory",
    "timeout", "crash".
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


def relax_crystals(
    crystals: Sequence[Crystal],
    potential: Potential,
    config: RelaxConfig,
    *,
    finished: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Returns one outcome per crystal, in order; `finished` is called with the index and outcome of each.

    As many crystals move together as fit into `potential.capacity` (the sum of their `cost`). When the potential runs
    out of memory, the batch is restarted in halves; when it fails, each crystal of the batch is restarted alone, so
    that only the culprit fails. Raises RuntimeError when the GPU fails, since all later evaluations would fail too.
    """
    batch = _InFlightBatch(crystals, potential, config, finished)
    with quiet():
        batch.run()
    return [batch.outcomes[index] for index in range(len(crystals))]


def cost(crystal: Crystal) -> float:
    """Returns a number that grows with the neighbour pairs of a crystal: atoms x atoms per Å³."""
    volume = _volume(crystal.lattice)
    return crystal.n_atoms**2 / volume if np.isfinite(volume) and volume > 0 else 0.0


@dataclass
class _Relaxation:
    """One crystal's relaxation; seconds: its share, by number of atoms, of the time of its batches."""

    index: int
    crystal: Crystal
    steps: int = 0
    seconds: float = 0.0
    e_initial: float | None = None


@dataclass
class _InFlightBatch:
    """Crystals in the batch (`active`, in the order of `motion`), and the indices of waiting ones.

    alone: indices of crystals that are evaluated singly, since a batch that contained them failed.
    """

    crystals: Sequence[Crystal]
    potential: Potential
    config: RelaxConfig
    finished: Callable[[int, Outcome], None] | None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    active: list[_Relaxation] = field(default_factory=list)

    def run(self) -> None:
        self.capacity = self.potential.capacity
        self.waiting = deque(range(len(self.crystals)))
        self.motion = Motion.of([])
        while self.waiting or self.active:
            self._fill()
            if self.active:
                self._step()

    def _fill(self) -> None:
        """Fills the batch with waiting crystals, except those that cannot be started."""
        joining: list[_Relaxation] = []
        load = sum(cost(relaxation.crystal) for relaxation in self.active)
        while self.waiting and not any(one.index in self.alone for one in (*self.active, *joining)):
            index = self.waiting[0]
            crystal = self.crystals[index]
            try:
                refusal = refused(crystal, self.potential)
            except Exception as error:  # noqa: BLE001 - a crystal that breaks the checks is data, whatever they raise
                refusal = Outcome("potential_failure", f"{type(error).__name__}: {error}")
            if refusal:
                self.waiting.popleft()
                self._finish(_Relaxation(index, crystal), refusal)
                continue
            # A crystal larger than the capacity still runs, but alone.
            full = load + cost(crystal) > self.capacity or index in self.alone
            if full and (self.active or joining):
                break
            joining.append(_Relaxation(self.waiting.popleft(), crystal))
            load += cost(crystal)
        if joining:
            self.motion = self.motion.joined(Motion.of([relaxation.crystal for relaxation in joining]))
            self.active += joining

    def _step(self) -> None:
        """Evaluates the batch, removes finished crystals, and moves the others by one FIRE step."""
        started = time.perf_counter()
        geometry = self.motion.geometry()
        try:
            prediction = self.potential.evaluate(geometry)
        except Exception as error:  # noqa: BLE001 - a crystal that breaks the potential is data, whatever it raises
            self._restart(error)
            return
        forces = max_forces(geometry, prediction)
        seconds = time.perf_counter() - started
        staying = np.ones(len(self.active), dtype=bool)
        n_atoms = float(geometry.n_atoms.sum())
        for row, relaxation in enumerate(self.active):
            # Shares of the batch's time, so that the time limit of a crystal does not depend on its company.
            relaxation.seconds += seconds * float(geometry.n_atoms[row]) / n_atoms
            if relaxation.e_initial is None:
                relaxation.e_initial = float(prediction.energy[row])
            # Judged before the step: energy, forces and geometry of an outcome belong together.
            outcome = self._outcome(row, relaxation, geometry, prediction, float(forces[row]))
            if outcome is not None:
                staying[row] = False
                self._finish(relaxation, outcome)
        if not staying.all():
            atoms = np.repeat(staying, geometry.n_atoms)
            self.motion = self.motion.kept(staying)
            self.active = [relaxation for relaxation, stays in zip(self.active, staying, strict=True) if stays]
            prediction = Prediction(prediction.energy[staying], prediction.forces[atoms], prediction.stress[staying])
        self.motion.step(prediction)
        for relaxation in self.active:
            relaxation.steps += 1

    def _outcome(
        self, row: int, relaxation: _Relaxation, geometry: Geometry, prediction: Prediction, max_force: float
    ) -> Outcome | None:
        """Returns the outcome of a finished crystal, None for others."""
        config, lattice = self.config, geometry.lattices[row]
        atoms = geometry.slices[row]
        positions, energy = geometry.positions[atoms], float(prediction.energy[row])
        finite = bool(np.isfinite(prediction.forces[atoms]).all())
        failure = _failure(lattice, positions, energy if finite else float("nan"), relaxation.crystal, self.potential)
        if failure is None and config.timeout is not None and relaxation.seconds > config.timeout:
            failure = Outcome("timeout", f"more than {config.timeout} s, {relaxation.steps} steps done")
        converged = max_force <= config.fmax
        if failure is None and not converged and relaxation.steps < config.max_steps:
            return None
        if failure:
            return failure
        frac_coords = positions @ np.linalg.inv(lattice)
        if failure := _overlap(lattice, frac_coords, self.potential):
            return failure
        return Outcome(
            "ok",
            lattice=lattice.tolist(),
            frac_coords=wrap(frac_coords).tolist(),
            energy=energy,
            max_force=max_force,
            converged=converged,
            rmsd=_rmsd(relaxation.crystal, lattice, frac_coords),
            volume_ratio=_volume(lattice) / _volume(relaxation.crystal.lattice),
        )

    def _finish(self, relaxation: _Relaxation, outcome: Outcome) -> None:
        known = relaxation.e_initial is not None and bool(np.isfinite(relaxation.e_initial))
        if relaxation.e_initial is not None:
            outcome = replace(outcome, n_steps=relaxation.steps, e_initial=relaxation.e_initial if known else None)
        outcome = replace(outcome, seconds=relaxation.seconds)
        self.outcomes[relaxation.index] = outcome
        if self.finished:
            self.finished(relaxation.index, outcome)

    def _restart(self, error: Exception) -> None:
        """Restarts the batch in halves or singly; a crystal that was already alone has failed."""
        message = f"{type(error).__name__}: {error}"
        no_memory = isinstance(error, MemoryError) or "out of memory" in message.lower()
        if "CUDA error" in message and not no_memory:
            first = self.active[0].crystal.id
            raise RuntimeError(f"the GPU failed at {first!r}: {message}. Run again; nothing is lost.") from error
        indices = [relaxation.index for relaxation in self.active]
        if len(indices) == 1:
            status = "out_of_memory" if no_memory else "potential_failure"
            self._finish(self.active[0], Outcome(status, message))
        else:
            if no_memory:
                # Half of what did not fit; waiting crystals keep their order.
                self.capacity = sum(cost(self.crystals[index]) for index in indices) / 2
            else:
                self.alone.update(indices)
            self.waiting.extendleft(reversed(indices))
        self.active, self.motion = [], Motion.of([])


def refused(crystal: Crystal, potential: Potential) -> Outcome | None:
    """Returns the failure of a crystal that cannot be started, or None."""
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
    if volume < MIN_VOLUME_PER_ATOM:
        return f"{volume:.3g} Å³ per atom, less than {MIN_VOLUME_PER_ATOM} Å³"
    if volume > MAX_VOLUME:
        return f"{volume:.3g} Å³ per atom, more than {MAX_VOLUME:g} Å³"
    try:
        minkowski_reduce(lattice, pbc=True)
    except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        return f"the cell cannot be reduced ({error})"
    return None


def _failure(
    lattice: np.ndarray, positions: np.ndarray, energy: float, crystal: Crystal, potential: Potential
) -> Outcome | None:
    """Returns the failure that ends a relaxation, or None. Needs no further evaluation."""
    if not np.isfinite(lattice).all() or not np.isfinite(positions).all():
        return Outcome("exploded", "lattice or coordinates became infinite")
    ratio = _volume(lattice) / _volume(crystal.lattice)
    if not 1 / MAX_VOLUME_RATIO <= ratio <= MAX_VOLUME_RATIO:
        return Outcome("exploded", f"volume changed by a factor of {ratio:.3g}")
    per_atom = energy / crystal.n_atoms
    if not np.isfinite(per_atom):
        return Outcome("unphysical_energy", "energy or forces are not finite")
    floor = potential.identity.energy_floor
    return Outcome("unphysical_energy", f"{per_atom:.3f} eV/atom, below {floor} eV/atom") if per_atom < floor else None


def _overlap(lattice: np.ndarray, frac_coords: np.ndarray, potential: Potential) -> Outcome | None:
    """Returns the failure of a final geometry that is not a crystal, or None."""
    nearest = _nearest(lattice, wrap(frac_coords))
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
