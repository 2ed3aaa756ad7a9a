"""Composition validity by SMACT (Davies et al. 2019, doi:10.21105/joss.01361), with the tables that papers differ in.

Each version of SMACT has other oxidation states, so "composition validity" is a metric only together with its table.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtalgen.runtime.pinned_tables import read_pinned
from xtalgen.structure.composition import Counts

FILE = Path(__file__).with_name("smact_2_2_1.yaml")
FILE_SHA256 = "1aa6bd109d9bb607b59541986c1211a80cf13f0dbc4fab834d5727c398234834"
MAX_NUMBER = 103  # the heaviest element that SMACT has data on
SMACT_2_2_1 = "smact_2_2_1"
# Of the package: the 2014 set, which is SMACT 2.6's default, and the set of version 4's default.
OF_PACKAGE = {"smact14": "smact14", "icsd24": None}
TABLES = (SMACT_2_2_1, *OF_PACKAGE)


@dataclass(frozen=True)
class Element:
    """What the rule knows of an element; electronegativity on Pauling's scale, None where unknown."""

    symbol: str
    electronegativity: float | None
    oxidation_states: tuple[int, ...]
    metal: bool


def comp_valid(counts: Sequence[tuple[int, int]], table: str = SMACT_2_2_1, limit: int | None = None) -> bool:
    """Returns whether a composition is valid: an element, of metals only, or charge neutral with sensible charges.

    counts: (atomic number, count) of each element. table: "smact_2_2_1" is the rule of CDVAE with the tables of the
    version it pins; "smact14" and "icsd24" are `smact_validity` of the installed SMACT 4 with that set of oxidation
    states. limit: more combinations of oxidation states than this are invalid, as in DiffCSP. Elements that SMACT does
    not know are invalid. Raises ValueError on an unknown table. Verdicts are remembered by composition.
    """
    if table not in TABLES:
        raise ValueError(f"no table {table!r}; there are {', '.join(TABLES)}")
    divisor = math.gcd(*(int(count) for _, count in counts)) or 1
    return _comp_valid(tuple(sorted((int(z), int(count) // divisor) for z, count in counts)), table, limit)


@functools.cache
def elements() -> dict[int, Element]:
    """Returns the tables of SMACT 2.2.1 by atomic number. Raises ValueError when their file was changed."""
    read = read_pinned(FILE, FILE_SHA256)
    metals = set(read["metals"])
    return {
        number: Element(
            entry["symbol"], entry["electronegativity"], tuple(entry["oxidation_states"]), entry["symbol"] in metals
        )
        for number, entry in read["elements"].items()
    }


@functools.cache
def _comp_valid(counts: Counts, table: str, limit: int | None) -> bool:
    if not counts or any(not 1 <= number <= MAX_NUMBER for number, _ in counts):
        return False
    if len(counts) > 1 and limit is not None and _combinations(counts, table) > limit:
        return False
    return _by_smact_2_2_1(counts) if table == SMACT_2_2_1 else _by_package(counts, table)


def _combinations(counts: Counts, table: str) -> int:
    if table == SMACT_2_2_1:
        return math.prod(len(elements()[number].oxidation_states) for number, _ in counts)
    import smact

    name = f"oxidation_states_{table}"
    return math.prod(len(getattr(smact.Element(elements()[number].symbol), name) or ()) for number, _ in counts)


def _by_package(counts: Counts, table: str) -> bool:
    from pymatgen.core import Composition
    from smact.screening import smact_validity

    composition = Composition({elements()[number].symbol: count for number, count in counts})
    return bool(smact_validity(composition, oxidation_states_set=OF_PACKAGE[table]))


def _by_smact_2_2_1(counts: Counts) -> bool:
    """Returns the verdict of CDVAE's rule, equal to trying every combination of oxidation states but never slow.

    A combination passes when it is neutral and every cation is less electronegative than every anion. That is so when
    some bound parts the elements: below it none is negative, from it on none is positive. So one reachability of sums
    for each bound replaces the product of all states.
    """
    found = [elements()[number] for number, _ in counts]
    amounts = [count for _, count in counts]
    if len(found) == 1 or all(element.metal for element in found):
        return True
    states = [element.oxidation_states for element in found]
    scale = [element.electronegativity for element in found]
    known = [value for value in scale if value is not None]
    if len(known) < len(scale):
        return any(_neutral(amounts, allowed) for allowed in _without_electronegativity(states, scale))
    for bound in (*sorted(set(known)), math.inf):
        allowed = [
            [state for state in own if (state >= 0 if value < bound else state <= 0)]
            for own, value in zip(states, known, strict=True)
        ]
        if _neutral(amounts, allowed):
            return True
    return False


def _without_electronegativity(
    states: Sequence[Sequence[int]], scale: Sequence[float | None]
) -> list[list[Sequence[int]]]:
    """Returns the states to choose from where an electronegativity is unknown: of either sign of the first element.

    SMACT 2.2.1 compares pairs in order of atomic number and raises TypeError at the first comparison with an unknown
    value, which CDVAE takes for a pass; a pair with an unknown value that is not cation and anion fails. So the pairs
    of the first element decide: with those before the unknown one rightly ordered, and with it of opposite charges.
    """
    unknown = scale.index(None)
    known: list[Any] = list(scale)  # before the unknown one
    partner = max(unknown, 1)
    choices = []
    for sign in (1, -1):
        allowed: list[Sequence[int]] = []
        for place, own in enumerate(states):
            if place == 0:
                kept: Sequence[int] = [state for state in own if sign * state > 0]
            elif place == partner:
                kept = [state for state in own if sign * state < 0]
            elif place < partner and sign * (known[place] - known[0]) <= 0:
                kept = [state for state in own if sign * state >= 0]
            else:
                kept = own
            allowed.append(kept)
        choices.append(allowed)
    return choices


def _neutral(amounts: Sequence[int], states: Sequence[Sequence[int]]) -> bool:
    """Whether one state for each element can add up to charge 0; bit i of `sums` stands for the sum lowest + i."""
    if not all(states):
        return False
    sums, lowest = 1, 0
    for amount, own in zip(amounts, states, strict=True):
        least, reached = min(own), 0
        for state in own:
            reached |= sums << (state - least) * amount
        sums, lowest = reached, lowest + least * amount
    return lowest <= 0 and bool(sums >> -lowest & 1)
