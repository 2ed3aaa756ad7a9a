"""The command `xtalgen data`: fetches and lists data sets, and says where files are kept."""

import argparse
import sys
from pathlib import Path

from xtalgen.commands.arguments import add_json, format_table, make_parser, to_json
from xtalgen.commands.choices import DATA_SETS
from xtalgen.experiment.places import DOWNLOADS, VARIABLE, data_root, user_cache
from xtalgen.runtime.names import SPLITS

EXAMPLES = f"""\
examples:
  xtalgen data list
  xtalgen data fetch mp_20
  xtalgen data where
  {VARIABLE}=/scratch/data xtalgen data fetch mp_20 --split test

Data sets are looked for in the folder {VARIABLE}, by default in the user's cache: ROOT/mp_20/train.csv (or .csv.gz,
structures.json.zip) is your own copy, ROOT/{DOWNLOADS}/mp_20/train.csv what xtalgen fetched.
"""


def main(argv: list[str] | None = None) -> None:
    """Fetches or lists data sets, or says where files are kept."""
    parser = make_parser("data", "Fetches and lists data sets, and says where files are kept.", EXAMPLES)
    parser.add_argument("what", choices=("fetch", "list", "where"), help="what to do")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"data sets to fetch: {', '.join(DATA_SETS)}")
    parser.add_argument("--split", choices=SPLITS, action="append", help="fetch this split only; may be repeated")
    add_json(parser)
    args = parser.parse_args(argv)
    if (args.what == "fetch") != bool(args.names):
        parser.error("fetch needs the name of a data set; list and where take none")
    if unknown := [name for name in args.names if name not in DATA_SETS]:
        parser.error(f"no data set {unknown[0]!r}; there are {', '.join(DATA_SETS)}")
    sys.stdout.write({"fetch": _fetch, "list": _list, "where": _where}[args.what](args))


def describe_fetch(dataset: str) -> str:
    """Returns a sentence on a data set: where it is, or how large the download is; empty for one that is not known."""
    from xtalgen.datasets.places import describe_place

    return describe_place(dataset, data_root()) if dataset in DATA_SETS else ""


def _fetch(args: argparse.Namespace) -> str:
    from xtalgen.datasets.places import State, describe_place, fetch_data_set, find_data_set

    root, files = data_root(), []
    for name in args.names:
        sys.stderr.write(f"{describe_place(name, root)}\n")
        if find_data_set(name, root).state in (State.ABSENT, State.FETCHED):
            files += fetch_data_set(name, root, args.split or SPLITS)
    return to_json({"files": files}) if args.json else "".join(f"{file}\n" for file in files)


def _list(args: argparse.Namespace) -> str:
    from xtalgen.datasets.places import find_data_set
    from xtalgen.datasets.registry import DATA_SETS as KNOWN

    rows = []
    for name, known in KNOWN.items():
        place = find_data_set(name, data_root())
        crystals = sum(split.n_crystals for split in known.splits.values())
        rows.append(
            {
                "name": name,
                "crystals": crystals or None,
                "megabytes": known.megabytes or None,
                "state": str(place.state),
                "folder": place.folder,
                "about": known.about,
                "licence": known.licence,
            }
        )
    if args.json:
        return to_json(rows)
    columns = ("name", "crystals", "megabytes", "state")
    cells = [
        [
            "" if row[name] is None else f"{row[name]:,}" if isinstance(row[name], int) else str(row[name])
            for name in columns
        ]
        for row in rows
    ]
    return format_table([columns, *cells]) + "\n"


def _where(args: argparse.Namespace) -> str:
    places = {"data": data_root(), "downloads": data_root() / DOWNLOADS, "cache": user_cache()}
    found = {name: {"folder": folder, "megabytes": _megabytes(folder)} for name, folder in places.items()}
    if args.json:
        return to_json(found)
    rows = [[name, str(one["folder"]), f"{one['megabytes']:,} MB"] for name, one in found.items()]
    return format_table(rows) + "\n"


def _megabytes(folder: Path) -> int:
    files = (file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else ()
    return round(sum(file.stat().st_size for file in files) / 1e6)
