"""Labels crystals of a data set and their distortions with a teacher potential: the training data of a small MACE.

python workflow/scripts/distil.py --tables results/data/mp_20/train.parquet --crystals 12000 --distorted 1 \
    --teacher chgnet --seed 0 --shard 1-of-8 --work results/distil/work-1 --out results/distil/labels/1-of-8.parquet
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.stages.distil import LabelConfig, distil


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="tables of crystals")
    parser.add_argument("--crystals", type=int, required=True, help="number of crystals to label")
    parser.add_argument("--distorted", type=float, default=1.0, help="distorted configurations of each, on average")
    parser.add_argument("--teacher", default="chgnet", help="potential that computes the labels")
    parser.add_argument("--sha256", help="required SHA-256 of the teacher's weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default="1-of-1", help="K-of-N: label the K-th of N shares only")
    parser.add_argument("--workers", type=int, default=1, help="single-threaded processes (CPU only)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--work", type=Path, required=True, help="folder of finished chunks, to resume from")
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args(argv))
    number, _, of = given.pop("shard").partition("-of-")
    config = LabelConfig(given.pop("crystals"), given.pop("distorted"), given.pop("seed"))
    with one_line():
        distil(given.pop("tables"), config=config, part=(int(number), int(of)), **given)


if __name__ == "__main__":
    main()
