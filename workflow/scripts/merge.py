"""Merges the shards of a stage into one table, rows sorted by id.

python workflow/scripts/merge.py --parts a.parquet b.parquet --out all.parquet
"""

import argparse
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.stages.merge import merge


def main(argv: list[str] | None = None) -> None:
    """Runs the merge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    with one_line():
        merge(args.parts, args.out)


if __name__ == "__main__":
    main()
