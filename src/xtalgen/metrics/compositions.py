"""Composition validity by SMACT (Davies et al. 2019, doi:10.21105/joss.01361), with the tables of different papers.

Versions of SMACT differ in oxidation states, so "composition validity" is meaningful only together with its table.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xtalgen.metrics.choices import OxidationStates
from xtalgen.runtime.pinned_tables import read_pinned
from xtalgen.structure.composition import Counts

FILE = Path(__file__).with_name("smact_2_2_1.yaml")
FILE_SHA256 = "1aa6bd109d9bb607b59541986c1211a80cf13f0dbc4fab834d5727c398234834"
MAX_NUMBER = 103  # the heaviest element that SMACT has data on
OF_PACKAGE = (OxidationStates.SMACT14, OxidationStates.ICSD24)
IRIDIUM = 77


@dataclass(frozen=True)
class Element:
    """Data of an element; electronegativity on Pauling's scale, None where unknown."""

    symbol: str
    electronegativity: float | None
    oxidation_states: tuple[int, ...]
    metal: bool


def comp_valid(
    counts: Sequence[tuple[int, int]], table: str = OxidationStates.SMACT_2_2_1, limit: int | None = None
) -> bool:
    """Returns whether a composition is valid: an element, of metals only, or charge neutral with sensible charges.

    counts: (atomic number, count) of each element. table: one of `OxidationStates`. limit: compositions with more
    combinations of oxidation states are invalid, as in DiffCSP. Elements that SMACT does not know are invalid. Raises
    ValueError on an unknown table. Verdicts are cached by composition.
    """
    table = OxidationStates(table)
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
def elements_of(table: str) -> Mapping[int, Element]:
    """Returns the data of each element in a table, by atomic number."""
    known = elements()
    if table == OxidationStates.SMACT_2_5:
        states = tuple(-3 if state == -2 else state for state in known[IRIDIUM].oxidation_states)
        return {**known, IRIDIUM: replace(known[IRIDIUM], oxidation_states=states)}
    if table in OF_PACKAGE:
        return {number: _of_package(element.symbol, table) for number, element in known.items()}
    return known


def _of_package(symbol: str, table: str) -> Element:
    """Returns the data of an element in the installed SMACT."""
    import smact
    from smact.screening import ICSD24FilterConfig, _get_icsd24_oxidation_states

    element = smact.Element(symbol)
    if table == OxidationStates.ICSD24:
        found = _get_icsd24_oxidation_states([element], ICSD24FilterConfig())
        states = found[0] if found else ()
    else:
        states = getattr(element, f"oxidation_states_{table}") or ()
    return Element(symbol, element.pauling_eneg, tuple(states), symbol in smact.metals)


@functools.cache
def _comp_valid(counts: Counts, table: str, limit: int | None) -> bool:
    if not counts or any(not 1 <= number <= MAX_NUMBER for number, _ in counts):
        return False
    if len(counts) > 1 and limit is not None and _combinations(counts, table) > limit:
        return False
    return _is_valid([elements_of(table)[number] for number, _ in counts], [count for _, count in counts], table)


def _combinations(counts: Counts, table: str) -> int:
    if table not in OF_PACKAGE:
        return math.prod(len(elements_of(table)[number].oxidation_states) for number, _ in counts)
    import smact

    name = f"oxidation_states_{table}"
    return math.prod(len(getattr(smact.Element(elements()[number].symbol), name) or ()) for number, _ in counts)


def _is_valid(found: Sequence[Element], amounts: Sequence[int], table: str) -> bool:
    """Returns the verdict of SMACT's rule, equal to trying every combination of oxidation states but never slow.

    A combination q of oxidation states passes when it is neutral, Σ n_i q_i = 0, and Pauling's test holds: every cation
    is less electronegative than every anion, χ_i < χ_j for q_i > 0 > q_j. The test holds exactly when a bound b exists
    with q_i ≥ 0 for χ_i < b and q_i ≤ 0 for χ_i ≥ b; only the values of χ and infinity need to be tried. For each bound
    the remaining question, whether one state of each element can sum to 0, is a subset-sum (`_neutral`).

    Versions differ where an electronegativity is unknown: SMACT 2.6 and later reject the composition, for earlier ones
    see `_without_electronegativity`.
    """
    if len(found) == 1 or all(element.metal for element in found):
        return True
    states = [element.oxidation_states for element in found]
    scale = [element.electronegativity for element in found]
    known = [value for value in scale if value is not None]
    if len(known) < len(scale):
        choices = () if table in OF_PACKAGE else _without_electronegativity(states, scale)
        return any(_neutral(amounts, allowed) for allowed in choices)
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
    """Whether one state of each element can be chosen so that Σ amount · state = 0, by the set of reachable sums.

    The set is an integer whose bit i stands for the sum lowest + i.
    """
    if not all(states):
        return False
    sums, lowest = 1, 0
    for amount, own in zip(amounts, states, strict=True):
        least, reached = min(own), 0
        for state in own:
            reached |= sums << (state - least) * amount
        sums, lowest = reached, lowest + least * amount
    return lowest <= 0 and bool(sums >> -lowest & 1)
