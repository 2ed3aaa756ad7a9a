"""Reads a user's own file of crystals, or released samples, into a crystal table, or several that share its rows out.

python workflow/scripts/import_structures.py --structures structures/mine.extxyz --out results/sample/mine.parquet
"""

import argparse
from pathlib import Path

from xtalgen.datasets.releases import read_release
from xtalgen.experiment.places import DOWNLOADS, data_root
from xtalgen.io.structure_files import FORMATS
from xtalgen.runtime.errors import one_line
from xtalgen.runtime.parallel import available_cores
from xtalgen.stages.import_structures import import_release, import_structures


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, help=f"a file that ends in {', '.join(FORMATS)}")
    parser.add_argument("--released", nargs=2, metavar=("NAME", "JSON"), help="name and entry of released samples")
    parser.add_argument("--downloads", type=Path, default=data_root() / DOWNLOADS, help="where fetched files are kept")
    parser.add_argument("--workers", type=int, default=available_cores(), help="processes for large files")
    parser.add_argument("--out", type=Path, required=True, nargs="+", help="table to write; several: contiguous shards")
    args = parser.parse_args(argv)
    if args.structures is None and args.released is None:
        parser.error("give --structures, or --released to fetch a file")
    how = {"out": args.out, "workers": args.workers}
    with one_line():
        if args.released is None:
            import_structures(args.structures, **how)
        else:
            name, entry = args.released
            import_release(name, read_release(entry), args.structures, downloads=args.downloads, **how)


if __name__ == "__main__":
    main()
