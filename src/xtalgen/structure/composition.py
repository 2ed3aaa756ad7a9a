"""Compositions: counts of the atoms of each element, reduced formulas."""

import math
import re
from collections import Counter
from math import gcd

import numpy as np

from xtalgen.structure.elements import NUMBERS, SYMBOLS

Counts = tuple[tuple[int, int], ...]


def reduced_counts(atomic_numbers: np.ndarray) -> Counts:
    """Returns (atomic number, count) of each element, by atomic number, divided by the greatest common divisor."""
    numbers, counts = np.unique(np.asarray(atomic_numbers), return_counts=True)
    divisor = math.gcd(*(int(count) for count in counts))
    return tuple((int(number), int(count) // divisor) for number, count in zip(numbers, counts, strict=True))


def formula(atomic_numbers: np.ndarray) -> str:
    """Returns the reduced formula; elements are in the order of the atoms, in our data by electronegativity."""
    counts = Counter(np.asarray(atomic_numbers).tolist())
    divisor = gcd(*counts.values())
    return "".join(SYMBOLS[z - 1] + (str(n // divisor) if n > divisor else "") for z, n in counts.items())


def read_formula(text: str) -> dict[str, int]:
    """Returns the atoms of a formula such as "Fe2O3" by symbol. Raises ValueError for any other text."""
    found: Counter[str] = Counter()
    for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", text):
        found[symbol] += int(count or 1)
    unknown = [symbol for symbol in found if symbol not in NUMBERS]
    if not re.fullmatch(r"(?:[A-Z][a-z]?\d*)+", text) or unknown or min(found.values()) < 1:
        reason = f"there is no element {unknown[0]!r}" if unknown else "write symbols and whole numbers, such as Fe2O3"
        raise ValueError(f"formula {text!r}: {reason}.")
    return dict(found)
