"""Works in CDVAE's latent space: reconstructs crystals, or minimises a predicted property."""

import argparse
import json
from pathlib import Path

import pyarrow as pa

from xtalgen.crystals import read_crystals, to_table, write_table
from xtalgen.models import build
from xtalgen.models.cdvae import Model, optimise_property, reconstruct
from xtalgen.runtime.devices import pick_device
from xtalgen.runtime.errors import one_line

COLUMNS = {"step": pa.int64(), "predicted": pa.float64()}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("do", choices=["reconstruct", "optimise"])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--table", type=Path, help="crystals, with bonds; optimise starts from noise without it")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON, see xtalgen.models.cdvae")
    parser.add_argument("--settings", type=json.loads, default={}, help="settings of sampling, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, required=True, help="table to write (.parquet)")
    given = parser.parse_args(argv)
    with one_line():
        crystals = read_crystals(given.table) if given.table else []
        sampling = build(Model.Sampling, given.settings, "--settings")
        walk = reconstruct if given.do == "reconstruct" else optimise_property
        made = walk(given.checkpoint, crystals, sampling, given.seed, pick_device(given.device), **given.options)
        write_table(to_table(made, COLUMNS if walk is optimise_property else {}), given.out)


if __name__ == "__main__":
    main()
