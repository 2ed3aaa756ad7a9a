"""Draws the learning curve of one training, finished or not.

python workflow/scripts/curves.py --log results/train/flowmm/dng/log.csv --out results/train/flowmm/dng/curve.svg
"""

import argparse
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.stages.curves import draw_curves


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="log.csv of the train stage")
    parser.add_argument("--out", type=Path, required=True, help="SVG to write")
    args = parser.parse_args(argv)
    with one_line():
        draw_curves(args.log, out=args.out)


if __name__ == "__main__":
    main()
