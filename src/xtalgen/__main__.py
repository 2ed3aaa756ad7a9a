"""Runs the command `xtalgen`: `python -m xtalgen score FILE`."""

from xtalgen.cli import main

main()
