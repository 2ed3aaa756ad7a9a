"""The command `xtalgen predict`: structures for given formulas, from a model whose weights come with the package."""

import argparse
import sys

from xtalgen.commands.arguments import add_output, add_sampling, answer, make_parser, positive

EXAMPLES = """\
examples:
  xtalgen predict NaCl
  xtalgen predict LiFePO4 Li4Fe4P4O16 -k 5 --out lifepo4.zip
  xtalgen predict SrTiO3 -k 20 --out candidates.html

The formula counts the atoms of the cell: NaCl asks for two atoms, Na4Cl4 for eight.
"""


def main(argv: list[str] | None = None) -> None:
    """Predicts structures, writes them to a file and lists the first."""
    parser = make_parser(
        "predict",
        "Predicts structures for formulas with weights that come with xtalgen; nothing is downloaded.",
        EXAMPLES,
    )
    parser.add_argument("formulas", nargs="+", type=_formula, metavar="FORMULA", help="atoms of the cell")
    parser.add_argument("-k", type=positive, default=1, help="structures per formula (default: %(default)s)")
    add_sampling(parser, "csp")
    add_output(parser, "predicted.zip")
    given = vars(parser.parse_args(argv))
    out, as_json = given.pop("out"), given.pop("json")

    from xtalgen.commands.functions.sampling import predict

    sys.stdout.write(answer(predict(**given), out, as_json=as_json))


def _formula(text: str) -> str:
    from xtalgen.structure.composition import read_formula

    try:
        read_formula(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
