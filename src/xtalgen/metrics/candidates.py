"""Candidates: the crystals of a set that are valid, unique and novel, nearest to the hull first."""

import math
from collections.abc import Sequence

from xtalgen.crystals import Crystal

NEEDED = ("unique", "novel", "struct_valid", "comp_valid", "e_above_hull")


def choose(crystals: Sequence[Crystal], count: int) -> list[Crystal]:
    """Returns at most `count` crystals that are valid, unique, novel and on a hull, the lowest energy first.

    Ties keep the order of their ids, so the choice does not depend on the order of the rows.
    """
    found = [
        crystal
        for crystal in crystals
        if crystal.ok and all(crystal.info[name] for name in NEEDED[:-1]) and is_finite(crystal.info["e_above_hull"])
    ]
    return sorted(found, key=lambda crystal: (crystal.info["e_above_hull"], crystal.id))[:count]


def is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)
