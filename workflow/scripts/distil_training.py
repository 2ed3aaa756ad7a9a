"""Trains a small MACE on labelled configurations with mace-torch's program, and writes it as safetensors."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.devices import pick_device
from xtalgen.runtime.errors import one_line
from xtalgen.stages.distil_training import read_recipe, run_distil_training


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, nargs="+", required=True, help="tables of the stage distil")
    parser.add_argument("--recipe", default="{}", help="settings that differ from the defaults, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--work", type=Path, required=True, help="folder of the program's files and checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="model to write (.safetensors)")
    given = vars(parser.parse_args(argv))
    with one_line():
        given |= {"recipe": read_recipe(json.loads(given["recipe"])), "device": pick_device(given["device"])}
        run_distil_training(given.pop("labels"), **given)


if __name__ == "__main__":
    main()
