"""Shards: a table of crystals split into parts that jobs share out, and merged again."""

from collections.abc import Sequence
from pathlib import Path

from xtalgen.crystals import read_facts, read_table, write_table


def split(crystals: Path, parts: Sequence[Path]) -> None:
    """Writes the rows of a table in contiguous, nearly equal parts; parts may be empty."""
    table = read_table(crystals)
    kept = read_facts(table)
    edges = [index * table.num_rows // len(parts) for index in range(len(parts) + 1)]
    for part, start, stop in zip(parts, edges[:-1], edges[1:], strict=True):
        write_table(table.slice(start, stop - start), part, **kept)
