"""The arrays that CDVAE, DiffCSP and FlowMM write for their samples, in a .npz file or as the tensors of a .pt file."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import check_numbers, make_crystal, make_lattice
from xtalgen.io.entries import MAX_BYTES, Entry

# Shape of each array after the axis of atoms or crystals.
NAMES: dict[str, tuple[int, ...]] = {
    "frac_coords": (3,), "atom_types": (), "num_atoms": (), "lengths": (3,), "angles": (3,), "lattice": (3, 3),
}  # fmt: skip
ATOMS = ("frac_coords", "atom_types", "num_atoms")
CELLS = (("lengths", "angles"), ("lattice",))  # two ways to give the cells; the first is taken where both are there


def read_arrays(raw: bytes, name: str) -> Iterator[Entry]:
    """Yields the crystals of a .npz file; several evaluations of the same targets are grouped by target.

    Arrays: frac_coords (atoms, 3), atom_types (atoms,) as atomic numbers, num_atoms (crystals,), and either lengths
    (crystals, 3) in Å with angles (crystals, 3) in degrees or lattice (crystals, 3, 3), row vectors in Å; each may have
    a leading axis of evaluations. Raises ValueError, naming the remedy, when they are missing, do not fit each other,
    or are pickled objects.
    """
    del name  # crystals have numbers
    return split_arrays(*_load(raw))


def split_arrays(found: Mapping[str, np.ndarray], there: Sequence[str]) -> Iterator[Entry]:
    """Yields the crystals of the arrays described at `read_arrays`; there: the names of all that a file holds.

    Raises ValueError when one is missing or they do not fit each other.
    """
    cell = next((names for names in CELLS if all(name in found for name in names)), CELLS[0])
    missing = [name for name in (*ATOMS, *cell) if name not in found]
    if missing:
        raise ValueError(f"no array {missing[0]!r}; there are {', '.join(there) or 'none'}.")
    arrays = {name: _shaped(name, found[name]) for name in (*ATOMS, *cell)}
    counts = _counts(arrays, cell)
    n_evaluations, n_crystals = counts.shape
    starts = np.cumsum(counts, axis=1) - counts
    for crystal in range(n_crystals):
        for evaluation in range(n_evaluations):
            start, size = int(starts[evaluation, crystal]), int(counts[evaluation, crystal])
            atoms = slice(start, start + size)
            content = (
                *(arrays[name][evaluation, crystal] for name in cell),
                arrays["frac_coords"][evaluation, atoms],
                arrays["atom_types"][evaluation, atoms],
            )
            name = f"crystal {crystal}" + (f" evaluation {evaluation}" if n_evaluations > 1 else "")
            yield Entry(name, "arrays", content)


def parse_arrays(content: Any) -> Crystal:
    """Returns the crystal of an entry. Raises CrystalError when it is invalid."""
    *cell, frac_coords, numbers = (np.asarray(part, dtype=np.float64) for part in content)
    lattice = cell[0] if len(cell) == 1 else make_lattice(*cell)
    return make_crystal(lattice, frac_coords, check_numbers(numbers))


def _load(raw: bytes) -> tuple[dict[str, np.ndarray], list[str]]:
    if not raw.startswith(b"PK"):
        raise ValueError("not a .npz archive. Write it with numpy.savez.")
    try:
        unpacked = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(raw)).infolist())
        with np.load(io.BytesIO(raw), allow_pickle=False) as file:
            there = list(file.files)
            arrays = {name: file[name] for name in NAMES if name in there and unpacked <= MAX_BYTES}
    except ValueError as error:
        raise ValueError("holds pickled objects, which can run code. Save plain arrays of numbers.") from error
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not a readable .npz file ({error}). Write it again with numpy.savez.") from error
    if unpacked > MAX_BYTES:
        raise ValueError(f"unpacks to more than {MAX_BYTES} bytes. Split it into several files.")
    return arrays, there


def _shaped(name: str, array: np.ndarray) -> np.ndarray:
    """Returns an array with the axis of evaluations in front."""
    last = NAMES[name]
    if array.ndim == 1 + len(last):
        array = array[None]
    if array.ndim != 2 + len(last) or array.shape[2:] != last or array.dtype.kind not in "fiu":
        wanted = f"(n{''.join(f', {size}' for size in last)})" if last else "(n,)"
        raise ValueError(f"{name} has shape {array.shape} of {array.dtype}, expected {wanted} numbers.")
    return array


def _counts(arrays: Mapping[str, np.ndarray], cell: Sequence[str]) -> np.ndarray:
    """Returns the numbers of atoms (evaluations, crystals). Raises ValueError when the other arrays do not fit them."""
    counts = arrays["num_atoms"]
    if counts.dtype.kind == "f" or (counts < 0).any():
        raise ValueError("num_atoms has entries that are no counts.")
    for name in cell:
        if arrays[name].shape[:2] != counts.shape:
            raise ValueError(f"{name} has {arrays[name].shape[1]} crystals, num_atoms {counts.shape[1]}.")
    for name in ("frac_coords", "atom_types"):
        found, wanted = arrays[name].shape[1], counts.sum(axis=1)
        if len(arrays[name]) != len(counts) or (wanted != found).any():
            raise ValueError(f"{name} has {found} atoms, num_atoms adds up to {wanted.tolist()}.")
    return counts.astype(int)
