"""Published values from published.yaml, printed below our own rows as reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xtalgen.metrics.registry import METRICS
from xtalgen.report.score_table import NONE, Column, align, escape, heads

FILE = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Published:
    """One published row.

    metrics: values as printed, rates in percent; cost: numbers under the names of the metrics contract; source: key of
    the publication; differs: how its definitions differ from ours; checked: whether the values were taken from the
    source itself rather than quoted second-hand.
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
        """Returns a metric in our units, rates as fractions; None where it was not published."""
        if metric not in self.metrics:
            return None
        number = float(self.metrics[metric])
        return round(number / 100, 10) if METRICS[metric].percent else number


def read_published(path: Path = FILE) -> list[Published]:
    """Returns the published rows in file order. Raises ValueError on an unknown key, metric or source."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
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


def published_block(rows: Sequence[Published], columns: Sequence[Column]) -> list[str]:
    """Returns the lines of a table of the published rows that have a value in these columns, with their sources."""
    rows = [row for row in rows if any(column.metric in row.metrics for column in columns)]
    if not rows:
        return []
    sources: dict[str, int] = {}
    body = []
    for row in rows:
        second_hand = "" if row.checked else "; quoted second-hand, check the source before citing"
        number = sources.setdefault(f"{row.source}. Differs: {row.differs}{second_hand}", len(sources) + 1)
        cells = [row.metrics.get(column.metric) for column in columns]
        body.append(
            [f"*{escape(row.name)}*", *(NONE if cell is None else f"*{cell}*" for cell in cells), f"[{number}]"]
        )
    return [
        "For reference only: evaluators, samples and potentials differ from ours.",
        "",
        *align([["*Published, not run here*", *heads((), columns), "Source"], *body]),
        "",
        *(f"[{number}] {escape(source)}.  " for source, number in sources.items()),
        "",
    ]
