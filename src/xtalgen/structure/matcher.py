"""Matching structures: the border to pymatgen's StructureMatcher."""

import functools
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal

MAX_LATTICE_POINTS = 2_000_000
MAX_VOLUME = 1e12  # Å³
REMEMBERED = 4096  # reduced structures, some 20 kB each
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Tolerances:
    """Tolerances of StructureMatcher: fractional length, site (of the cube root of the volume per atom), degrees."""

    ltol: float
    stol: float
    angle_tol: float


CSP = Tolerances(ltol=0.3, stol=0.5, angle_tol=10.0)
SAME = Tolerances(ltol=0.2, stol=0.3, angle_tol=5.0)


class NotComparableError(ValueError):
    """A cell is so long or so large that listing its lattice vectors would fill the memory."""


def rms_distance(pair: tuple[Arrays, Arrays], tolerances: Tolerances = CSP) -> float | None:
    """Returns the normalised root mean square displacement of (prediction, target); None without match.

    That of StructureMatcher.get_rms_dist, which would reduce both again for every pair. Raises NotComparableError.
    """
    judge, (prediction, target) = matcher(tolerances), map(reduce, pair)
    if len(prediction) != len(target):
        return None
    prepared = judge._preprocess(prediction, target, skip_structure_reduction=True)  # noqa: SLF001
    found = judge._match(*prepared, use_rms=True, break_on_match=False)  # noqa: SLF001
    return None if found is None else float(found[0])


def warm_up() -> None:
    """Imports libraries in a new worker process, so that its first comparison's time limit does not include this."""
    cube = (np.eye(3) * 3.0, np.zeros((1, 3)), np.array([29], dtype=np.uint8))
    rms_distance((cube, cube))


def matcher(tolerances: Tolerances) -> Any:
    """Returns pymatgen's StructureMatcher with these tolerances and defaults otherwise."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=tolerances.ltol, stol=tolerances.stol, angle_tol=tolerances.angle_tol)


def arrays(crystal: Crystal) -> Arrays:
    """Returns the geometry of a crystal as plain arrays, cheap to send to a worker process."""
    return crystal.lattice, crystal.frac_coords, crystal.atomic_numbers


def content(item: Arrays) -> tuple[bytes, bytes, bytes]:
    """Returns a key that is equal only for crystals that are identical to the last digit."""
    kinds = (np.float64, np.float64, np.uint8)
    parts = [np.ascontiguousarray(part, dtype=kind).tobytes() for part, kind in zip(item, kinds, strict=True)]
    return parts[0], parts[1], parts[2]


def structure(item: Arrays) -> Any:
    """Returns the pymatgen structure of plain arrays."""
    from xtalgen.structure.pymatgen import to_structure

    return to_structure(Crystal("", "ok", *item))


def reduce(item: Arrays) -> Any:
    """Returns the structure that StructureMatcher compares: Niggli-reduced, then primitive. It must not be modified.

    The last few thousand are cached. Raises NotComparableError when reducing or comparing it would exhaust memory.
    """
    return _reduced(*content(item))


@functools.lru_cache(maxsize=REMEMBERED)
def _reduced(lattice: bytes, frac_coords: bytes, atomic_numbers: bytes) -> Any:
    numbers = np.frombuffer(atomic_numbers, dtype=np.uint8)
    candidate = structure((np.frombuffer(lattice).reshape(3, 3), np.frombuffer(frac_coords).reshape(-1, 3), numbers))
    check_comparable(candidate)
    reduced = candidate.get_reduced_structure(reduction_algo="niggli")
    # A cell with one formula unit is primitive; pymatgen would take two milliseconds to find out.
    return reduced if formulas(numbers) == 1 else reduced.get_primitive_structure()


def formulas(atomic_numbers: np.ndarray) -> int:
    """Returns the number of formula units in a cell; that of a primitive cell divides it."""
    return math.gcd(*np.unique(atomic_numbers, return_counts=True)[1].tolist())


def check_comparable(candidate: Any) -> None:
    """Raises NotComparableError when pymatgen would have to list too many lattice points.

    Niggli reduction and StructureMatcher both list the points within about 1.5 times the longest vector of the reduced
    cell; generated needles of 900 Å would take hours and all memory. So would cells of a million Å: the tolerance of
    pymatgen's Niggli reduction, a length that grows with the cell, is compared there with ratios of lengths.
    """
    lattice = candidate.lattice
    if lattice.volume > MAX_VOLUME:
        raise NotComparableError(f"lattice with {lattice.volume:.1e} Å³")
    if _lattice_points(lattice) <= MAX_LATTICE_POINTS:
        return
    if (points := _lattice_points(lattice.get_lll_reduced_lattice())) > MAX_LATTICE_POINTS:
        raise NotComparableError(f"lattice with {points:.1e} points within 1.5 times its longest vector")


def _lattice_points(lattice: Any) -> float:
    return 4 / 3 * math.pi * (1.5 * max(lattice.abc)) ** 3 / lattice.volume


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after this time; without effect outside a process's main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_signal: int, _frame: Any) -> None:
        raise TimeoutError(f"no result within {seconds} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
