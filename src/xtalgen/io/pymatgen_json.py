"""JSON of pymatgen structures, alone or in the forms in which people keep many: lists, records, data frames, lines.

Parsed by hand: pymatgen would import the classes that a file names.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import atomic_number, check_lattice, check_periodic, make_crystal, make_lattice
from xtalgen.io.entries import CrystalError, Entry, find_name

# Where a record keeps its structure; of several the first.
STRUCTURE_KEYS = (
    "structure", "relaxed_structure", "final_structure", "initial_structure", "computed_structure_entry", "entry",
    "cif", "poscar",
)  # fmt: skip
PARAMETERS = (("a", "b", "c"), ("alpha", "beta", "gamma"))
FORMS = (
    "a pymatgen Structure as a dictionary, a list or dictionary of structures, or records with a key `structure` "
    "(pandas: to_json(orient='records'))"
)
WRAPPER_DEPTH = 3


def split_json(text: str, name: str) -> Iterator[Entry]:
    """Yields one entry per structure or record. Raises ValueError when there is no structure in the file."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not readable JSON ({error}). Write it again; one record per line is .jsonl.") from error
    items = _items(content, name)
    if items is None:
        raise ValueError(f"neither a pymatgen Structure nor a list or dictionary of them. Give {FORMS}.")
    if items and all(_structure_of(item)[0] is None for _, item in items):
        keys = ", ".join(repr(key) for key in list(content)[:8]) if isinstance(content, dict) else "a list"
        raise ValueError(f"holds no structure ({keys}). Give {FORMS}.")
    yield from (_entry(label, item) for label, item in items)


def split_json_lines(text: str, name: str) -> Iterator[Entry]:
    """Yields one entry per line that is not empty; a line that cannot be read keeps its entry."""
    del name  # lines have numbers
    for index, line in enumerate(line for line in text.split("\n") if line.strip()):
        try:
            item = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield Entry(f"line {index}", "broken", f"not readable JSON ({error})")
        else:
            yield _entry(f"line {index}", item)


def read_json(text: str) -> Crystal:
    """Returns the crystal of the JSON text of one structure or record. Raises CrystalError."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise CrystalError("unparsable", f"not readable JSON: {error}") from error
    structure, _, _ = _structure_of(content)
    if not isinstance(structure, dict):
        raise CrystalError("unparsable", "not the JSON of a pymatgen structure: `lattice` and `sites` are missing")
    return read_structure(structure)


def read_structure(structure: Mapping[str, Any]) -> Crystal:
    """Returns the crystal of the dictionary of a pymatgen Structure, atoms in its order. Raises CrystalError."""
    try:
        lattice = _read_lattice(structure["lattice"])
        sites = [_read_site(site, lattice) for site in structure["sites"]]
    except CrystalError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise CrystalError("unparsable", f"not a pymatgen structure: {type(error).__name__}: {error}") from error
    frac_coords = np.array([coordinates for _, coordinates in sites], dtype=np.float64).reshape(-1, 3)
    return make_crystal(lattice, frac_coords, [number for number, _ in sites])


def _read_lattice(cell: Mapping[str, Any]) -> np.ndarray:
    if cell.get("matrix") is not None:
        lattice = np.array(cell["matrix"], dtype=np.float64).reshape(3, 3)
    else:
        lattice = make_lattice(*([float(cell[key]) for key in keys] for keys in PARAMETERS))
    check_lattice(lattice)
    check_periodic(cell.get("pbc") or (True, True, True))
    return lattice


def _read_site(site: Mapping[str, Any], lattice: np.ndarray) -> tuple[int, Any]:
    species = site["species"]
    numbers = [atomic_number(one["element"]) for one in species]
    if len(species) != 1 or not math.isclose(species[0].get("occu", 1), 1):
        raise CrystalError("disordered", "sites are partly occupied; give an ordered structure")
    return numbers[0], site["abc"] if "abc" in site else np.linalg.solve(lattice.T, np.array(site["xyz"], dtype=float))


def _entry(name: str, item: Any) -> Entry:
    structure, others, energy = _structure_of(item)
    named = _name(item) or name
    if structure is None:
        return Entry(named, "broken", "no pymatgen structure: `lattice` and `sites` are missing")
    told = f"there are {' and '.join(others)}: {others[0]} was read" if others else None
    return Entry(named, "text" if isinstance(structure, str) else "json", structure, energy, told)


def _name(item: Any) -> str | None:
    if not isinstance(item, dict):
        return None
    inner = [item.get(key) for key in ("entry", "computed_structure_entry", "data")]
    return next((name for each in (item, *inner) if isinstance(each, dict) and (name := find_name(each))), None)


def _structure_of(item: Any) -> tuple[dict[str, Any] | str | None, list[str], Any]:
    """Returns the structure of a record (a dictionary, or a text), the keys that hold one if several do, its energy."""
    if isinstance(item, str):
        return (item if "\n" in item or "\\n" in item or item.lstrip().startswith("{") else None), [], None
    if not isinstance(item, dict):
        return None, [], None
    if {"lattice", "sites"} <= item.keys():
        return item, [], item.get("energy")
    keys = [key for key in STRUCTURE_KEYS if _structure_of(item.get(key))[0] is not None]
    if not keys:
        return None, [], None
    structure, _, energy = _structure_of(item[keys[0]])
    return structure, keys if len(keys) > 1 else [], item.get("energy", energy)


def _items(content: Any, name: str, depth: int = 0) -> list[tuple[str, Any]] | None:
    """Returns name and record of each entry of a file's content; None when it is neither list nor dictionary."""
    if isinstance(content, list):
        return [(f"item {index}", item) for index, item in enumerate(content)]
    if not isinstance(content, dict):
        return None
    if _structure_of(content)[0] is not None:
        return [(name, content)]
    if {"columns", "data"} <= content.keys():  # pandas, orient="split"
        return [
            (f"item {i}", dict(zip(content["columns"], row, strict=False))) for i, row in enumerate(content["data"])
        ]
    columns = [key for key in STRUCTURE_KEYS if isinstance(content.get(key), dict | list)]
    if columns and all(isinstance(column, dict) for column in content.values()):  # pandas, orient="columns"
        rows = list(content[columns[0]])
        return [(row, {key: column.get(row) for key, column in content.items()}) for row in rows]
    if columns and isinstance(content[columns[0]], list):  # a dictionary of lists
        count = len(content[columns[0]])
        whole = {key: column for key, column in content.items() if isinstance(column, list) and len(column) == count}
        return [(f"item {i}", {key: column[i] for key, column in whole.items()}) for i in range(count)]
    if any(_structure_of(item)[0] is not None for item in content.values()) or depth == WRAPPER_DEPTH:
        return list(content.items())
    # A wrapper such as {"entries": [...]} or {"data": {...}}: the one value that holds structures.
    inner = [found for value in content.values() if _holds(found := _items(value, name, depth + 1))]
    return inner[0] if len(inner) == 1 else list(content.items())


def _holds(items: list[tuple[str, Any]] | None) -> bool:
    return bool(items) and any(_structure_of(item)[0] is not None for _, item in items)
