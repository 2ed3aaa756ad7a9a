"""Computes the descriptors for the explorer's map, and the space groups.

python workflow/scripts/embeddings.py --crystals results/evaluate/flowmm/dng.parquet --potential chgnet \
    --work /tmp/work --out /tmp/embeddings.parquet
"""

import argparse
from pathlib import Path

from xtalgen.runtime.arguments import add_potential
from xtalgen.runtime.errors import one_line
from xtalgen.runtime.parallel import available_cores
from xtalgen.stages.embeddings import compute_embeddings


def main(argv: list[str] | None = None) -> None:
    """Runs the stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=Path, required=True, help="crystal table, or table of fingerprints")
    add_potential(parser, workers=available_cores(), timeout=60.0)
    parser.add_argument("--work", type=Path, required=True, help="folder of finished parts, to resume from")
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args(argv))
    with one_line():
        compute_embeddings(given.pop("crystals"), **given)


if __name__ == "__main__":
    main()
