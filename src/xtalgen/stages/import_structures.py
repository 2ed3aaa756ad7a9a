"""Stage `import_structures`: a file of crystals, a user's own or released, in any usual format, as a crystal table.

Every entry of the file becomes a row. One that cannot be used has a status ("unparsable", "disordered",
"unknown_element", "bad_lattice") and a reason in the column `error`; the column `warning` lists assumptions of the
reader. Archives are read in memory, never unpacked; nothing is unpickled, and no class named in a JSON file is
imported.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa

from xtalgen.crystals import Crystal, to_table
from xtalgen.datasets.releases import Release, describe_release, fetch_release
from xtalgen.io.entries import Entry
from xtalgen.io.folders import check_structure_file, iterate_folder
from xtalgen.io.shards import Parts, split, write_batches
from xtalgen.io.streams import Position
from xtalgen.io.structure_files import FORMATS, check_suffix, iterate_entries, parse_entry, read_entries
from xtalgen.runtime.atomic import file_sum
from xtalgen.runtime.parallel import Failure, map_in_chunks, progress_bar
from xtalgen.runtime.provenance import PACKAGE
from xtalgen.runtime.provenance import fingerprint as code_fingerprint
from xtalgen.runtime.resume import content_key

log = logging.getLogger(__name__)
COLUMNS = {
    "source_name": pa.string(),
    "error": pa.string(),
    "warning": pa.string(),
    "energy_given": pa.float64(),
}
SECONDS_PER_ENTRY = 60.0
FEW_ENTRIES = 200
LISTED = 10  # rows that a log or an error names
BATCH = 2048  # entries in memory at once


def import_structures(structures: Path, *, out: Sequence[Path], workers: int) -> None:
    """Writes the crystals of a user's file to `out`, in contiguous shards where there are several.

    Ids are `NAME-000000`, counted in the order of the file, NAME being the file's name up to its first dot. Columns
    besides the contract's: `source_name` (name inside the file), `error` (null when ok), `warning` (what was assumed,
    null when nothing), `energy_given` (the file's own energy in eV, null when absent; never mixed with computed
    energies). Raises ValueError, naming the remedy, when the file as a whole cannot be used: unknown suffix, empty, no
    archive; and, after the rows are written, when none of them is a crystal. Raises FileNotFoundError when there is no
    such file.
    """
    if structures.exists():
        check_structure_file(structures)
    name = structures.name.split(".")[0]
    folder = structures.is_dir()
    if not folder and (found := find_structure_file(structures.parent, name)) != structures:
        raise FileNotFoundError(f"{structures}: there is no such file; {found} is there.")
    metadata = {"source": structures.name, "sha256": content_key(structures) if folder else file_sum(structures)}
    _write(Summary(structures), iterate_structures(structures, workers), out, name, metadata).require_crystals()


def import_release(
    name: str, release: Release, structures: Path | None, *, out: Sequence[Path], downloads: Path, workers: int
) -> None:
    """Writes the crystals of released samples to `out`, as `import_structures` does; ids are `NAME-released-000000`.

    structures: the file; None fetches it into `downloads`. The metadata holds what is to be known of the release,
    and `caveat`, the text that is printed beside its numbers. Raises DownloadError when the file cannot be fetched.
    """
    file = structures or fetch_release(name, release, downloads)
    check_structure_file(file)
    entries = read_entries(file, release.column)
    metadata, caveat = describe_release(release, file, len(entries))
    log.info("%s: licence %s; cite %s; relaxed before: %s", name, release.licence, release.citation, release.relaxed)
    if caveat:
        log.info("%s: %s", name, caveat)
    crystals = _numbered(parse_entries(entries[: release.limit], workers), f"{name}-released")
    _write(Summary(file), crystals, out, name, metadata | {"caveat": caveat}).require_crystals()


def _write(
    summary: "Summary", crystals: Iterable[Crystal], out: Sequence[Path], name: str, metadata: dict[str, str]
) -> "Summary":
    """Writes crystals to one table, or through one into contiguous shards; returns and logs what they were."""
    if len(out) == 1:
        return _write_table(summary, crystals, out[0], metadata)
    whole = out[0].with_name(f".{name}.{os.getpid()}.parquet")
    try:
        _write_table(summary, crystals, whole, metadata)
        split(whole, out)
    finally:
        whole.unlink(missing_ok=True)
    return summary


def _write_table(summary: "Summary", crystals: Iterable[Crystal], out: Path, metadata: dict[str, str]) -> "Summary":
    """Writes crystals to one table, `BATCH` rows in memory at a time."""
    tables = (to_table(summary.of(batch), COLUMNS) for batch in batched(crystals, BATCH))
    write_batches(tables, out, **metadata)
    summary.report()
    return summary


def write_structures(structures: Path, out: Path, workers: int, column: str | None = None) -> "Summary":
    """Writes the crystals of a user's file or folder to one table, `BATCH` rows in memory at a time.

    Returns what was read, and logs a summary to stderr. column: of a table, the one that holds the crystals. What was
    parsed is kept beside `out` until it is written, so that a killed run resumes. Raises ValueError, naming the remedy,
    when the file as a whole is wrong.
    """
    parts = parts_of(structures, out.with_name(f".{out.name}.parts"), column)
    summary = _write_table(Summary(structures), iterate_structures(structures, workers, column, parts=parts), out, {})
    parts.clear()
    return summary


def parts_of(structures: Path, folder: Path, column: str | None = None, files: str | None = None) -> Parts:
    """Returns where parsed crystals of a file are kept until they are written; other content makes others."""
    code = code_fingerprint(PACKAGE / "stages/import_structures.py")
    facts = {"name": structures.name, "column": column, "files": files, "batch": BATCH, "code": code}
    return Parts(folder, lambda: content_key(structures, **facts), COLUMNS)


def read_structures(structures: Path, workers: int, column: str | None = None) -> list[Crystal]:
    """Returns the crystals of a user's file, in its order; ids and `info` as `import_structures` writes them.

    Logs a summary to stderr. Raises ValueError, naming the remedy, when the file as a whole is wrong; see
    `Summary.require_crystals` for a file whose rows are all broken.
    """
    summary = Summary(structures)
    crystals = summary.of(list(iterate_structures(structures, workers, column)))
    summary.report()
    return crystals


def iterate_structures(
    structures: Path,
    workers: int,
    column: str | None = None,
    *,
    files: str | None = None,
    parts: Parts | None = None,
) -> Iterator[Crystal]:
    """Yields the crystals of a user's file or folder, in its order.

    column: of a table, the one that holds the crystals; files: pattern of the names of a folder's files; parts: keeps
    what was parsed. Raises ValueError when the file as a whole is wrong.
    """
    check_structure_file(structures, files)
    name = structures.absolute().name.split(".")[0]
    position = Position()
    if structures.is_dir():
        entries = iterate_folder(structures, column, files, position)
    else:
        entries = iterate_entries(structures, column, position)
    yield from _numbered(_note_repeats(parse_entries(entries, workers, position, parts)), name)


def _numbered(crystals: Iterable[Crystal], name: str) -> Iterator[Crystal]:
    return (replace(crystal, id=f"{name}-{index:06d}") for index, crystal in enumerate(crystals))


def _note_repeats(crystals: Iterable[Crystal]) -> Iterator[Crystal]:
    """Yields the crystals; the warning of one whose name occurred before says so."""
    seen: set[int] = set()
    for crystal in crystals:
        name = crystal.info.get("source_name")
        known = len(seen)
        seen.add(hash(name))
        if len(seen) > known or name is None:
            yield crystal
            continue
        repeated = f"an earlier entry is called {name!r}, too"
        warning = "; ".join(filter(None, (crystal.info.get("warning"), repeated)))
        yield replace(crystal, info={**crystal.info, "warning": warning})


@dataclass
class Summary:
    """What was read of a user's file: rows by status, the first that failed or were read with an assumption."""

    structures: Path
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[Crystal] = field(default_factory=list)
    warned: list[Crystal] = field(default_factory=list)
    n_warned: int = 0

    def of(self, crystals: list[Crystal]) -> list[Crystal]:
        """Counts the crystals and returns them."""
        self.counts.update(crystal.status for crystal in crystals)
        failed = [crystal for crystal in crystals if not crystal.ok]
        warned = [crystal for crystal in crystals if crystal.ok and crystal.info.get("warning")]
        self.failed += failed[: LISTED - len(self.failed)]
        self.warned += warned[: LISTED - len(self.warned)]
        self.n_warned += len(warned)
        return crystals

    def report(self) -> None:
        """Logs it."""
        total = self.counts.total()
        listed = ", ".join(f"{count} {status}" for status, count in self.counts.most_common())
        log.info("%s: %d crystals: %s", self.structures, total, listed)
        _list(self.failed, total - self.counts["ok"], "error")
        if self.n_warned:
            log.info("%d were read with an assumption:", self.n_warned)
            _list(self.warned, self.n_warned, "warning")

    def require_crystals(self) -> None:
        """Raises ValueError, with the first reasons, when no row is a crystal."""
        if self.counts["ok"]:
            return
        reasons = dict.fromkeys(
            f"{crystal.info['source_name']}: {crystal.status}, {crystal.info['error']}" for crystal in self.failed
        )
        listed = "; ".join(list(reasons)[:3]) + ("; …" if len(reasons) > 3 else "")
        raise ValueError(
            f"{self.structures}: none of its {self.counts.total():,} entries is a crystal ({listed}). Check its format."
        )


def batched(items: Iterable[Crystal], size: int) -> Iterator[list[Crystal]]:
    """Yields the items in lists of that size; the last may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def find_structure_file(folder: Path, name: str) -> Path:
    """Returns the file `folder/name.SUFFIX` of a user's set.

    Raises FileNotFoundError when there is none, ValueError when the name is not a plain name, when two files share it,
    or when the suffix is unknown; each message lists the suffixes there are. Imports nothing heavy.
    """
    allowed = ", ".join(FORMATS)
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError(f"{name!r} is not the name of a file in {folder}.")
    found = sorted(path for path in folder.glob("*.*") if path.name.split(".")[0] == name and path.is_file())
    if not found:
        raise FileNotFoundError(f"{folder / name}.*: there is no such file. Give one that ends in {allowed}.")
    if len(found) > 1:
        names = " and ".join(str(path) for path in found)
        raise ValueError(f"{names} share the name {name!r}. Rename all but one.")
    check_suffix(found[0])
    return found[0]


def parse_entries(
    entries: Iterable[Entry], workers: int, position: Position | None = None, parts: Parts | None = None
) -> Iterator[Crystal]:
    """Yields one crystal per entry, in order, without ids; entries that fail have a status and `info["error"]`.

    A few entries are parsed in this process, many in worker processes with a wall limit each, `BATCH` at a time. parts:
    keeps the crystals of each batch, and gives those of a run before. position: how much of the file was read, from
    which the number of entries, and with it the time left, is estimated.
    """
    remaining = iter(entries)
    first = list(islice(remaining, FEW_ENTRIES + 1))
    few = len(first) <= FEW_ENTRIES
    remaining = chain(first, remaining)
    del first
    done = 0
    with progress_bar("import structures") as bar:
        while batch := list(islice(remaining, BATCH)):
            done += len(batch)
            share = position.share() if position else 0.0
            bar.total = round(done / share) if 0 < share < 1 else None if len(batch) == BATCH else done
            kept = None if few or parts is None else parts.read(done - len(batch), len(batch))
            if kept is not None:
                bar.update(len(kept))
                yield from kept
                continue
            crystals = []
            timeout = None if few else SECONDS_PER_ENTRY
            results = map_in_chunks(parse_entry, batch, workers=1 if few else workers, timeout=timeout, bar=bar)
            for entry, result in zip(batch, results, strict=True):
                crystals.append(_unparsable(entry, result.message) if isinstance(result, Failure) else result)
            if parts is not None and not few:
                parts.write(done - len(batch), crystals)
            yield from crystals


def _unparsable(entry: Entry, message: str) -> Crystal:
    return Crystal(id="", status="unparsable", info={"source_name": entry.name, "error": message})


def _list(first: Sequence[Crystal], total: int, column: str) -> None:
    for crystal in first:
        log.info("  %s (%s): %s", crystal.id, crystal.info["source_name"], crystal.info[column])
    if total > len(first):
        log.info("  and %d more; see the column `%s`.", total - len(first), column)
