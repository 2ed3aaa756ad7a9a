"""Relaxes the crystals of a table with a machine-learned potential."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.arguments import add_potential
from xtalgen.runtime.errors import one_line
from xtalgen.stages.relax import relax


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=Path, required=True, help="table to relax")
    add_potential(parser)
    parser.add_argument("--fmax", type=float, required=True, help="largest force on atoms and cell, eV/Å")
    parser.add_argument("--max-steps", type=int, required=True, help="FIRE steps; 0 evaluates the given geometry")
    parser.add_argument("--max-crystals", type=int, help="relax only the first crystals of the set; default: all")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished crystals, to resume from")
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args(argv))
    with one_line():
        relax(given.pop("crystals"), **given)


if __name__ == "__main__":
    main()
