"""Scores a set: writes metrics to a JSON file and verdicts per crystal to a table."""

import argparse
from pathlib import Path

from xtalgen.metrics.protocols import DEFAULT, RECIPES, choose_recipe
from xtalgen.metrics.tasks import EVERY_TASK
from xtalgen.metrics.types import MetricConfig
from xtalgen.runtime.arguments import flag
from xtalgen.runtime.errors import one_line
from xtalgen.stages.evaluate import Sources, evaluate

FILES = ("sample", "train", "test", "val", "relaxed", "hull", "fingerprints", "reference_fingerprints", "training")
THRESHOLDS = ("stable_below", "metastable_below")
NUMBERS = ("match_timeout", "resamples", "workers", "seed")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=EVERY_TASK, required=True)
    parser.add_argument("--set", dest="name", help="name of the set (default: stem of --out-json)")
    for name in FILES:
        parser.add_argument(flag(name), type=Path, required=name in FILES[:3])
    for name in NUMBERS:
        parser.add_argument(flag(name), type=type(getattr(MetricConfig, name)), default=getattr(MetricConfig, name))
    parser.add_argument("--recipe", choices=RECIPES, default=DEFAULT, help="definitions of the metrics")
    for name in THRESHOLDS:
        parser.add_argument(flag(name), type=float, help="eV/atom (default: the recipe's)")
    parser.add_argument("--work", type=Path, help="folder of finished comparisons (default: beside --out-json)")
    parser.add_argument("--out-table", type=Path, required=True)
    parser.add_argument("--out-json", type=Path, required=True)
    given = vars(parser.parse_args(argv))
    files, thresholds, numbers = ({name: given.pop(name) for name in names} for names in (FILES, THRESHOLDS, NUMBERS))
    settings = MetricConfig(choose_recipe(given.pop("recipe"), **thresholds), **numbers)
    with one_line():
        evaluate(given.pop("task"), Sources(**files), settings, **given)


if __name__ == "__main__":
    main()
