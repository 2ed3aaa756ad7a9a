"""Candidates: the valid, unique and novel crystals of a set, ordered by energy above the hull."""

import math
from collections.abc import Sequence

from xtalgen.crystals import Crystal

NEEDED = ("unique", "novel", "struct_valid", "comp_valid", "e_above_hull")


def choose(crystals: Sequence[Crystal], count: int) -> list[Crystal]:
    """Returns at most `count` crystals that are valid, unique, novel and on a hull, the lowest energy first.

    Ties are broken by id, so the choice does not depend on the order of the rows.
    """
    found = [
        crystal
        for crystal in crystals
        if crystal.ok and all(crystal.info[name] for name in NEEDED[:-1]) and is_finite(crystal.info["e_above_hull"])
    ]
    return sorted(found, key=lambda crystal: (crystal.info["e_above_hull"], crystal.id))[:count]


def is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)
