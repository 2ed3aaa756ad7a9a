"""Compares sampling settings by their match rate on validation crystals.

python workflow/scripts/sweep.py --run R --point '{"slope": 0}' 0.json --point '{"slope": 5}' 1.json --out R.md
"""

import argparse
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.stages.sweep import sweep


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="name of the run, for headings")
    parser.add_argument("--point", nargs=2, action="append", default=[], metavar=("SETTINGS", "METRICS"))
    parser.add_argument("--out", type=Path, required=True, help="Markdown page; .csv and .svg are written beside it")
    args = parser.parse_args(argv)
    with one_line():
        sweep([(settings, Path(path)) for settings, path in args.point], run=args.run, out=args.out)


if __name__ == "__main__":
    main()
