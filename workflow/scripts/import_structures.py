"""Reads a user's own file of crystals into a crystal table, or into several that share its rows out.

python workflow/scripts/import_structures.py --structures structures/mine.extxyz --out results/sample/mine.parquet
"""

import argparse
from pathlib import Path

from xtalgen.io.structure_files import FORMATS
from xtalgen.runtime.errors import one_line
from xtalgen.runtime.parallel import available_cores
from xtalgen.stages.import_structures import import_structures


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, required=True, help=f"a file that ends in {', '.join(FORMATS)}")
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes for large files")
    parser.add_argument("--out", type=Path, required=True, nargs="+", help="table to write; several: contiguous shards")
    args = parser.parse_args(argv)
    with one_line():
        import_structures(args.structures, out=args.out, workers=args.workers)


if __name__ == "__main__":
    main()
