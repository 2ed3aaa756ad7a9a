"""The command `xtalgen explore`: a page that shows structures on a map and in 3D."""

import sys
from pathlib import Path

from xtalgen.commands.arguments import make_parser, positive
from xtalgen.runtime.errors import one_line

EXAMPLES = """\
examples:
  xtalgen explore mine.extxyz
  xtalgen explore mine.zip theirs.csv --out both.html
  xtalgen explore mine-ledger.parquet --out mine.html   # with the verdicts of xtalgen score

The page is one file that needs no network; open it in a browser.
"""


def main(argv: list[str] | None = None) -> None:
    """Writes the page of files of structures."""
    parser = make_parser("explore", "Writes a page that shows structures on a map and in 3D.", EXAMPLES)
    parser.add_argument("structures", nargs="+", type=Path, metavar="FILE", help="structures; each file is a set")
    parser.add_argument("--out", type=Path, default=Path("explorer.html"), help="page to write (default: %(default)s)")
    parser.add_argument("--workers", type=positive, help="processes that read files (default: all cores)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the map (default: 0)")
    args = parser.parse_args(argv)
    if args.out.suffix.lower() != ".html":
        parser.error(f"--out {args.out}: the page is one file that ends in .html")
    with one_line():
        from xtalgen.stages.import_structures import check_structure_file

        for file in args.structures:
            check_structure_file(file)
        from xtalgen.commands.functions.exploring import explore
        from xtalgen.runtime.parallel import available_cores

        workers = args.workers or available_cores()
        sys.stdout.write(f"{explore(args.structures, args.out, workers=workers, seed=args.seed)}\n")
