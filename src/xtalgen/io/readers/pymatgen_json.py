"""JSON of structures, of pymatgen or OPTIMADE, single or in common collections: lists, records, data frames, lines.

Not parsed by pymatgen, which would import the classes that a file names.
"""

import ast
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOBase
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import atomic_number, check_lattice, check_periodic, make_crystal, make_lattice
from xtalgen.io.entries import CrystalError, Entry, find_name
from xtalgen.io.readers.optimade import is_optimade, read_optimade

# Keys of a record's structure; the first one present is used.
STRUCTURE_KEYS = (
    "structure", "relaxed_structure", "final_structure", "initial_structure", "computed_structure_entry", "entry",
    "cif", "poscar", "attributes",
)  # fmt: skip
ENDING = "_structure"  # of the keys of matbench-discovery: mace_structure
PARAMETERS = (("a", "b", "c"), ("alpha", "beta", "gamma"))
FORMS = (
    "a pymatgen Structure as a dictionary, a list or dictionary of structures, or records with a key `structure` "
    "(pandas: to_json(orient='records'))"
)
WRAPPER_DEPTH = 3
WRONG_LINES = 1000
# Of a structure in Python's form: Python's parser may end the process on a text of many nested brackets.
MAX_DEPTH = 50
MAX_BRACKETS = 1_000_000


def split_json(stream: TextIOBase, name: str) -> Iterator[Entry]:
    """Yields one entry per structure or record. Raises ValueError when there is no structure in the file."""
    text = stream.read()
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        lines = [line for line in text.split("\n") if line.strip()]
        if str(error).startswith("Extra data") and all(line.lstrip()[0] == "{" for line in lines):
            yield from split_json_lines(lines, name)
            return
        raise ValueError(f"not readable JSON ({error}). Write it again.") from error
    items = _items(content, name)
    if items is None:
        raise ValueError(f"neither a pymatgen Structure nor a list or dictionary of them. Give {FORMS}.")
    if items and all(_structure_of(item)[0] is None for _, item in items):
        keys = ", ".join(repr(key) for key in list(content)[:8]) if isinstance(content, dict) else "a list"
        raise ValueError(f"holds no structure ({keys}). Give {FORMS}.")
    yield from (_entry(label, item) for label, item in items)


def split_json_lines(lines: Iterable[str], name: str) -> Iterator[Entry]:
    """Yields one entry per line that is not empty; a line that cannot be read keeps its entry.

    Raises ValueError where none of the first thousand lines can.
    """
    del name  # lines have numbers
    none = True
    for index, line in enumerate(line for line in lines if line.strip()):
        try:
            item = json.loads(line)
            none = False
        except (json.JSONDecodeError, RecursionError) as error:
            if none and index >= WRONG_LINES:
                raise ValueError(f"none of its first {index:,} lines is JSON ({error}). Write it again.") from error
            yield Entry(f"line {index}", "broken", f"not readable JSON ({error})")
        else:
            if index == 0 and isinstance(item, dict) and "x-optimade" in item:
                continue  # the head of a file of OPTIMADE
            yield _entry(f"line {index}", item)


def read_json(text: str) -> Crystal:
    """Returns the crystal of one structure or record, as JSON or as Python prints its dictionary.

    Raises CrystalError.
    """
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        content = _read_python(text)
        if content is None:
            raise CrystalError("unparsable", f"not readable JSON: {error}") from error
    structure, _, _ = _structure_of(content)
    if not isinstance(structure, dict):
        raise CrystalError("unparsable", "not the JSON of a pymatgen structure: `lattice` and `sites` are missing")
    return read_structure(structure)


def _read_python(text: str) -> Any:
    """Returns the value of a Python literal (numbers, texts, lists, dictionaries; nothing is called), None for none."""
    if text.count("{") + text.count("[") + text.count("(") > MAX_BRACKETS or _depth(text) > MAX_DEPTH:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _depth(text: str) -> int:
    """Returns how deep brackets are nested, at most; those inside texts count, too."""
    steps = np.array([1 if sign in "{[(" else -1 for sign in text if sign in "{[()]}"])
    return int(np.cumsum(steps).max(initial=0))


def read_structure(structure: Mapping[str, Any]) -> Crystal:
    """Returns the crystal of the dictionary of a pymatgen Structure, or of OPTIMADE's attributes, atoms in its order.

    Raises CrystalError.
    """
    if is_optimade(structure):
        return read_optimade(structure)
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
    given = np.array(site["abc"] if "abc" in site else site["xyz"], dtype=np.float64)
    if given.shape != (3,):
        raise CrystalError("unparsable", f"the coordinates of a site are {given.tolist()}, not three numbers")
    return numbers[0], given if "abc" in site else np.linalg.solve(lattice.T, given)


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
    """Returns the structure of a record (a dictionary or text), the keys that hold one if several, and its energy."""
    if isinstance(item, str):
        return (item if "\n" in item or "\\n" in item or item.lstrip().startswith("{") else None), [], None
    if not isinstance(item, dict):
        return None, [], None
    if {"lattice", "sites"} <= item.keys() or is_optimade(item):
        return item, [], item.get("energy")
    # Of a record with a name: in a dictionary of structures such a key is the name of one.
    endings = [key for key in item if str(key).endswith(ENDING) and key not in STRUCTURE_KEYS]
    others = endings if find_name(item) else []
    keys = [key for key in (*STRUCTURE_KEYS, *others) if _structure_of(item.get(key))[0] is not None]
    if not keys:
        return None, [], None
    structure, _, energy = _structure_of(item[keys[0]])
    return structure, keys if len(keys) > 1 else [], item.get("energy", energy)


def _items(content: Any, name: str, depth: int = 0) -> list[tuple[str, Any]] | None:
    """Returns name and record of each entry of a file's content; None unless it is a list or dictionary."""
    if isinstance(content, list):
        return [(f"item {index}", item) for index, item in enumerate(content)]
    if not isinstance(content, dict):
        return None
    if {"data", "meta"} <= content.keys() and isinstance(content["data"], dict):  # OPTIMADE's answer for one entry
        content = content["data"]
    if _structure_of(content)[0] is not None:
        return [(name, content)]
    frame = _rows_of_frame(content)
    if frame is not None:
        return frame
    if depth < WRAPPER_DEPTH and all(_structure_of(item)[0] is None for item in content.values()):
        # A wrapper such as {"entries": [...]} or {"data": {...}}: the one value that holds structures.
        inner = [found for value in content.values() if _holds(found := _items(value, name, depth + 1))]
        if len(inner) == 1:
            return inner[0]
    return list(content.items())


def _rows_of_frame(content: Mapping[str, Any]) -> list[tuple[str, Any]] | None:
    """Returns the rows of a pandas frame written by columns or split, or of a dictionary of lists; otherwise None."""
    if {"columns", "data"} <= content.keys():  # orient="split"
        rows = (dict(zip(content["columns"], row, strict=False)) for row in content["data"])
        return [(f"item {index}", row) for index, row in enumerate(rows)]
    column = next((content[key] for key in STRUCTURE_KEYS if isinstance(content.get(key), dict | list)), None)
    if isinstance(column, dict) and all(isinstance(other, dict) for other in content.values()):  # orient="columns"
        return [(row, {key: other.get(row) for key, other in content.items()}) for row in column]
    if isinstance(column, list):
        whole = {key: other for key, other in content.items() if isinstance(other, list) and len(other) == len(column)}
        return [(f"item {index}", {key: other[index] for key, other in whole.items()}) for index in range(len(column))]
    return None


def _holds(items: list[tuple[str, Any]] | None) -> bool:
    return items is not None and any(_structure_of(item)[0] is not None for _, item in items)
