"""Writes the best new crystals of an evaluated set as files in one zip archive, with a table of them.

python workflow/scripts/candidates.py --evaluated results/evaluate/flowmm/dng.parquet --count 50 \
    --out results/candidates/flowmm/dng.zip
"""

import argparse
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.stages.candidates import write_candidates


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluated", type=Path, required=True, help="table of the evaluate stage")
    parser.add_argument("--count", type=int, default=50, help="maximum number of candidates")
    parser.add_argument("--vasp", type=int, default=0, help="number of first candidates that get VASP inputs")
    parser.add_argument("--name", default="", help="name of the set, written to the CSV")
    parser.add_argument("--known", type=Path, nargs="*", default=[], help="tables of known crystals to compare with")
    parser.add_argument("--second", type=Path, help="table of the stage second_potential")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--out", type=Path, required=True, help="zip archive to write")
    given = vars(parser.parse_args(argv))
    with one_line():
        write_candidates(given.pop("evaluated"), **given)


if __name__ == "__main__":
    main()
