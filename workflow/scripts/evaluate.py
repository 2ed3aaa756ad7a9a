"""Scores a set: metrics to a JSON file, verdicts crystal by crystal to a table.

python workflow/scripts/evaluate.py --task dng --sample sample.parquet --train train.parquet --test test.parquet \
    --out-table verdicts.parquet --out-json metrics.json
"""

import argparse
from pathlib import Path

from xtalgen.metrics.names import EVERY_TASK
from xtalgen.metrics.protocols import DEFAULT, RECIPES, choose_recipe
from xtalgen.metrics.types import Settings
from xtalgen.runtime.errors import one_line
from xtalgen.stages.evaluate import Sources, evaluate

FILES = ("sample", "train", "test", "val", "relaxed", "hull", "fingerprints", "reference_fingerprints", "training")
THRESHOLDS = ("stable_below", "metastable_below")
NUMBERS = ("match_timeout", "resamples", "workers", "seed")


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=EVERY_TASK, required=True)
    parser.add_argument("--set", dest="name", help="name of the set; by default the stem of --out-json")
    for name in FILES:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=name in FILES[:3])
    for name in NUMBERS:
        default = getattr(Settings, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--recipe", choices=RECIPES, default=DEFAULT, help="whose definitions to follow")
    for name in THRESHOLDS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help="eV/atom; by default the recipe's")
    parser.add_argument("--work", type=Path, help="folder for finished comparisons; by default beside --out-json")
    parser.add_argument("--out-table", type=Path, required=True)
    parser.add_argument("--out-json", type=Path, required=True)
    args = parser.parse_args(argv)
    sources = Sources(**{name: getattr(args, name) for name in FILES})
    recipe = choose_recipe(args.recipe, **{name: getattr(args, name) for name in THRESHOLDS})
    settings = Settings(recipe, **{name: getattr(args, name) for name in NUMBERS})
    with one_line():
        evaluate(args.task, sources, settings, out_table=args.out_table, out_json=args.out_json,
                 name=args.name, work=args.work)  # fmt: skip


if __name__ == "__main__":
    main()
