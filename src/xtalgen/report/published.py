"""Published values, printed below our own rows as reference; the values themselves stand in published.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xtalgen.metrics.registry import METRICS

FILE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Published:
    """One row as somebody published it.

    metrics: text as printed there, rates in percent; cost: numbers by the names of the metrics contract; source: where
    it stands; differs: how its definitions differ from ours; checked: whether the value was read in the source
    itself, not quoted second-hand.
    """

    name: str
    dataset: str
    task: str
    source: str
    differs: str
    checked: bool
    metrics: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """Returns a metric as our files hold it, rates as fractions; None where it was not published."""
        if metric not in self.metrics:
            return None
        number = float(self.metrics[metric])
        return round(number / 100, 10) if METRICS[metric].percent else number


def read_published(path: Path = FILE) -> list[Published]:
    """Returns the published rows in file order. Raises ValueError on an unknown key, metric or source."""
    content = yaml.safe_load(path.read_text())
    rows = []
    for row in content["rows"]:
        source = content["sources"].get(row["source"])
        if source is None:
            raise ValueError(f"{path}: {row['name']}: source {row['source']!r} is not under `sources`.")
        values = row.get("metrics", {})
        wrong = [name for name, value in values.items() if name not in METRICS or not isinstance(value, str)]
        if wrong:
            raise ValueError(f"{path}: {row['name']}: {wrong[0]!r} is no metric, or its value is not in quotes.")
        rows.append(Published(**{**row, **source}))
    return rows
