"""Metrics files as the stage `evaluate` writes them, and the pages of tables made of them."""

import json
import re

from xtalgen.stages.tables import write_tables

NONE = "\N{EN DASH}"
DNG = {
    "struct_valid": {"value": 0.9346, "n": 10000, "low": 0.9296, "high": 0.9393},
    "comp_valid": {"value": 0.8, "n": 10000, "low": 0.795, "high": 0.805},
    "cov_recall": {"value": 0.99, "n": 9046, "low": 0.985, "high": 0.995},
    "cov_precision": {"value": 0.995, "n": 10000, "low": 0.99, "high": 1.0},
    "wdist_density": {"value": 0.16, "n": 1000, "low": 0.14, "high": 0.18},
    "wdist_num_elems": {"value": None, "n": 0, "low": None, "high": None, "reason": "no valid | crystal"},
    "stable": {"value": 0.0031, "n": 10000, "low": 0.0022, "high": 0.0044},
}
RECIPE = {"potential": {"name": "chgnet"}, "stable_below": 0.0, "metastable_below": 0.1, "seed": 1}
COST = {
    "parameters": 14200000,
    "train_seconds": 8000.0,
    "sample_seconds_per_1000": 547.3,
    "network_evaluations": 1000,
    "device": "NVIDIA H200",
}


def content(name, metrics, *, task="dng", dataset="mp_20", caveats=(), cost=None, recipe=RECIPE, failures=None):
    return {
        "contract": "metrics/1",
        "set": name,
        "task": task,
        "n": 10000,
        "recipe": recipe,
        "data": {"dataset": dataset, "caveats": list(caveats), "n_train": 26566, "n_test": 9046, "n_reference": 9046},
        "funnel": [{"step": "asked for", "count": 10000}, {"step": "valid", "count": 8000}],
        "failures": failures or {},
        "metrics": metrics,
        "cost": cost or {},
    }


def write(folder, *contents):
    paths = []
    for one in contents:
        path = folder / (one["set"].replace("/", "-") + ".json")
        path.write_text(json.dumps(one))
        paths.append(path)
    return paths


def made(paths, *, published=False):
    folder = paths[0].parent
    write_tables(paths, out_markdown=folder / "t.md", out_csv=folder / "t.csv", published=published)
    return (folder / "t.md").read_text(), (folder / "t.csv").read_text()


def section(page, title):
    return next(part for part in re.split(r"^(?=## )", page, flags=re.MULTILINE) if part.startswith(f"## {title}"))
