"""Computes the structure and composition fingerprints for coverage.

python workflow/scripts/fingerprints.py --crystals results/sample/flowmm/dng.parquet --work /tmp/work \
    --out /tmp/fingerprints.parquet
"""

import argparse
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.runtime.parallel import available_cores
from xtalgen.stages.fingerprints import compute_fingerprints


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of finished parts, to resume from")
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds of wall time for one crystal")
    parser.add_argument("--limit", type=int, help="size of a seeded subset of usable crystals; default: all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with one_line():
        compute_fingerprints(
            args.crystals,
            out=args.out,
            work=args.work,
            workers=args.workers,
            timeout=args.timeout,
            limit=args.limit,
            seed=args.seed,
        )


if __name__ == "__main__":
    main()
