"""Whether two runs of an experiment made the same, row for row."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# Clocks differ between equal runs.
CLOCKS = {"seconds", "samples_per_s", "gflop_per_s"}


def results(folder: Path) -> dict[str, Any]:
    """Returns everything a run made that must not depend on what happened meanwhile, by file."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "results").rglob("*")):
        name = str(path.relative_to(folder))
        if "work" in name or "/cache" in name or "/positions" in name:
            continue
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            rows = table.drop_columns([column for column in table.column_names if column in CLOCKS])
            found[name] = repr(rows.to_pylist())
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
        elif path.name == "log.csv":
            found[name] = _without_clocks(path)
        elif path.parent.parent.name == "evaluate" and path.suffix == ".json":
            found[name] = {key: value for key, value in json.loads(path.read_text()).items() if key != "cost"}
        elif path.name == "tables.csv":
            found[name] = [line for line in path.read_text().splitlines() if ",cost," not in line]
        elif path.name == "tables.md":
            before, _, cost = path.read_text().partition("## Cost")
            found[name] = before + cost.partition("\n## ")[2]
    return found


def _without_clocks(path: Path) -> list[list[str]]:
    head, *rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [place for place, column in enumerate(head) if column not in CLOCKS]
    return [[row[place] for place in kept] for row in [head, *rows]]


def same(folder: Path, reference: Mapping[str, Any]) -> None:
    """Asserts that a folder's results are those of the undisturbed run: the same files, row for row."""
    found = results(folder)
    assert sorted(found) == sorted(reference)
    differing = [name for name in reference if found[name] != reference[name]]
    assert not differing, f"differ from the undisturbed run: {differing}"
