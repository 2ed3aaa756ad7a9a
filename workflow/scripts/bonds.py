"""Adds the bonds for a model's encoder to the table of one split."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.runtime.parallel import available_cores
from xtalgen.stages.bonds import add_bonds


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True, help="table of the split (.parquet)")
    parser.add_argument("--workers", type=int, default=available_cores(), help="worker processes")
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds per crystal before falling back to a radius graph"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder that survives a killed job")
    parser.add_argument("--out", type=Path, required=True, help="table to write (.parquet)")
    given = vars(parser.parse_args(argv))
    with one_line():
        add_bonds(given.pop("table"), **given)


if __name__ == "__main__":
    main()
