"""Stage bonds: the neighbours that CDVAE's encoder sees, added to a split's table as the column bonds."""

import logging
from collections.abc import Sequence
from pathlib import Path

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.featurizers.bonds import CHUNK, COLUMNS, bonds_of, bonds_of_chunk, nearest_bonds
from xtalgen.featurizers.voronoi import CUTOFF
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.runtime.resume import clear, content_key, map_resumably

log = logging.getLogger(__name__)


def add_bonds(table: Path, *, out: Path, work: Path, workers: int, timeout: float) -> None:
    """Writes the crystal table with the columns `bonds` and `bonds_source`.

    bonds: numbers i, j, a, b, c of one bond after the other: atom i is bonded to atom j in the cell shifted by
    (a, b, c), i ≤ j, each bond once; null where the crystal is not ok. bonds_source: "crystal_nn", or "radius" where
    CrystalNN has no answer or none within `timeout` seconds: then every atom is bonded to its 20 nearest within 7 Å, to
    none where the lattice is too thin to list them.
    Finished parts survive a kill in `work`. Raises ContractError when the table is none.
    """
    read = read_table(table)
    crystals = from_table(read)
    usable = [crystal for crystal in crystals if crystal.ok]
    chunks = [usable[start : start + CHUNK] for start in range(0, len(usable), CHUNK)]
    found = map_resumably(
        bonds_of_chunk,
        chunks,
        work=work,
        key=content_key(table, cutoff=CUTOFF),
        workers=workers,
        timeout=timeout * CHUNK,
        label=f"bonds of {table.stem} (by {CHUNK})",
    )
    answers = iter(
        answer
        for chunk, result in zip(chunks, found, strict=True)
        for answer in (_one_by_one(chunk, timeout) if isinstance(result, Failure) else result)
    )
    rows = [next(answers) if crystal.ok else (None, None) for crystal in crystals]
    fallen = sum(source == "radius" for _, source in rows)
    if fallen:
        log.warning("%s: no CrystalNN bonds for %d of %d crystals; radius graph instead", table, fallen, len(usable))
    columns = {name: (kind, [row[place] for row in rows]) for place, (name, kind) in enumerate(COLUMNS.items())}
    write_table(replace_columns(read, columns), out, **{**read_metadata(read), "bonds_fallbacks": str(fallen)})
    clear(work)


def _one_by_one(crystals: Sequence[Crystal], timeout: float) -> list[tuple[list[int], str]]:
    """Returns the bonds of a chunk that failed as a whole; only the crystals that fail alone fall back."""
    results = map_items(bonds_of, crystals, workers=1, timeout=timeout, label="bonds (again)")
    return [
        nearest_bonds(crystal) if isinstance(result, Failure) else result
        for crystal, result in zip(crystals, results, strict=True)
    ]
