"""Is a lead noise? Tests between two rows of a table, from what their metrics files hold.

Paired where both rows were asked the same questions (crystal structure prediction of the same targets), unpaired else.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from xtalgen.metrics.statistics.intervals import Z_95

NOISE = 0.05  # a lead with a p-value of at least this may be noise


@dataclass(frozen=True)
class Comparison:
    """How probable a difference as large as the one seen is, were there none; by which test."""

    p: float
    test: str

    @property
    def noise(self) -> bool:
        """Whether the difference may well be noise."""
        return self.p >= NOISE


def pack_outcomes(ids: Sequence[str], flags: Mapping[str, Bool[np.ndarray, " n"]]) -> dict[str, Any]:
    """Returns what happened to each of the questions `ids`, small enough for JSON: bits by metric, ordered by id."""
    order = sorted(range(len(ids)), key=lambda place: ids[place])
    named = hashlib.sha256("\0".join(ids[place] for place in order).encode()).hexdigest()
    bits = {
        name: base64.b64encode(np.packbits(values[order].astype(bool)).tobytes()).decode()
        for name, values in flags.items()
    }
    return {"questions": named, "n": len(ids), "bits": bits}


def unpack_outcomes(packed: Mapping[str, Any], metric: str) -> Bool[np.ndarray, " n"] | None:
    """Returns the outcomes of a metric by question; None where they were not kept."""
    text = packed.get("bits", {}).get(metric)
    if text is None:
        return None
    bits = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(bits, count=packed["n"]).astype(bool)


def compare_paired(one: Mapping[str, Any], other: Mapping[str, Any], metric: str) -> Comparison | None:
    """Returns McNemar's exact test (1947, doi:10.1007/BF02295996) of two sets' outcomes; None where unpaired."""
    if not one or not other or one.get("questions") != other.get("questions"):
        return None
    first, second = unpack_outcomes(one, metric), unpack_outcomes(other, metric)
    if first is None or second is None:
        return None
    # Only discordant pairs count; without a difference they split like fair coins.
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    return Comparison(_binomial(min(wins, losses), wins + losses), "McNemar")


def compare_rates(share: float, n: int, other_share: float, other_n: int) -> Comparison | None:
    """Returns Fisher's exact test of two rates from different crystals; None without crystals."""
    if not n or not other_n:
        return None
    from scipy.stats import fisher_exact

    hits, other_hits = round(share * n), round(other_share * other_n)
    p = fisher_exact([[hits, n - hits], [other_hits, other_n - other_hits]]).pvalue
    return Comparison(min(1.0, float(p)), "Fisher")


def compare_intervals(
    value: float, interval: tuple[float, float], other: float, other_interval: tuple[float, float]
) -> Comparison | None:
    """Returns a z-test of two values, their standard errors taken from their 95 % intervals; None without spread."""
    # Half the width of a 95 % interval is 1.96 standard errors.
    errors = [(high - low) / (2 * Z_95) for low, high in (interval, other_interval)]
    spread = math.hypot(*errors)
    if not spread > 0:
        return None
    # Two-sided p-value 2 (1 - Φ(|z|)) = erfc(|z| / √2), z = difference / √(s₁² + s₂²)
    return Comparison(math.erfc(abs(value - other) / spread / math.sqrt(2)), "z-test from the intervals")


def _binomial(least: int, n: int) -> float:
    """Returns the two-sided exact p-value of at most `least` of n fair coins on one side."""
    if n == 0:
        return 1.0
    from scipy.stats import binom

    return min(1.0, 2 * float(binom.cdf(least, n, 0.5)))
