"""Tests a distilled potential against its teacher and DFT on held-out crystals, and writes its model card."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.devices import pick_device
from xtalgen.runtime.errors import one_line
from xtalgen.stages.distil_card import TestSize, write_distil_card


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the potential (.safetensors)")
    parser.add_argument("--teacher", default="chgnet", help="the potential that computed the labels")
    parser.add_argument("--test", type=Path, required=True, help="table of held-out crystals")
    parser.add_argument("--known", type=Path, nargs="+", required=True, help="tables of the other crystals")
    parser.add_argument("--given", type=int, default=500, help="crystals evaluated as given")
    parser.add_argument("--relaxed", type=int, default=100, help="of these, relaxed by both")
    parser.add_argument("--hull", type=int, default=150, help="of these, compared with the hull of the others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="single-threaded processes (CPU only)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps energies")
    parser.add_argument("--out-json", type=Path, required=True)
    parser.add_argument("--out-markdown", type=Path, required=True)
    given = vars(parser.parse_args(argv))
    size = TestSize(given.pop("given"), given.pop("relaxed"), given.pop("hull"), seed=given.pop("seed"))
    given["device"] = pick_device(given["device"])
    with one_line():
        write_distil_card(given.pop("model"), size=size, **given)


if __name__ == "__main__":
    main()
