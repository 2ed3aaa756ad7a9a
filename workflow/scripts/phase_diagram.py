"""Downloads the phase diagram of the Materials Project with matbench-discovery, in a separate environment."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from xtalgen.runtime.errors import one_line
from xtalgen.stages.phase_diagram import fetch_phase_diagram


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the stage from its command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="entries to write (.json.gz)")
    arguments = parser.parse_args(argv)
    with one_line():
        fetch_phase_diagram(arguments.out)


if __name__ == "__main__":
    main()
