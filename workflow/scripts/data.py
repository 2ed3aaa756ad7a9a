"""Prepares one split of a data set: a table of standard cells, one row per crystal."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.datasets.registry import DATA_SETS
from xtalgen.experiment.places import DOWNLOADS, data_root
from xtalgen.runtime.errors import one_line
from xtalgen.runtime.parallel import available_cores
from xtalgen.stages.data import prepare_data


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage with command-line arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help=f"{', '.join(DATA_SETS)} or your own name")
    parser.add_argument("--split", required=True, help="train, val or test")
    parser.add_argument("--source", type=Path, help="file, or folder with SPLIT.csv; default: embedded or downloaded")
    parser.add_argument("--limit", type=int, help="take a random subset of this many crystals")
    parser.add_argument("--seed", type=int, default=0, help="seed of the subset")
    parser.add_argument("--workers", type=int, default=available_cores(), help="worker processes")
    parser.add_argument("--downloads", type=Path, default=data_root() / DOWNLOADS, help="where fetched files are kept")
    parser.add_argument("--out", type=Path, required=True, help="table to write (.parquet)")
    arguments = parser.parse_args(argv)
    with one_line():
        prepare_data(**vars(arguments))


if __name__ == "__main__":
    main()
