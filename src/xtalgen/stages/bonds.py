"""Stage `bonds`: adds the neighbours that CDVAE's encoder sees to a split's table, as the column `bonds`."""

import logging
from collections.abc import Sequence
from pathlib import Path

from xtalgen.crystals import Crystal, from_table, read_metadata, read_table, replace_columns, write_table
from xtalgen.featurizers.bonds import CHUNK, COLUMNS, bonds_of, bonds_of_chunk, radius_fallback
from xtalgen.featurizers.voronoi import CUTOFF
from xtalgen.runtime.parallel import Failure, map_items
from xtalgen.runtime.resume import clear, content_key, map_resumably

log = logging.getLogger(__name__)


def add_bonds(table: Path, *, out: Path, work: Path, workers: int, timeout: float) -> None:
    """Writes the crystal table with the columns `bonds` and `bonds_source`.

    bonds: five integers i, j, a, b, c per bond. Atom i is bonded to atom j in the cell shifted by (a, b, c); i ≤ j, and
    each bond is listed once. Null where the crystal is not ok. bonds_source: "crystal_nn", or "radius" where CrystalNN
    fails or takes more than `timeout` seconds. Then every atom is bonded to its 20 nearest neighbours within 7 Å, or to
    none where the lattice is too thin to list them. `work` keeps finished chunks, so that a killed run resumes. Raises
    ContractError when the file is not a table of crystals.
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
        label=f"bonds of {table.stem} ({CHUNK} crystals each)",
    )
    computed = iter(
        bonds
        for chunk, result in zip(chunks, found, strict=True)
        for bonds in (_one_by_one(chunk, timeout) if isinstance(result, Failure) else result)
    )
    rows = [next(computed) if crystal.ok else (None, None) for crystal in crystals]
    n_fallbacks = sum(source == "radius" for _, source in rows)
    if n_fallbacks:
        log.warning(
            "%s: CrystalNN failed for %d of %d crystals; bonds by distance instead", table, n_fallbacks, len(usable)
        )
    columns = {name: (kind, [row[index] for row in rows]) for index, (name, kind) in enumerate(COLUMNS.items())}
    write_table(replace_columns(read, columns), out, **{**read_metadata(read), "bonds_fallbacks": str(n_fallbacks)})
    clear(work)


def _one_by_one(crystals: Sequence[Crystal], timeout: float) -> list[tuple[list[int], str]]:
    """Returns the bonds of a failed chunk, computed one crystal at a time; only those that fail get the fallback."""
    results = map_items(bonds_of, crystals, workers=1, timeout=timeout, label="bonds (again)")
    return [
        radius_fallback(crystal) if isinstance(result, Failure) else result
        for crystal, result in zip(crystals, results, strict=True)
    ]
