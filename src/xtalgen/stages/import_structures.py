"""Stage `import_structures`: a user's own file of crystals, in any usual format, as a crystal table.

Every entry of the file becomes a row; one that cannot be used keeps its row with a status ("unparsable",
"disordered", "unknown_element", "bad_lattice") and the column `error` says why. Archives are read in memory, never
unpacked; nothing is unpickled, and no class named in a JSON file is imported.
"""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from xtalgen.crystals import Crystal, to_table, write_table
from xtalgen.io.entries import Entry, explain_suffix
from xtalgen.io.shards import split
from xtalgen.io.structure_files import SUFFIXES, parse_entry, read_entries
from xtalgen.runtime.parallel import Failure, map_items

COLUMNS = {"source_name": pa.string(), "error": pa.string(), "energy_given": pa.float64()}
SECONDS_PER_ENTRY = 60.0
FEW_ENTRIES = 200


def import_structures(structures: Path, *, out: Sequence[Path], workers: int) -> None:
    """Writes the crystals of a user's file to `out`, in contiguous shards where there are several.

    Ids are `NAME-000000`, counted in the order of the file, NAME being the file's name up to its first dot. Columns
    besides the contract's: `source_name` (name inside the file), `error` (null when ok), `energy_given` (the file's
    own energy in eV, null when absent; never mixed with computed energies). Raises ValueError, naming the remedy,
    when the file as a whole cannot be used: unknown suffix, empty, no archive, no crystal in it;
    FileNotFoundError when there is no such file.
    """
    name = structures.name.split(".")[0]
    found = find_structure_file(structures.parent, name)
    if found != structures:
        raise FileNotFoundError(f"{structures}: there is no such file; {found} is there.")
    crystals = read_structures(structures, workers)
    metadata = {"source": structures.name, "sha256": hashlib.sha256(structures.read_bytes()).hexdigest()}
    table = to_table(crystals, COLUMNS)
    if len(out) == 1:
        write_table(table, out[0], **metadata)
        return
    whole = out[0].with_name(f".{name}.{os.getpid()}.parquet")
    try:
        write_table(table, whole, **metadata)
        split(whole, out)
    finally:
        whole.unlink(missing_ok=True)


def read_structures(structures: Path, workers: int) -> list[Crystal]:
    """Returns the crystals of a user's file, in its order; ids and `info` as `import_structures` writes them.

    Tells on standard error what was read. Raises ValueError, naming the remedy, when the file as a whole is wrong.
    """
    name = structures.name.split(".")[0]
    found = parse_entries(read_entries(structures), workers)
    crystals = [replace(crystal, id=f"{name}-{index:06d}") for index, crystal in enumerate(found)]
    _report(structures, crystals)
    return crystals


def find_structure_file(folder: Path, name: str) -> Path:
    """Returns the file `folder/name.SUFFIX` of a user's set.

    Raises FileNotFoundError when there is none, ValueError when the name is no plain name, when two files share it, or
    when the suffix is unknown; each message lists the suffixes there are. Imports nothing heavy.
    """
    allowed = ", ".join(SUFFIXES)
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError(f"{name!r} is no name of a file in {folder}.")
    found = sorted(path for path in folder.glob("*.*") if path.name.split(".")[0] == name and path.is_file())
    if not found:
        raise FileNotFoundError(f"{folder / name}.*: there is no such file. Give one that ends in {allowed}.")
    if len(found) > 1:
        names = " and ".join(str(path) for path in found)
        raise ValueError(f"{names} share the name {name!r}. Rename all but one.")
    if not found[0].name.lower().endswith(SUFFIXES):
        raise ValueError(explain_suffix(found[0], SUFFIXES))
    return found[0]


def parse_entries(entries: Sequence[Entry], workers: int) -> list[Crystal]:
    """Returns one crystal per entry, in order, without ids; entries that fail have a status and `info["error"]`.

    A few entries are parsed in this process, many in worker processes with a wall limit each.
    """
    few = len(entries) <= FEW_ENTRIES
    results = map_items(
        parse_entry,
        entries,
        workers=1 if few else workers,
        timeout=None if few else SECONDS_PER_ENTRY,
        label="import structures",
    )
    return [
        _unparsable(entry, result.message) if isinstance(result, Failure) else result
        for entry, result in zip(entries, results, strict=True)
    ]


def _unparsable(entry: Entry, message: str) -> Crystal:
    return Crystal(id="", status="unparsable", info={"source_name": entry.name, "error": message})


def _report(structures: Path, crystals: Sequence[Crystal]) -> None:
    counts = Counter(crystal.status for crystal in crystals)
    listed = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    print(f"{structures}: {len(crystals)} crystals: {listed}", file=sys.stderr)
    broken = [crystal for crystal in crystals if not crystal.ok]
    for crystal in broken[:10]:
        print(f"  {crystal.id} ({crystal.info['source_name']}): {crystal.info['error']}", file=sys.stderr)
    if len(broken) > 10:
        print(f"  and {len(broken) - 10} more; see the column `error`.", file=sys.stderr)
