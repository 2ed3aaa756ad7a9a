"""The table contract between stages: Parquet, one row per crystal, rows never dropped.

Every stage reads and writes such a table; it may add columns, never remove rows. A crystal that failed keeps its row
with a `status` other than "ok" and possibly null geometry. Keep this module tiny: everything imports it, so editing it
reruns every stage.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xtalgen.runtime.atomic import unfinished

CONTRACT = "crystals/1"
MAX_ATOMIC_NUMBER = 118

GEOMETRY = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("lattice", pa.list_(pa.float64())),
        pa.field("frac_coords", pa.list_(pa.float64())),
        pa.field("atomic_numbers", pa.list_(pa.uint8())),
    ]
)


if TYPE_CHECKING:  # geometry is used only after a check of `ok`, which the type checker cannot see
    Geometry = np.ndarray | Any
else:
    Geometry = np.ndarray | None


class ContractError(ValueError):
    """A table breaks the contract; the message names the file, the row and the remedy."""


@dataclass(frozen=True)
class Crystal:
    """One crystal: lattice (3, 3) row vectors in Å, frac_coords (n, 3) in [0, 1), atomic_numbers (n,) uint8.

    Geometry may be None when status is not "ok". `info` holds the further columns of its row.
    """

    id: str
    status: str = "ok"
    lattice: Geometry = None
    frac_coords: Geometry = None
    atomic_numbers: Geometry = None
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the crystal has a usable geometry."""
        return self.status == "ok"

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell; 0 when there is no geometry."""
        return 0 if self.atomic_numbers is None else len(self.atomic_numbers)


def to_table(crystals: Iterable[Crystal], columns: Mapping[str, pa.DataType] | None = None) -> pa.Table:
    """Returns the table of the crystals; `columns` names and types the `info` entries to keep, in order."""
    rows = list(crystals)
    columns = dict(columns or {})
    arrays = [
        pa.array([row.id for row in rows], pa.string()),
        pa.array([row.status for row in rows], pa.string()),
        pa.array([_flat(row.lattice, np.float64) for row in rows], pa.list_(pa.float64())),
        pa.array([_flat(row.frac_coords, np.float64) for row in rows], pa.list_(pa.float64())),
        pa.array([_flat(row.atomic_numbers, np.uint8) for row in rows], pa.list_(pa.uint8())),
    ]
    arrays += [pa.array([row.info.get(name) for row in rows], kind) for name, kind in columns.items()]
    fields = list(GEOMETRY) + [pa.field(name, kind) for name, kind in columns.items()]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def from_table(table: pa.Table) -> list[Crystal]:
    """Returns the crystals of a table; columns beyond the geometry go to `info`."""
    rest = table.drop_columns(GEOMETRY.names).to_pylist()
    lattices = _lists(table["lattice"])
    positions = _lists(table["frac_coords"])
    numbers = _lists(table["atomic_numbers"])
    return [
        Crystal(
            id=identifier,
            status=status,
            lattice=None if lattices[i] is None else lattices[i].reshape(3, 3),
            frac_coords=None if positions[i] is None else positions[i].reshape(-1, 3),
            atomic_numbers=numbers[i],
            info=rest[i] if rest else {},
        )
        for i, (identifier, status) in enumerate(zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True))
    ]


def write_table(table: pa.Table, path: Path, **metadata: str) -> None:
    """Writes a crystal table atomically: the file is either whole or absent.

    `metadata` is stored beside the contract's name. Raises ContractError when ids repeat, a row that is "ok" lacks
    geometry, or its arrays do not fit each other.
    """
    check_table(table, path)
    kept = {key: value.encode() for key, value in metadata.items()}
    table = table.replace_schema_metadata({"contract": CONTRACT.encode(), **kept})
    with unfinished(path) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def read_table(path: Path) -> pa.Table:
    """Returns the table of a file. Raises ContractError, naming file and remedy, when it is not a crystal table."""
    table = _opened(path, lambda: pq.read_table(path, page_checksum_verification=True))
    _check_contract(table.schema, path)
    check_table(table, path)
    return table


def read_metadata(table: pa.Table) -> dict[str, str]:
    """Returns the metadata stored with a table, as text."""
    return _text(table.schema)


def read_facts(source: pa.Table | Path) -> dict[str, str]:
    """Returns the metadata of a table without the contract's name. Of a file, only the footer is read.

    Raises ContractError, naming file and remedy, when the file is not a crystal table.
    """
    if isinstance(source, Path):
        schema = _opened(source, lambda: pq.read_schema(source))
        _check_contract(schema, source)
    else:
        schema = source.schema
    return {key: value for key, value in _text(schema).items() if key != "contract"}


def read_crystals(path: Path) -> list[Crystal]:
    """Returns the crystals of a file, failed rows included."""
    return from_table(read_table(path))


def check_table(table: pa.Table, path: Path) -> None:
    """Raises ContractError when the table breaks the contract; `path` is used only in the message."""
    for wanted in GEOMETRY:
        if wanted.name not in table.column_names:
            raise ContractError(f"{path}: column {wanted.name!r} is missing. Rerun its stage.")
        if (found := table.schema.field(wanted.name).type) != wanted.type:
            raise ContractError(
                f"{path}: column {wanted.name!r} has type {found}, expected {wanted.type}. Rerun its stage."
            )
    ids = table["id"].to_pylist()
    if len(set(ids)) != len(ids):
        row = min(set(range(len(ids))) - set(np.unique(ids, return_index=True)[1].tolist()))
        raise ContractError(f"{path}: id {ids[row]!r} of row {row} occurs twice. Give every crystal its own id.")
    sizes = [np.array(_sizes(table[name])) for name in ("lattice", "frac_coords", "atomic_numbers")]
    ok = np.array([status == "ok" for status in table["status"].to_pylist()], dtype=bool)
    fits = (sizes[0] == 9) & (sizes[1] == 3 * sizes[2]) & (sizes[2] > 0)
    if np.any(ok & ~fits):
        row = int(np.flatnonzero(ok & ~fits)[0])
        raise ContractError(
            f"{path}: row {row} ({ids[row]!r}) is 'ok' but has {sizes[0][row]} lattice entries, {sizes[1][row]} "
            f"coordinates and {sizes[2][row]} atoms. Give it a status that says what failed."
        )


def replace_columns(table: pa.Table, columns: Mapping[str, tuple[pa.DataType, Sequence[Any]]]) -> pa.Table:
    """Returns the table with columns set or appended: name → (type, one value per row)."""
    for name, (kind, values) in columns.items():
        array = pa.array(values, kind)
        place = table.schema.get_field_index(name)
        new = pa.field(name, kind)
        table = table.append_column(new, array) if place < 0 else table.set_column(place, new, array)
    return table


def _opened(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ContractError(f"{path}: not a readable Parquet file ({error}). Delete it and rerun its stage.") from error


def _check_contract(schema: pa.Schema, path: Path) -> None:
    found = _text(schema).get("contract")
    if found != CONTRACT:
        raise ContractError(f"{path}: contract is {found!r}, expected {CONTRACT!r}. Delete it and rerun its stage.")


def _text(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


def _flat(array: np.ndarray | None, kind: type) -> np.ndarray | None:
    return None if array is None else np.asarray(array, dtype=kind).reshape(-1)


def _lists(column: pa.ChunkedArray) -> list[Geometry]:
    values = column.combine_chunks()
    flat, offsets = values.values.to_numpy(zero_copy_only=False), values.offsets.to_numpy()
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    return [flat[offsets[i] : offsets[i + 1]].copy() if valid[i] else None for i in range(len(values))]


def _sizes(column: pa.ChunkedArray) -> list[int]:
    return [-1 if size is None else size for size in pc.list_value_length(column).to_pylist()]
