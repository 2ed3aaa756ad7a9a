"""Energy above the convex hull of a reference evaluated with the same potential."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.structure.composition import Counts, reduced_counts
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.geometry import usable

DIGITS = 9
TOLERANCES = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


@dataclass(frozen=True)
class Phase:
    """A composition, as (atomic number, count) of one formula unit, and its energy in eV per atom."""

    counts: Counts
    energy_per_atom: float

    @property
    def system(self) -> frozenset[int]:
        """The elements, by atomic number."""
        return frozenset(number for number, _ in self.counts)


@dataclass(frozen=True)
class AboveHull:
    """Energy above the hull in eV/atom, negative below it; None with the status that says why."""

    value: float | None
    status: str


def phase_of(row: Crystal, energy: float | None) -> Phase | None:
    """Returns the phase of a crystal and its energy in eV; None where either cannot be used."""
    return phase_with(row, energy) if usable(row) else None


def phase_with(row: Crystal, energy: float | None) -> Phase | None:
    """Returns the phase of a usable crystal and its energy in eV; None where the energy cannot be used."""
    if energy is None or not np.isfinite(energy):
        return None
    return Phase(reduced_counts(row.atomic_numbers), energy / row.n_atoms)


def relaxed_well(row: Crystal) -> bool:
    """Whether a row of a relaxed table holds a relaxed structure with an energy."""
    return row.ok and row.info.get("energy") is not None and bool(np.isfinite(row.info["energy"]))


def relaxed_phases(relaxed: CrystalList) -> list[Phase | None]:
    """Returns the phase of each relaxed row on the scale of the hull; None where it was not relaxed."""
    return [
        phase_with(row, energy_for_hull(row, "energy")) if fine and relaxed_well(row) else None
        for row, fine in zip(relaxed, relaxed.usable, strict=True)
    ]


def sampled_phases(sample: CrystalList, relaxed: CrystalList) -> list[Phase | None]:
    """Returns the phase of each crystal as sampled on the scale of the hull, from its energy before relaxation."""
    return [
        phase_with(before, energy_for_hull(after, "e_initial")) if fine else None
        for before, after, fine in zip(sample, relaxed, sample.usable, strict=True)
    ]


def reference_phases(hull: CrystalList) -> list[Phase]:
    """Returns the phases of a hull's reference crystals; those without a geometry or an energy are left out."""
    rows = (row for row, fine in zip(hull, hull.usable, strict=True) if fine and relaxed_well(row))
    return [phase for row in rows if (phase := phase_with(row, row.info["energy"]))]


def energy_for_hull(row: Crystal, name: str) -> float | None:
    """Returns an energy of a relaxed row on the scale of the hull, where that is not the potential's own."""
    return row.info.get(f"hull_{name}", row.info.get(name))


def energies_above_hull(
    phases: Sequence[Phase | None], references: Sequence[Phase], *, workers: int = 1
) -> list[AboveHull]:
    """Returns the energy of each phase above the convex hull of the references alone, in eV/atom.

    A phase that would lower the hull gets a negative value.
    Status "no_energy" for None, "no_terminal" when the reference lacks a pure element, "hull_error" when the
    cheapest mixture of references was not found.
    """
    lowest = _lowest(references)
    # A hull needs the pure elements at its corners.
    terminals = {number for system in lowest if len(system) == 1 for number in system}
    rows: dict[frozenset[int], list[int]] = {}
    found = [AboveHull(None, "no_energy") for _ in phases]
    for row, phase in enumerate(phases):
        if phase is not None:
            if phase.system <= terminals:
                rows.setdefault(phase.system, []).append(row)
            else:
                found[row] = AboveHull(None, "no_terminal")
    systems = sorted(rows, key=sorted)
    tasks = [(_within(system, lowest), [phases[row] for row in rows[system]]) for system in systems]
    results = map_items(_above_hull, tasks, workers=workers, timeout=None, label="hull")
    for system, result in zip(systems, results, strict=True):
        for place, row in enumerate(rows[system]):
            failed = isinstance(result, Failure)
            found[row] = AboveHull(None, "hull_error") if failed else AboveHull(result[place], "ok")
    return found


def _lowest(references: Sequence[Phase]) -> dict[frozenset[int], list[Phase]]:
    """Returns the lowest-energy phase of each composition by chemical system; higher ones cannot touch the hull."""
    lowest: dict[Counts, Phase] = {}
    for phase in references:
        if phase.counts not in lowest or phase.energy_per_atom < lowest[phase.counts].energy_per_atom:
            lowest[phase.counts] = phase
    grouped: dict[frozenset[int], list[Phase]] = {}
    for phase in lowest.values():
        grouped.setdefault(phase.system, []).append(phase)
    return grouped


def _within(system: frozenset[int], lowest: dict[frozenset[int], list[Phase]]) -> list[Phase]:
    """Returns the phases of a system and its subsystems, by the shorter of two look-ups."""
    if 2 ** len(system) > len(lowest):
        return [phase for inner, phases in lowest.items() if inner <= system for phase in phases]
    sizes = range(1, len(system) + 1)
    subsets = (frozenset(chosen) for size in sizes for chosen in itertools.combinations(sorted(system), size))
    return [phase for subset in subsets for phase in lowest.get(subset, ())]


def _above_hull(task: tuple[list[Phase], list[Phase]]) -> list[float]:
    """Returns the energy above the hull of phases of one chemical system, given its reference phases.

    The hull's energy at a composition c (fractions of the elements) is that of the cheapest mixture of references:
    min E·x subject to C x = c, x ≥ 0. So its cost grows gently with the number of elements; that of the whole hull
    (Qhull) grows exponentially, and an untrained model likes to give each atom an element of its own.
    """
    references, phases = task
    elements = sorted(frozenset().union(*(phase.system for phase in references)))
    fractions = np.stack([_fractions(phase, elements) for phase in references], axis=1)
    energies = np.array([phase.energy_per_atom for phase in references])
    # Rounded, so that a crystal on the hull is at exactly 0 rather than ±1e-16, where "≤ 0" would be arbitrary.
    return [
        round(float(phase.energy_per_atom - _lowest_mixture(energies, fractions, _fractions(phase, elements))), DIGITS)
        for phase in phases
    ]


def _fractions(phase: Phase, elements: Sequence[int]) -> Float[np.ndarray, " elements"]:
    counts = dict(phase.counts)
    found = np.array([counts.get(number, 0) for number in elements], dtype=float)
    return found / found.sum()


def _lowest_mixture(
    energies: Float[np.ndarray, " phases"],
    fractions: Float[np.ndarray, "elements phases"],
    wanted: Float[np.ndarray, " elements"],
) -> float:
    """Returns the energy, in eV/atom, of the cheapest mixture of phases with the wanted fractions of elements."""
    from scipy.optimize import linprog

    found = linprog(energies, A_eq=fractions, b_eq=wanted, method="highs-ds", options=TOLERANCES)
    if not found.success:
        raise ArithmeticError(f"no mixture of the reference phases found: {found.message}")
    return float(found.fun)
