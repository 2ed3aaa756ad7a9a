"""Computes energies of the best candidates above a second potential's own hull."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.arguments import add_potential
from xtalgen.runtime.errors import one_line
from xtalgen.stages.second_potential import apply_second_potential


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluated", type=Path, required=True, help="table of the evaluate stage")
    parser.add_argument("--hull", type=Path, required=True, help="table of the hull stage (of kind consistent)")
    add_potential(parser)
    parser.add_argument("--count", type=int, default=50, help="number of candidates, as for candidates.py")
    parser.add_argument("--cache", type=Path, required=True, help="folder of energies, shared by all sets")
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args(argv))
    with one_line():
        apply_second_potential(given.pop("evaluated"), given.pop("hull"), **given)


if __name__ == "__main__":
    main()
