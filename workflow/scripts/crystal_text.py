"""Asks Crystal-text-LLM for crystals with the properties of given ones, or for elements that are hidden in them."""

import argparse
import json
import sys
from pathlib import Path

from xtalgen import conditions
from xtalgen.crystals import ContractError


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=sorted(conditions.TASKS))
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--table", type=Path, required=True, help="crystals whose properties or elements are asked for")
    parser.add_argument("--limit", type=int, help="take the first so many of them")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON, see TASKS in xtalgen.conditions")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON of the settings of sampling")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, required=True, help="table to write (.parquet); rates go beside it (.json)")
    parser.add_argument("--figure", type=Path, help="conditional: asked against obtained, as .svg or .png")
    try:
        conditions.run(**vars(parser.parse_args(argv)))
    except (ContractError, FileNotFoundError, TypeError, ValueError) as error:
        sys.exit(f"crystal_text: {error}")


if __name__ == "__main__":
    main()
