"""Evaluates the competing phases of relaxed crystals with the potential that relaxed them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.arguments import add_potential
from xtalgen.runtime.errors import one_line
from xtalgen.stages.hull import write_hull


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relaxed", type=Path, required=True, help="table of relaxed crystals")
    parser.add_argument("--references", type=Path, nargs="+", required=True, help="tables of the data set")
    add_potential(parser)
    parser.add_argument(
        "--energies",
        choices=("consistent", "dft", "mp2020"),
        default="consistent",
        help="by the potential, from published formation energies, or from a phase diagram",
    )
    parser.add_argument("--phase-diagram", type=Path, help="entries of the Materials Project for mp2020 (.json[.gz])")
    parser.add_argument("--relax-steps", type=int, required=True, help="FIRE steps; 0 evaluates the given geometry")
    parser.add_argument("--fmax", type=float, required=True, help="largest force on atoms and cell, eV/Å")
    parser.add_argument("--cache", type=Path, required=True, help="folder of energies, shared by all sets")
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args(argv))
    with one_line():
        write_hull(given.pop("relaxed"), given.pop("references"), **given)


if __name__ == "__main__":
    main()
