"""Writes the tables of the experiment from metrics files, one row per file, in the order given.

python workflow/scripts/tables.py --evaluations results/evaluate/flowmm/*.json --out results/tables.md \
    --csv results/tables.csv --published --print
"""

import argparse
import sys
from pathlib import Path

from xtalgen.metrics.result_file import read_evaluations
from xtalgen.report.markdown import compact
from xtalgen.runtime.errors import one_line
from xtalgen.stages.tables import write_tables


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=Path, nargs="*", default=[], help="files of the evaluate stage")
    parser.add_argument("--out", type=Path, required=True, help="Markdown page to write")
    parser.add_argument("--csv", type=Path, required=True, help="long CSV to write")
    parser.add_argument("--published", action="store_true", help="add published values, marked as such")
    parser.add_argument("--print", action="store_true", help="also print the scores to the terminal")
    args = parser.parse_args(argv)
    with one_line():
        write_tables(args.evaluations, out_markdown=args.out, out_csv=args.csv, published=args.published)
        if args.print:
            sys.stdout.write(compact(read_evaluations(args.evaluations)))


if __name__ == "__main__":
    main()
