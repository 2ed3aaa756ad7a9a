"""Arguments and answers that several commands share. Imports nothing heavy."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtalgen.commands.choices import DEFAULT_MODEL, DEVICES, shipped_weights
from xtalgen.commands.functions.outputs import SUFFIXES, check_output

if TYPE_CHECKING:
    from xtalgen.commands.functions.results import CrystalSet

EXIT_CODES = (
    "exit codes: 0 done; 1 the input cannot be used or the work failed; 2 wrong arguments; 130 stopped by Ctrl-C"
)
LISTED = 10  # crystals that a command lists
COLUMNS = ("id", "formula", "n_atoms", "spg_num", "density", "status")


def make_parser(name: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Returns the parser of a subcommand; help ends with examples and exit codes."""
    return argparse.ArgumentParser(
        prog=f"xtalgen {name}",
        description=description,
        epilog=f"{examples}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_sampling(parser: argparse.ArgumentParser, task: str) -> None:
    """Adds the arguments of commands that sample a model: --model, --checkpoint, --settings, --seed and --device."""
    shipped = ", ".join(shipped_weights(task))
    about = f"model; weights come with xtalgen for {shipped} (default: %(default)s)"
    parser.add_argument("--model", default=DEFAULT_MODEL, help=about)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="your own checkpoint.safetensors of the model")
    about = "settings of sampling that differ from the defaults, as JSON, such as '{\"temperature\": 0.8}'"
    parser.add_argument("--settings", type=_mapping, metavar="JSON", help=about)
    parser.add_argument("--seed", type=int, default=0, help="seed; equal seeds give equal crystals (default: 0)")
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto takes a GPU if there is one")


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds --out, with the suffixes that can be written, and --json."""
    about = f"file to write; its suffix decides: {', '.join(SUFFIXES)} (.html is a page; default: %(default)s)"
    parser.add_argument("--out", type=_output, default=Path(default), metavar="FILE", help=about)
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def positive(text: str) -> int:
    """Returns a whole number above 0. Raises ArgumentTypeError for another text."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def answer(found: "CrystalSet", out: Path, *, as_json: bool) -> str:
    """Writes crystals to their file and returns what to print: a table of the first ones, or JSON of all."""
    found.write(out)
    rows = found.described
    if as_json:
        return to_json({"out": str(out), "n": len(rows), "crystals": rows})
    fine = sum(row["status"] == "ok" for row in rows)
    lines = [format_table([COLUMNS, *([_cell(row[name]) for name in COLUMNS] for row in rows[:LISTED])])]
    lines += [f"… and {len(rows) - LISTED:,} more"] * (len(rows) > LISTED)
    return "\n".join([*lines, "", f"{out}: {fine:,} of {len(rows):,} crystals are usable", ""])


def to_json(content: Any) -> str:
    """Returns JSON for a terminal or a pipe; numbers that are not finite become null."""
    return json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows as text in columns: the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows)
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if hasattr(content, "tolist"):  # numpy
        return _plain(content.tolist())
    if isinstance(content, float) and content - content != 0:
        return None
    return content if isinstance(content, str | int | float | bool | None) else str(content)


def _output(text: str) -> Path:
    try:
        check_output(Path(text))
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def _mapping(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not readable JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form {{"key": value}}')
    return found
