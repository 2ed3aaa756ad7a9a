"""Fetches the phase diagram of the Materials Project with matbench-discovery, which has an environment of its own."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.fetch_diagram import fetch_diagram


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="entries to write (.json.gz)")
    arguments = parser.parse_args(argv)
    try:
        fetch_diagram(arguments.out)
    except (ModuleNotFoundError, ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
