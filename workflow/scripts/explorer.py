"""Writes the page of all crystals, one HTML file that needs no network. A dash means a missing file.

python workflow/scripts/explorer.py --set flowmm/dng results/evaluate/flowmm/dng.parquet \
    results/sample/flowmm/dng.parquet - results/evaluate/flowmm/dng.json --out results/explorer.html
"""

import argparse
from pathlib import Path

from xtalgen.explorer.crystal_sets import Files
from xtalgen.explorer.projection import UmapConfig
from xtalgen.runtime.errors import one_line
from xtalgen.stages.explorer import Options, write_explorer

SET = ("NAME", "EVALUATED", "SAMPLE", "EMBEDDING", "METRICS")


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs=5, action="append", default=[], metavar=SET, dest="sets")
    parser.add_argument("--reference", nargs=3, action="append", default=[], metavar=("NAME", "CRYSTALS", "EMBEDDING"))
    parser.add_argument("--curve", nargs=2, action="append", default=[], metavar=("NAME", "LOG"), help="learning curve")
    parser.add_argument("--title", default="xtalgen explorer")
    parser.add_argument("--max-crystals", type=int, help="maximum number of generated crystals shown (a seeded subset)")
    parser.add_argument("--max-reference", type=int, help="maximum number of reference crystals shown")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder in which positions are cached by content")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    sets = Files.from_arguments(args.sets, args.reference)
    options = Options(args.title, args.max_crystals, args.max_reference, args.seed)
    curves = [(name, Path(log)) for name, log in args.curve]
    with one_line():
        write_explorer(sets, curves, options=options, umap=UmapConfig(seed=args.seed), cache=args.cache, out=args.out)


if __name__ == "__main__":
    main()
