"""Matching structures: one border to pymatgen's StructureMatcher, and the scores of crystal structure prediction."""

import functools
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.runtime.parallel import Failure
from xtalgen.runtime.resume import map_resumably
from xtalgen.structure.composition import reduced_counts
from xtalgen.structure.crystal_list import CrystalList

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


@dataclass(frozen=True)
class Matches:
    """What predictions match.

    own: displacement of each prediction to its own target, NaN without match; nearest: smallest displacement of each
    target to any prediction of the same reduced composition, NaN without match; failures: what went wrong, by row.
    """

    own: Float[np.ndarray, " predictions"]
    nearest: Float[np.ndarray, " targets"]
    failures: dict[int, str]


def match_targets(
    predictions: Sequence[Crystal],
    targets: Sequence[Crystal],
    own: Sequence[int],
    *,
    work: Path,
    key: str,
    workers: int,
    timeout: float,
    tolerances: Tolerances = CSP,
) -> Matches:
    """Returns the root mean square displacements between predictions and targets, normalised by (V/n)^(1/3).

    own: index of the target each prediction was made for. Beside its own, every target is compared with the other
    predictions of its reduced composition, for METRe (arXiv:2509.12178). Pairs of different composition cannot match
    and are not compared; neither are rows without usable geometry.
    """
    by_counts: dict[Any, list[int]] = {}
    for index in np.flatnonzero(CrystalList.of(targets).usable).tolist():
        by_counts.setdefault(reduced_counts(targets[index].atomic_numbers), []).append(index)
    pairs = [
        (row, index)
        for row in np.flatnonzero(CrystalList.of(predictions).usable).tolist()
        for index in by_counts.get(reduced_counts(predictions[row].atomic_numbers), ())
    ]
    items = [(arrays(predictions[row]), arrays(targets[index])) for row, index in pairs]
    results = map_resumably(
        functools.partial(rms_distance, tolerances=tolerances),
        items,
        work=work,
        key=key,
        workers=workers,
        timeout=timeout,
        label="match",
        initializer=warm_up,
    )
    matched = Matches(np.full(len(predictions), np.nan), np.full(len(targets), np.nan), {})
    for (row, index), result in zip(pairs, results, strict=True):
        if isinstance(result, Failure):
            matched.failures[row] = failure_class(result)
        elif result is not None:
            matched.nearest[index] = np.fmin(matched.nearest[index], result)
            if own[row] == index:
                matched.own[row] = result
    return matched


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
    """Loads in a new worker process what would else count into its first comparison's time."""
    cube = (np.eye(3) * 3.0, np.zeros((1, 3)), np.array([29], dtype=np.uint8))
    rms_distance((cube, cube))


def matcher(tolerances: Tolerances) -> Any:
    """Returns pymatgen's StructureMatcher with the tolerances, everything else as it comes."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(ltol=tolerances.ltol, stol=tolerances.stol, angle_tol=tolerances.angle_tol)


def arrays(crystal: Crystal) -> Arrays:
    """Returns the geometry of a crystal as plain arrays, cheap to send to a worker process."""
    return crystal.lattice, crystal.frac_coords, crystal.atomic_numbers


def content(item: Arrays) -> tuple[bytes, bytes, bytes]:
    """Returns what tells crystals apart that are not identical to the last digit."""
    kinds = (np.float64, np.float64, np.uint8)
    parts = [np.ascontiguousarray(part, dtype=kind).tobytes() for part, kind in zip(item, kinds, strict=True)]
    return parts[0], parts[1], parts[2]


def structure(item: Arrays) -> Any:
    """Returns the pymatgen structure of plain arrays."""
    from xtalgen.structure.pymatgen import to_structure

    return to_structure(Crystal("", "ok", *item))


def reduce(item: Arrays) -> Any:
    """Returns the structure that StructureMatcher compares: Niggli-reduced, then primitive. Not to be changed.

    The last few thousand are remembered. Raises NotComparableError when reducing or comparing it would fill the memory.
    """
    return _reduced(*content(item))


@functools.lru_cache(maxsize=REMEMBERED)
def _reduced(lattice: bytes, frac_coords: bytes, atomic_numbers: bytes) -> Any:
    numbers = np.frombuffer(atomic_numbers, dtype=np.uint8)
    candidate = structure((np.frombuffer(lattice).reshape(3, 3), np.frombuffer(frac_coords).reshape(-1, 3), numbers))
    check_comparable(candidate)
    reduced = candidate.get_reduced_structure(reduction_algo="niggli")
    # A cell that holds one formula is primitive: pymatgen finds so too, but only after two milliseconds.
    return reduced if formulas(numbers) == 1 else reduced.get_primitive_structure()


def formulas(atomic_numbers: np.ndarray) -> int:
    """Returns how many times a cell holds its reduced formula; a primitive cell holds a divisor of that."""
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


def failure_class(failure: Failure) -> str:
    """Returns the class that a failed comparison is counted in."""
    return "degenerate" if NotComparableError.__name__ in failure.message else failure.kind


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the block after so many seconds; without effect outside a process's main thread."""
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
