"""The arrays that CDVAE, DiffCSP and FlowMM write for their samples, in a .npz file."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import check_numbers, make_crystal, make_lattice
from xtalgen.io.entries import MAX_BYTES, Entry

# Shape of each array after the axis of atoms or crystals.
NAMES = {"frac_coords": (3,), "atom_types": (), "num_atoms": (), "lengths": (3,), "angles": (3,)}


def read_arrays(raw: bytes, name: str) -> Iterator[Entry]:
    """Yields the crystals of a .npz file; several evaluations of the same targets come target by target.

    Arrays: frac_coords (atoms, 3), atom_types (atoms,) as atomic numbers, num_atoms (crystals,), lengths (crystals, 3)
    in Å and angles (crystals, 3) in degrees; each may have one axis more, the evaluations. Raises ValueError, naming
    the remedy, when they are missing, do not fit each other, or are pickled objects.
    """
    del name  # crystals have numbers
    arrays = _load(raw)
    n_evaluations, n_crystals = arrays["num_atoms"].shape
    starts = np.cumsum(arrays["num_atoms"], axis=1) - arrays["num_atoms"]
    for crystal in range(n_crystals):
        for evaluation in range(n_evaluations):
            start, size = int(starts[evaluation, crystal]), int(arrays["num_atoms"][evaluation, crystal])
            atoms = slice(start, start + size)
            content = (
                arrays["lengths"][evaluation, crystal],
                arrays["angles"][evaluation, crystal],
                arrays["frac_coords"][evaluation, atoms],
                arrays["atom_types"][evaluation, atoms],
            )
            name = f"crystal {crystal}" + (f" evaluation {evaluation}" if n_evaluations > 1 else "")
            yield Entry(name, "arrays", content)


def parse_arrays(content: Any) -> Crystal:
    """Returns the crystal of an entry. Raises CrystalError when its numbers make none."""
    lengths, angles, frac_coords, numbers = (np.asarray(part, dtype=np.float64) for part in content)
    return make_crystal(make_lattice(lengths, angles), frac_coords, check_numbers(numbers))


def _load(raw: bytes) -> dict[str, np.ndarray]:
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
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        raise ValueError(f"no array {missing[0]!r}; there are {', '.join(there) or 'none'}.")
    return {name: _shaped(name, array) for name, array in arrays.items()} | _counts(arrays)


def _shaped(name: str, array: np.ndarray) -> np.ndarray:
    """Returns an array with the axis of evaluations in front."""
    last = NAMES[name]
    if array.ndim == 1 + len(last):
        array = array[None]
    if array.ndim != 2 + len(last) or array.shape[2:] != last or array.dtype.kind not in "fiu":
        wanted = "(n, 3)" if last else "(n,)"
        raise ValueError(f"{name} has shape {array.shape} of {array.dtype}, expected {wanted} numbers.")
    return array


def _counts(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    shaped = {name: _shaped(name, array) for name, array in arrays.items()}
    counts = shaped["num_atoms"]
    if counts.dtype.kind == "f" or (counts < 0).any():
        raise ValueError("num_atoms has entries that are no counts.")
    for name, wanted in (("lengths", counts.shape[1]), ("angles", counts.shape[1])):
        if shaped[name].shape[:2] != (len(counts), wanted):
            raise ValueError(f"{name} has {shaped[name].shape[1]} crystals, num_atoms {wanted}.")
    for name in ("frac_coords", "atom_types"):
        found, wanted = shaped[name].shape[1], counts.sum(axis=1)
        if len(shaped[name]) != len(counts) or (wanted != found).any():
            raise ValueError(f"{name} has {found} atoms, num_atoms adds up to {wanted.tolist()}.")
    return {"num_atoms": counts.astype(int)}
