"""Draws the figures of all sets as SVG and PNG. A dash means a missing file.

python workflow/scripts/figures.py --set flowmm/dng results/evaluate/flowmm/dng.parquet - - \
    results/evaluate/flowmm/dng.json --out results/figures
"""

import argparse
from pathlib import Path

from xtalgen.explorer.crystal_sets import Files
from xtalgen.runtime.errors import one_line
from xtalgen.stages.figures import draw_figures

SET = ("NAME", "EVALUATED", "SAMPLE", "EMBEDDING", "METRICS")


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs=5, action="append", default=[], metavar=SET, dest="sets")
    parser.add_argument("--reference", nargs=3, action="append", default=[], metavar=("NAME", "CRYSTALS", "EMBEDDING"))
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    args = parser.parse_args(argv)
    with one_line():
        draw_figures(Files.from_arguments(args.sets, args.reference), args.out)


if __name__ == "__main__":
    main()
