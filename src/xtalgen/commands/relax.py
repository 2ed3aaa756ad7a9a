"""The command `xtalgen relax`: relaxes structures with a machine-learned potential."""

import sys
from pathlib import Path

from xtalgen.commands.arguments import add_device, add_output, answer, make_parser, positive
from xtalgen.commands.choices import potential_names
from xtalgen.runtime.errors import one_line

EXAMPLES = """\
examples:
  xtalgen relax mine.extxyz
  xtalgen relax mine.cif --potential mace-small --fmax 0.02 --out relaxed.cif
  xtalgen relax mine.zip --max-steps 0 --out energies.csv   # energies of the given geometries

Cells and atoms are relaxed. Finished crystals are kept, so a killed run resumes where it stopped.
"""


def main(argv: list[str] | None = None) -> None:
    """Relaxes the structures of a file, writes them to another and lists the first."""
    parser = make_parser("relax", "Relaxes crystal structures with a machine-learned potential.", EXAMPLES)
    add = parser.add_argument
    add("structures", type=Path, metavar="FILE", help="the structures to relax")
    add(
        "--column", metavar="NAME", help="of a table: the column that holds the structures (default: cif, structure, …)"
    )
    known = ", ".join(potential_names())
    add("--potential", default="chgnet", help=f"{known}, or a MACE checkpoint (default: %(default)s)")
    add("--fmax", type=float, default=0.05, help="largest force on atoms and cell, eV/Å (default: %(default)s)")
    add("--max-steps", type=int, default=500, help="FIRE steps; 0 evaluates the given geometry (default: %(default)s)")
    add("--timeout", type=float, default=600.0, help="wall-clock limit per crystal, in seconds (default: %(default)s)")
    add("--workers", type=positive, help="processes (default: all cores)")
    add_device(parser)
    add_output(parser, "relaxed.extxyz")
    given = vars(parser.parse_args(argv))
    if given["potential"] not in potential_names() and not Path(given["potential"]).is_file():
        parser.error(f"--potential {given['potential']}: neither the name of a potential ({known}) nor a file")
    out, as_json = given.pop("out"), given.pop("json")
    with one_line():
        from xtalgen.stages.import_structures import check_structure_file

        check_structure_file(given["structures"])
        from xtalgen.commands.functions.relaxing import relax

        sys.stdout.write(answer(relax(**given), out, as_json=as_json))
