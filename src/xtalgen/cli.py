"""The command `xtalgen`: dispatches to the subcommand, which imports what it needs."""

import argparse
import importlib
import sys

from xtalgen import __version__
from xtalgen.runtime.errors import one_line

# Subcommand → what it does; `xtalgen.commands.NAME` has its `main`.
COMMANDS = {
    "score": "score crystal structures: validity, uniqueness, symmetry; with a data set all metrics",
    "generate": "generate new crystals from weights that come with xtalgen",
    "predict": "predict structures for formulas, from the same weights",
    "relax": "relax structures with a machine-learned potential",
    "explore": "write a page that shows structures on a map and in 3D",
    "convert": "write crystal structures in another form, such as those of benchmarks",
    "data": "fetch and list data sets, and say where files are kept",
    "doctor": "show devices, potentials, weights, caches and versions",
}


def main(argv: list[str] | None = None) -> None:
    """Runs the subcommand named on the command line."""
    words = sys.argv[1:] if argv is None else argv
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="xtalgen",
        description="Generative models of inorganic crystals.",
        epilog="commands:\n" + "\n".join(f"  {name:{width}}  {about}" for name, about in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xtalgen {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below; see COMMAND --help")
    args = parser.parse_args(words[:1])
    with one_line():
        importlib.import_module(f"xtalgen.commands.{args.command}").main(words[1:])
