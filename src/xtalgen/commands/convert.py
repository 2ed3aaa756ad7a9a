"""The command `xtalgen convert`: writes a file or folder of structures in another form.

Nothing heavy is imported before the arguments are checked, so that help and errors appear at once.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xtalgen.io.folders import check_structure_file
from xtalgen.io.structure_files import FORMATS
from xtalgen.io.writers.registry import FORMS, USUAL
from xtalgen.io.writers.symmetric_cif import SYMPREC
from xtalgen.runtime.errors import one_line

if TYPE_CHECKING:
    from xtalgen.commands.converting import Converted

WIDTH = max(map(len, FORMS))
LISTED = "\n".join(f"  {name:{WIDTH}}  {form.about} ({form.suffixes[0] if form.suffixes else 'folder'})"
                   for name, form in FORMS.items())  # fmt: skip
EXAMPLES = f"""\
forms:
{LISTED}

examples:
  xtalgen convert samples.npz --out samples.extxyz
  xtalgen convert runs/ --files '*CONTCAR*' --out relaxed.db
  xtalgen convert mine.csv --column relaxed --to lemat-genbench --seed 1 --out board.csv
  xtalgen convert mine.extxyz --to cif --symprec 0.1 --out mine.zip
  xtalgen convert predictions.zip --to atombench --targets test.csv --out mine.csv

FILE: {", ".join(FORMATS)}, POSCAR, CONTCAR, XDATCAR, text files also with .gz, or a folder of files of one kind.
Entries that are no crystals keep a row without a structure where the form has rows, and are listed in OUT.failed.csv
otherwise.
"""


def main(argv: list[str] | None = None) -> None:
    """Writes the structures named on the command line."""
    args = _parser().parse_args(argv)
    with one_line():
        form = _check(args)
        from xtalgen.commands.converting import Conversion, convert
        from xtalgen.runtime.parallel import available_cores

        found = convert(
            Conversion(
                structures=args.structures,
                form=form,
                out=args.out,
                column=args.column,
                files=args.files,
                n=args.n,
                seed=args.seed,
                symprec=args.symprec,
                targets=args.targets,
                workers=args.workers or available_cores(),
            )
        )
        sys.stdout.write(_as_json(found) if args.json else report(found))


def report(found: "Converted") -> str:
    """Returns what was done, for a terminal."""
    drawn = f", {found.drawn:,} drawn" if found.drawn != found.read else ""
    lines = [f"{found.out}: {found.read:,} read{drawn}, {found.written:,} written"]
    if found.failures:
        listed = ", ".join(f"{count:,} {status}" for status, count in found.failures.most_common())
        where = f"listed in {found.failed}" if found.failed else "they keep a row without a structure"
        lines.append(f"{found.failures.total():,} are no crystals ({listed}); {where}")
    return "".join(f"{line}\n" for line in lines)


def _as_json(found: "Converted") -> str:
    facts = {
        "out": str(found.out),
        "read": found.read,
        "drawn": found.drawn,
        "written": found.written,
        "failures": dict(found.failures),
        "failed": str(found.failed) if found.failed else None,
    }
    return f"{json.dumps(facts)}\n"


def _check(args: argparse.Namespace) -> str:
    """Returns the form to write. Raises ValueError or OSError, saying what to do, when an argument is wrong."""
    if args.files and args.structures.is_file():
        raise ValueError(f"{args.structures}: is no folder, so --files has nothing to choose. Leave it out.")
    check_structure_file(args.structures, args.files)
    name, out = args.to or _form_of(args.out), args.out
    form = FORMS[name]
    if form.suffixes and not out.name.lower().endswith(form.suffixes):
        raise ValueError(f"{out}: {name} is written to a file that ends in {' or '.join(form.suffixes)}.")
    if form.suffixes and out.is_dir():
        raise IsADirectoryError(f"{out}: is a folder. Name a file that ends in {form.suffixes[0]}.")
    if not form.suffixes and out.is_file():
        raise ValueError(f"{out}: {name} is written to a folder, and this is a file. Name a folder.")
    if out.exists() and out.samefile(args.structures):
        raise ValueError(f"{out}: is the file that is read. Name another one.")
    if form.targets != (args.targets is not None):
        remedy = "compares with targets: give --targets FILE" if form.targets else "has no targets: leave --targets out"
        raise ValueError(f"--to {name} {remedy}.")
    if args.targets is not None:
        check_structure_file(args.targets)
    if args.n is not None and args.n < 0:
        raise ValueError(f"-n {args.n}: give a number of crystals, or 0 for all.")
    return name


def _form_of(out: Path) -> str:
    suffix = next((suffix for suffix in sorted(USUAL, key=len) if out.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"{out}: no form is written to such a file. Name one with --to: {', '.join(FORMS)}.")
    return USUAL[suffix]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xtalgen convert",
        description="Writes a file or folder of crystal structures in another form, ids and order kept.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("structures", type=Path, metavar="FILE", help="the structures to convert: a file or a folder")
    add("--to", choices=FORMS, metavar="FORM", help="form to write, one of those below (default: by the suffix of OUT)")
    add("--out", type=Path, required=True, help="file to write; a folder for mattergen")
    add("--column", help="column of a CSV or Parquet file that holds the structures (default: cif, structure, …)")
    add("--files", metavar="PATTERN", help="names of the files to take from a folder, such as '*.cif'")
    add("-n", type=int, help="number of crystals to draw at random (default: all; lemat-genbench: 2500); 0: all")
    add("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    add(
        "--symprec",
        type=float,
        default=SYMPREC,
        metavar="ANGSTROM",
        help="tolerance of the symmetry that CIFs state (default: %(default)s Å); 0 writes P 1",
    )
    add("--targets", type=Path, metavar="FILE", help="with atombench: the crystals that are predicted")
    add("--json", action="store_true", help="print what was done as JSON")
    add("--workers", type=int, help="processes (default: all cores)")
    return parser
