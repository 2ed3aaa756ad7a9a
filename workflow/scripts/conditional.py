"""Draws requested against obtained attributes.

python workflow/scripts/conditional.py --evaluated results/evaluate/RUN/conditional.parquet \
    --metrics results/evaluate/RUN/conditional.json --out results/conditional/RUN.svg
"""

import argparse
from pathlib import Path

from xtalgen.crystals import ContractError
from xtalgen.stages.conditional import draw_conditional


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluated", type=Path, required=True, help="table of the evaluate stage")
    parser.add_argument("--metrics", type=Path, required=True, help="metrics file of the evaluate stage")
    parser.add_argument("--out", type=Path, nargs="+", required=True, help="SVG or PNG files to write")
    args = parser.parse_args(argv)
    try:
        draw_conditional(args.evaluated, args.metrics, out=args.out)
    except (ContractError, ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
