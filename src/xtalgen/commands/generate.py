"""The command `xtalgen generate`: new crystals from a model whose weights come with the package."""

import sys

from xtalgen.commands.arguments import add_output, add_sampling, answer, make_parser, positive

EXAMPLES = """\
examples:
  xtalgen generate
  xtalgen generate -n 1000 --seed 7 --out new.extxyz
  xtalgen generate -n 100 --out new.html
  xtalgen generate --settings '{"temperature": 0.8, "count_temperature": 0.3}' --out new.csv
"""


def main(argv: list[str] | None = None) -> None:
    """Generates crystals, writes them to a file and lists the first."""
    parser = make_parser(
        "generate", "Generates new crystals from weights that come with xtalgen; nothing is downloaded.", EXAMPLES
    )
    parser.add_argument("-n", type=positive, default=100, help="number of crystals (default: %(default)s)")
    add_sampling(parser, "dng")
    add_output(parser, "generated.zip")
    given = vars(parser.parse_args(argv))
    out, as_json = given.pop("out"), given.pop("json")

    from xtalgen.commands.functions.sampling import generate

    sys.stdout.write(answer(generate(**given), out, as_json=as_json))
