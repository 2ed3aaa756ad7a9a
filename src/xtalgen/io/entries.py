"""Entries of structure files: one crystal each, not parsed yet, and the error of a crystal that cannot be used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_BYTES = 2 * 1024**3  # of a file that is kept in memory, packed or not
MAX_MEMBER_BYTES = 16 * 1024**2  # of one crystal's text
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy")
NAME_KEYS = (
    "name",
    "id",
    "material_id",
    "label",
    "structure_id",
    "entry_id",
    "identifier",
    "task_id",
    "mat_id",
)


@dataclass(frozen=True)
class Entry:
    """One crystal of a file, not parsed yet.

    name: what the file calls it; kind: a key of `structure_files.PARSERS`, such as "cif" or "extxyz", or "broken"
    (content says why); warning: assumptions made.
    """

    name: str
    kind: str
    content: Any
    energy: Any = None
    warning: str | None = None


class CrystalError(ValueError):
    """A crystal cannot be used; `status` is that of its row, the message says why.

    name: what the text itself calls the crystal, where the entry's name does not say it.
    """

    def __init__(self, status: str, message: str, name: str | None = None) -> None:
        super().__init__(status, message)
        self.status, self.message, self.name = status, message, name

    def __str__(self) -> str:
        return self.message


def find_name(values: Any) -> str | None:
    """Returns the name of a record: the value of the first of `NAME_KEYS` present, in any case."""
    lowered = {str(key).strip().lower(): value for key, value in dict(values).items()}
    found = (lowered.get(key) for key in NAME_KEYS)
    return next((str(name) for name in found if isinstance(name, str | int | float) and str(name).strip()), None)


def finite_number(value: Any) -> float | None:
    """Returns a value as a number; None where it is none, or is not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def explain_suffix(path: Path, allowed: Sequence[str]) -> str:
    """Returns an error message with remedy for a file whose suffix is not allowed."""
    if path.name.lower().endswith(PICKLES):
        return (
            f"{path}: such a file can run code when it is read. Load it where you trust it and save its "
            "arrays frac_coords, atom_types, num_atoms, lengths and angles with numpy.savez as .npz."
        )
    return f"{path}: unknown suffix; allowed are {', '.join(allowed)}. Convert the file to one of them."
