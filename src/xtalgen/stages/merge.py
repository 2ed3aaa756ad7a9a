"""Stage `merge`: joins the tables written by the shards of a stage."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from xtalgen.crystals import read_facts, read_table, write_table


def merge(parts: Sequence[Path], out: Path) -> None:
    """Writes the rows of all parts, sorted by id, to one table.

    In the metadata `seconds` is summed; other entries are kept where all parts agree and joined by "; " otherwise.
    """
    tables = [read_table(part) for part in parts]
    merged = pa.concat_tables([table.replace_schema_metadata(None) for table in tables], promote_options="permissive")
    described = [read_facts(table) for table in tables]
    keys = dict.fromkeys(key for metadata in described for key in metadata)
    kept = {key: _joined(key, [metadata[key] for metadata in described if key in metadata]) for key in keys}
    write_table(merged.sort_by("id"), out, **kept)


def _joined(key: str, values: list[str]) -> str:
    if key == "seconds":
        return f"{sum(map(float, values)):.3f}"
    return "; ".join(dict.fromkeys(values))
