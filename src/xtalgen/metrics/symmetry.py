"""Symmetry of a set: share of P1, number of space groups, distance of their distribution to the test split."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from xtalgen.crystals import Crystal
from xtalgen.metrics.statistics.intervals import Bootstrap, Estimate, missing, rate
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.structure.crystal_list import CrystalList
from xtalgen.structure.geometry import MIN_VOLUME_PER_ATOM, volume
from xtalgen.structure.matcher import arrays, content
from xtalgen.structure.space_group import space_group

GROUPS = 231  # 1 to 230, and 0 for none
SECONDS = 20.0


def space_groups(crystals: Sequence[Crystal], *, workers: int) -> list[int | None]:
    """Returns the number of the space group of each crystal; None without geometry or where none is found.

    Equal rows are computed once; each has a wall limit of 20 s where there are worker processes.
    """
    places: dict[tuple[bytes, ...], list[int]] = {}
    crystals = CrystalList.of(crystals)
    for row in np.flatnonzero(crystals.usable).tolist():
        crystal = crystals[row]
        if volume(crystal.lattice) >= MIN_VOLUME_PER_ATOM * crystal.n_atoms:
            places.setdefault(content(arrays(crystal)), []).append(row)
    items = [arrays(crystals[rows[0]]) for rows in places.values()]
    timeout = None if workers == 1 else SECONDS
    results = map_items(space_group, items, workers=workers, timeout=timeout, label="space groups")
    found: list[int | None] = [None] * len(crystals)
    for rows, result in zip(places.values(), results, strict=True):
        for row in rows:
            found[row] = None if isinstance(result, Failure) else result or None
    return found


def symmetry_metrics(found: Sequence[int | None], references: Sequence[int | None]) -> dict[str, Estimate | Bootstrap]:
    """Returns the metrics of the space groups found in a set, compared with those of the test split."""
    groups, expected = (np.array([group for group in each if group], dtype=float) for each in (found, references))
    n = len(groups)
    if n == 0:
        return dict.fromkeys(("p1", "n_space_groups", "tvd_space_group"), missing("no crystal has a space group"))
    distance: Estimate | Bootstrap = missing("no test crystal has a space group")
    if len(expected):
        target = _shares(expected)
        distance = Bootstrap(
            groups,
            lambda drawn: float(np.abs(_shares(drawn) - target).sum() / 2),
            reason="no crystal has a space group",
        )
    return {
        "p1": rate(int((groups == 1).sum()), n),
        "n_space_groups": Estimate(float(len(np.unique(groups))), n),
        "tvd_space_group": distance,
    }


def _shares(groups: Float[np.ndarray, " n"]) -> Float[np.ndarray, " groups"]:
    return np.bincount(groups.astype(int), minlength=GROUPS) / len(groups)
