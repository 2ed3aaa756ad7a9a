"""Entries of users' files: one crystal each, not parsed yet, and what is said of one that cannot be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a user's file of structures may be called.
STRUCTURE_SUFFIXES = (".extxyz", ".xyz", ".cif", ".zip", ".csv", ".json", ".json.gz", ".npz")
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy")


@dataclass(frozen=True)
class Entry:
    """One crystal of a file, not parsed yet.

    name: what the file calls it; kind: "cif", "xyz" (one frame), "json" (a dictionary), "arrays" (numbers) or "broken"
    (content says why).
    """

    name: str
    kind: str
    content: Any
    energy: Any = None


class BrokenError(ValueError):
    """An entry cannot be used; `status` is the status of its row."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def explain_suffix(path: Path, allowed: Sequence[str]) -> str:
    """Returns what is wrong with the suffix of a file that is none of the allowed ones, and what to do."""
    if path.name.lower().endswith(PICKLES):
        return (
            f"{path}: such a file can run code when it is read, so it is not. Load it where you trust it and save its "
            "arrays frac_coords, atom_types, num_atoms, lengths and angles with numpy.savez as .npz."
        )
    return f"{path}: unknown suffix; allowed are {', '.join(allowed)}. Convert the file to one of them."
