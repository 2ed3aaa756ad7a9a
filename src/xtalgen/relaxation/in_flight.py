"""Relaxes crystals in flight: a batch moves together, and each crystal leaves it when it is done.

A crystal has converged when both its largest atomic force and its largest cell force (row of the virial per atom) are
at most `fmax`, judged on the geometry that is returned. Whatever goes wrong is a status of the crystal concerned.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase.geometry import find_mic, minkowski_reduce

from xtalgen.crystals import Crystal
from xtalgen.potentials import registry as potentials
from xtalgen.potentials.types import Found, Geometry, Potential
from xtalgen.relaxation.fire import Motion, max_forces
from xtalgen.structure.lattice import wrap

MIN_DISTANCE = 0.5  # Å, the threshold of structural validity
MIN_VOLUME = 1.0  # Å³ per atom; diamond has 5.7, and a denser cell than this costs gigabytes of neighbours
MAX_VOLUME = 1e5  # Å³ per atom, thinner than air; the search for neighbours divides such a void into gigabytes of boxes
MAX_VOLUME_RATIO = 3.0


@dataclass(frozen=True)
class Settings:
    """How to relax. fmax in eV/Å; max_steps 0 evaluates the given geometry; timeout in seconds or None."""

    fmax: float
    max_steps: int
    timeout: float | None


@dataclass(frozen=True)
class Outcome:
    """What became of one crystal. Energies in eV per cell, max_force in eV/Å, rmsd in Å; None where not known.

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
    settings: Settings,
    *,
    finished: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Returns one outcome per crystal, in order; `finished` hears of each as soon as it is there.

    As many crystals move together as fit into `potential.capacity` (the sum of their `cost`). When the potential runs
    out of memory the batch begins again in two halves; when it fails, each of the batch goes on alone, so that only
    the culprit fails. Raises RuntimeError when the GPU is broken: everything would fail after that.
    """
    flight = _Flight(crystals, potential, settings, finished)
    with potentials.quiet():
        flight.run()
    return [flight.outcomes[place] for place in range(len(crystals))]


def cost(crystal: Crystal) -> float:
    """Returns a number that grows with the neighbour pairs of a crystal: atoms × atoms per Å³."""
    volume = _volume(crystal.lattice)
    return crystal.n_atoms**2 / volume if np.isfinite(volume) and volume > 0 else 0.0


@dataclass
class _Passenger:
    place: int
    crystal: Crystal
    steps: int = 0
    seconds: float = 0.0
    e_initial: float | None = None


@dataclass
class _Flight:
    crystals: Sequence[Crystal]
    potential: Potential
    settings: Settings
    finished: Callable[[int, Outcome], None] | None
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    aboard: list[_Passenger] = field(default_factory=list)

    def run(self) -> None:
        self.capacity = self.potential.capacity
        self.queue = deque(range(len(self.crystals)))
        self.motion = Motion.of([])
        while self.queue or self.aboard:
            self._board()
            if self.aboard:
                self._move()

    def _board(self) -> None:
        """Fills the batch with waiting crystals, leaving out those that need not be started."""
        joining: list[_Passenger] = []
        load = sum(cost(passenger.crystal) for passenger in self.aboard)
        while self.queue and not any(passenger.place in self.alone for passenger in (*self.aboard, *joining)):
            place = self.queue[0]
            crystal = self.crystals[place]
            try:
                hopeless = refused(crystal, self.potential)
            except Exception as error:  # noqa: BLE001 - a crystal that breaks the checks is data, whatever they raise
                hopeless = Outcome("potential_failure", f"{type(error).__name__}: {error}")
            if hopeless:
                self.queue.popleft()
                self._land(_Passenger(place, crystal), hopeless)
                continue
            full = load + cost(crystal) > self.capacity or place in self.alone
            if full and (self.aboard or joining):
                break
            joining.append(_Passenger(self.queue.popleft(), crystal))
            load += cost(crystal)
        if joining:
            self.motion = self.motion.joined(Motion.of([passenger.crystal for passenger in joining]))
            self.aboard += joining

    def _move(self) -> None:
        started = time.perf_counter()
        geometry = self.motion.geometry()
        try:
            found = self.potential.evaluate(geometry)
        except Exception as error:  # noqa: BLE001 - a crystal that breaks the potential is data, whatever it raises
            self._fail(error)
            return
        forces = max_forces(geometry, found)
        seconds = time.perf_counter() - started
        staying = np.ones(len(self.aboard), dtype=bool)
        total = float(geometry.n_atoms.sum())
        for row, passenger in enumerate(self.aboard):
            passenger.seconds += seconds * float(geometry.n_atoms[row]) / total
            if passenger.e_initial is None:
                passenger.e_initial = float(found.energy[row])
            outcome = self._judge(row, passenger, geometry, found, float(forces[row]))
            if outcome is not None:
                staying[row] = False
                self._land(passenger, outcome)
        if staying.all():
            self.motion.step(found)
        else:
            left = np.repeat(staying, geometry.n_atoms)
            self.motion = self.motion.kept(staying)
            self.aboard = [passenger for passenger, stays in zip(self.aboard, staying, strict=True) if stays]
            self.motion.step(Found(found.energy[staying], found.forces[left], found.stress[staying]))
        for passenger in self.aboard:
            passenger.steps += 1

    def _judge(
        self, row: int, passenger: _Passenger, geometry: Geometry, found: Found, max_force: float
    ) -> Outcome | None:
        """Returns the outcome of a crystal that is done, or None."""
        settings, lattice = self.settings, geometry.lattices[row]
        atoms = geometry.slices[row]
        positions, energy = geometry.positions[atoms], float(found.energy[row])
        finite = bool(np.isfinite(found.forces[atoms]).all())
        trouble = _trouble(lattice, positions, energy if finite else float("nan"), passenger.crystal, self.potential)
        if trouble is None and settings.timeout is not None and passenger.seconds > settings.timeout:
            trouble = Outcome("timeout", f"more than {settings.timeout} s, {passenger.steps} steps done")
        converged = max_force <= settings.fmax
        if trouble is None and not converged and passenger.steps < settings.max_steps:
            return None
        frac_coords = None if trouble else positions @ np.linalg.inv(lattice)
        trouble = trouble or _overlap(lattice, frac_coords, self.potential)
        if trouble:
            return trouble
        return Outcome(
            "ok",
            lattice=lattice.tolist(),
            frac_coords=wrap(frac_coords).tolist(),
            energy=energy,
            max_force=max_force,
            converged=converged,
            rmsd=_rmsd(passenger.crystal, lattice, frac_coords),
            volume_ratio=_volume(lattice) / _volume(passenger.crystal.lattice),
        )

    def _land(self, passenger: _Passenger, outcome: Outcome) -> None:
        known = passenger.e_initial is not None and bool(np.isfinite(passenger.e_initial))
        if passenger.e_initial is not None:
            outcome = replace(outcome, n_steps=passenger.steps, e_initial=passenger.e_initial if known else None)
        outcome = replace(outcome, seconds=passenger.seconds)
        self.outcomes[passenger.place] = outcome
        if self.finished:
            self.finished(passenger.place, outcome)

    def _fail(self, error: Exception) -> None:
        """Lets everybody in the batch begin again, in two halves or alone; one who was alone has failed."""
        message = f"{type(error).__name__}: {error}"
        no_memory = isinstance(error, MemoryError) or "out of memory" in message.lower()
        if "CUDA error" in message and not no_memory:
            first = self.aboard[0].crystal.id
            raise RuntimeError(f"the GPU failed at {first!r}: {message}. Run again; nothing is lost.") from error
        places = [passenger.place for passenger in self.aboard]
        if len(places) == 1:
            status = "out_of_memory" if no_memory else "potential_failure"
            self._land(self.aboard[0], Outcome(status, message))
        else:
            if no_memory:
                self.capacity = sum(cost(self.crystals[place]) for place in places) / 2
            else:
                self.alone.update(places)
            self.queue.extendleft(reversed(places))
        self.aboard, self.motion = [], Motion.of([])


def refused(crystal: Crystal, potential: Potential) -> Outcome | None:
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
    if volume > MAX_VOLUME:
        return f"{volume:.3g} Å³ per atom, more than {MAX_VOLUME:g} Å³"
    try:
        minkowski_reduce(lattice, pbc=True)
    except (RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        return f"the cell cannot be reduced ({error})"
    return None


def _trouble(
    lattice: np.ndarray, positions: np.ndarray, energy: float, crystal: Crystal, potential: Potential
) -> Outcome | None:
    """Returns what makes it pointless to go on, or None. Costs no evaluation."""
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
    """Returns why the final geometry is not a crystal, or None."""
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
