"""Trains a model on crystal tables."""

import argparse
from pathlib import Path

from xtalgen.runtime.arguments import add_job, add_model
from xtalgen.runtime.errors import one_line
from xtalgen.stages.train import train


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True, help="dng or csp")
    add_model(parser)
    add_job(parser)
    parser.add_argument("--train", type=Path, required=True, help="crystal table (Parquet)")
    parser.add_argument("--val", type=Path, required=True, help="crystal table (Parquet)")
    parser.add_argument(
        "--max-seconds", type=float, default=None, help="time budget over all attempts, in CPU time without a GPU"
    )
    arguments = vars(parser.parse_args(argv))
    with one_line():
        train(arguments.pop("model"), arguments.pop("task"), **arguments)


if __name__ == "__main__":
    main()
