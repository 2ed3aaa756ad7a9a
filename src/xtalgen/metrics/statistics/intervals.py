"""Values with their 95 % intervals: Wilson's for rates, seeded bootstrap for everything else."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

Z_95 = 1.959963984540054
RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A value from n observations with its 95 % interval from low to high; rates are fractions.

    value: None if it could not be computed; `reason` says why.
    """

    value: float | None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns value, n, low and high, and the reason if there is one."""
        entries = asdict(self)
        return entries if self.reason else {key: entries[key] for key in ("value", "n", "low", "high")}


def missing(reason: str, n: int = 0) -> Estimate:
    """Returns an estimate without a value; the tables show the reason."""
    return Estimate(None, n, reason=reason)


def rate(count: int, n: int) -> Estimate:
    """Returns count/n with Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    if n == 0:
        return missing("nothing was asked for")
    share, spread = count / n, Z_95**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # At 0 and 1 the bound equals the rate; rounding must not move it past the rate.
    return Estimate(share, n, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


@dataclass(frozen=True)
class Bootstrap:
    """A statistic of values whose percentile bootstrap interval is still to be drawn.

    reason: why there are no values, if so. at_most: of more values, a random subset of this size is used.
    """

    values: Float[np.ndarray, " n"]
    statistic: Callable[[np.ndarray], float]
    reason: str
    at_most: int | None = None

    def estimate(self, *, seed: int, resamples: int = RESAMPLES) -> Estimate:
        """Returns the statistic with its interval.

        Resampling adds noise to a statistic that cannot be negative, such as a Wasserstein distance near 0, so the
        interval is widened to contain the value itself.
        """
        values = self.values
        if len(values) == 0:
            return missing(self.reason)
        if self.at_most is not None and len(values) > self.at_most:
            values = np.random.default_rng(seed).choice(values, size=self.at_most, replace=False)
        generator = np.random.default_rng(seed)
        value = float(self.statistic(values))
        drawn = [self.statistic(values[generator.integers(len(values), size=len(values))]) for _ in range(resamples)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Estimate(value, len(values), min(float(low), value), max(float(high), value))


def estimate_all(found: Mapping[str, Estimate | Bootstrap], *, seed: int, resamples: int) -> dict[str, Estimate]:
    """Returns the metrics of a set with all their intervals, which start from the same seed."""
    return {
        name: each if isinstance(each, Estimate) else each.estimate(seed=seed, resamples=resamples)
        for name, each in found.items()
    }
