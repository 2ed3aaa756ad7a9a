"""Stage `wyckoff`: adds space group, conventional cell and occupied Wyckoff positions to a split's table."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.structure.space_group import SYMPREC
from xtalgen.structure.wyckoff import CHUNK, KIND, describe, describe_chunk
from xtalgen.structure.wyckoff_positions import COLUMN

log = logging.getLogger(__name__)


def add_wyckoff(table: Path, *, out: Path, workers: int, timeout: float) -> None:
    """Writes the crystal table with the column `wyckoff`, null where a crystal is not ok or has no description.

    timeout: seconds per crystal. Raises ContractError when the file is not a table of crystals.
    """
    read = read_table(table)
    crystals = from_table(read)
    chunks = [crystals[start : start + CHUNK] for start in range(0, len(crystals), CHUNK)]
    found = map_items(describe_chunk, chunks, workers=workers, timeout=timeout * CHUNK, label=f"wyckoff {table.stem}")
    rows = [
        row
        for chunk, result in zip(chunks, found, strict=True)
        for row in (_one_by_one(chunk, timeout) if isinstance(result, Failure) else result)
    ]
    missing = sum(crystal.ok and row is None for crystal, row in zip(crystals, rows, strict=True))
    if missing:
        log.warning("%s: no Wyckoff positions for %d of %d crystals", table, missing, len(crystals))
    metadata = {**read_metadata(read), "wyckoff_symprec": str(SYMPREC), "wyckoff_missing": str(missing)}
    write_table(replace_columns(read, {COLUMN: (KIND, rows)}), out, **metadata)


def _one_by_one(crystals: Sequence[Crystal], timeout: float) -> list[dict[str, Any] | None]:
    """Returns the descriptions of a chunk that failed, computed one crystal at a time; None for those that fail."""
    results = map_items(describe, crystals, workers=1, timeout=timeout, label="wyckoff (again)")
    return [None if isinstance(result, Failure) else result for result in results]
