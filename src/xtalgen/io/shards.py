"""Large tables of crystals: written batch by batch, and split into the shards that jobs share out."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xtalgen.crystals import CONTRACT, Crystal, check_table, read_crystals, read_facts, to_table, write_table
from xtalgen.runtime.atomic import unfinished

log = logging.getLogger(__name__)
ROWS = 2048  # in memory at once


class Parts:
    """Crystals of a long job, kept in a folder until the job is finished, so that it resumes.

    key: returns what they depend on; those of another key are made again.
    """

    def __init__(self, folder: Path, key: Callable[[], str], columns: Mapping[str, pa.DataType]) -> None:
        self.folder = folder
        self.columns = columns
        self._key, self._found = key, ""

    @property
    def key(self) -> str:
        """What the parts depend on, computed once."""
        self._found = self._found or self._key()
        return self._found

    def read(self, start: int, count: int) -> list[Crystal] | None:
        """Returns the crystals from row `start`; None where they are not there, or not those of this job."""
        path = self._path(start)
        if not path.is_file():
            return None
        try:
            facts, crystals = read_facts(path), read_crystals(path)
        except ValueError as error:
            log.warning("%s; computed again", error)
            return None
        if facts.get("key") != self.key or len(crystals) != count:
            return None
        return [replace(crystal, id="") for crystal in crystals]

    def write(self, start: int, crystals: Sequence[Crystal]) -> None:
        """Keeps the crystals from row `start`."""
        rows = [replace(crystal, id=str(start + index)) for index, crystal in enumerate(crystals)]
        write_table(to_table(rows, self.columns), self._path(start), key=self.key)

    def clear(self) -> None:
        """Deletes the parts."""
        for path in self.folder.glob("part-*.parquet"):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, start: int) -> Path:
        return self.folder / f"part-{start:09d}.parquet"


def write_batches(batches: Iterable[pa.Table], path: Path, **metadata: str) -> None:
    """Writes tables of equal columns one after the other to one file, as `write_table` does; none is kept in memory.

    There must be one table at least. Ids must differ between tables, which is not checked.
    """
    kept = {"contract": CONTRACT.encode(), **{key: value.encode() for key, value in metadata.items()}}
    with unfinished(path) as part, contextlib.ExitStack() as stack:
        writer = None
        for batch in batches:
            check_table(batch, path)
            table = batch.replace_schema_metadata(kept)
            writer = writer or stack.enter_context(
                pq.ParquetWriter(part, table.schema, compression="zstd", write_page_checksum=True)
            )
            writer.write_table(table)


def split(crystals: Path, parts: Sequence[Path]) -> None:
    """Writes the rows of a table in contiguous, nearly equal parts; parts may be empty."""
    kept = read_facts(crystals)
    with pq.ParquetFile(crystals, page_checksum_verification=True) as file:
        total = file.metadata.num_rows
        edges = [index * total // len(parts) for index in range(len(parts) + 1)]
        rows = _Rows(file)
        for part, start, stop in zip(parts, edges[:-1], edges[1:], strict=True):
            write_batches(rows.take(stop - start), part, **kept)


class _Rows:
    """The rows of a file from the first to the last."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self.batches = file.iter_batches(ROWS)
        self.rest = file.schema_arrow.empty_table()

    def take(self, count: int) -> Iterator[pa.Table]:
        """Yields the next rows in tables; one without rows where none are asked for."""
        if count == 0:
            yield self.rest.slice(0, 0)
        while count > 0:
            if self.rest.num_rows == 0:
                self.rest = pa.Table.from_batches([next(self.batches)])
            taken = self.rest.slice(0, count)
            self.rest = self.rest.slice(taken.num_rows)
            count -= taken.num_rows
            yield taken
