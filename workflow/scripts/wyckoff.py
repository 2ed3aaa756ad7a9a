"""Adds the space group and the occupied Wyckoff positions of crystals to the table of one split."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.runtime.parallel import available_cores
from xtalgen.stages.wyckoff import add_wyckoff


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="table of the split (.parquet)")
    parser.add_argument("--workers", type=int, default=available_cores(), help="worker processes")
    parser.add_argument("--timeout", type=float, default=10.0, help="time limit per crystal, in seconds")
    parser.add_argument("--out", type=Path, required=True, help="table to write (.parquet)")
    given = vars(parser.parse_args(argv))
    with one_line():
        add_wyckoff(given.pop("table"), **given)


if __name__ == "__main__":
    main()
