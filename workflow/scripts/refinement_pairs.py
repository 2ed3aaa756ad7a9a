"""Pairs the crystals of a split with another model's predictions for their compositions.

python workflow/scripts/base.py --split results/data/mp_20/train.parquet --predicted made.parquet --out pairs.parquet
"""

import argparse
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.stages.refinement_pairs import write_refinement_pairs


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=Path, required=True, help="crystal table of a data set's split")
    parser.add_argument("--predicted", type=Path, required=True, help="another run's samples for its compositions")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    with one_line():
        write_refinement_pairs(args.split, args.predicted, out=args.out)


if __name__ == "__main__":
    main()
