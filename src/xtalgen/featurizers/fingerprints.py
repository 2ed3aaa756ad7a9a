"""Fingerprints of crystals: structure (CrystalNN order parameters) and composition (Magpie), and their tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from xtalgen.crystals import read_table
from xtalgen.featurizers.crystal_nn import careful_fingerprint, site_fingerprints
from xtalgen.featurizers.magpie import magpie_features
from xtalgen.featurizers.order_parameters import N_FEATURES
from xtalgen.structure.matcher import Arrays, structure

NOT_CHOSEN = "not_chosen"
N_OPS = N_FEATURES


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints by row: status ("ok" where both exist), structure (n, 61) and composition (n, 132), else NaN."""

    status: list[str]
    structure: np.ndarray
    composition: np.ndarray

    @property
    def ok(self) -> np.ndarray:
        """Which rows have fingerprints."""
        return np.array([status == "ok" for status in self.status], dtype=bool)

    @property
    def chosen(self) -> np.ndarray:
        """Which rows were selected: all, or the seeded subset."""
        return np.array([status != NOT_CHOSEN for status in self.status], dtype=bool)

    @property
    def failed(self) -> np.ndarray:
        """Which rows were asked for and have none."""
        return self.chosen & ~self.ok

    def take(self, rows: Sequence[int]) -> "Fingerprints":
        """Returns the fingerprints of these rows, in this order."""
        places = np.asarray(rows, dtype=int)
        return Fingerprints([self.status[row] for row in rows], self.structure[places], self.composition[places])


def read_fingerprints(path: Path) -> tuple[list[str], Fingerprints]:
    """Returns the ids and fingerprints of a table. Raises ValueError when it has no fingerprints."""
    table = read_table(path)
    if "structure_fingerprint" not in table.column_names:
        raise ValueError(
            f"{path}: no column 'structure_fingerprint'. Make the file with workflow/scripts/fingerprints.py."
        )
    structures = _matrix(table["structure_fingerprint"], N_OPS)
    compositions = _matrix(table["composition_fingerprint"], magpie_features([]).shape[1])
    return table["id"].to_pylist(), Fingerprints(table["status"].to_pylist(), structures, compositions)


def structure_fingerprint(item: Arrays) -> list[float]:
    """Returns the mean over atoms of CrystalNNFingerprint("ops") (Zimmermann & Jain 2020, doi:10.1039/C9RA07755C).

    Equal to matminer's to 1e-8: for atoms sensitive to rounding, pymatgen finds the neighbours. Raises what pymatgen
    raises where an atom has no cell or no radius, TooThinError and ValueError as `cells` does.
    """
    sites, certain = site_fingerprints(*item)
    if not certain.all():
        crystal = structure(item)
        for site in np.flatnonzero(~certain):
            sites[site] = careful_fingerprint(crystal, int(site))
    return _mean(sites)


def warm_up() -> None:
    """Imports and compiles in a new worker, so that its first crystal's time limit does not include this."""
    copper = (np.eye(3) * 3.0, np.zeros((1, 3)), np.array([29], dtype=np.uint8))
    structure_fingerprint(copper)
    careful_fingerprint(structure(copper), 0)


def quick_fingerprint(item: Arrays) -> list[float] | None:
    """Returns the fingerprint, or None when it is sensitive to rounding: see `structure_fingerprint`."""
    sites, certain = site_fingerprints(*item)
    return _mean(sites) if certain.all() else None


def _mean(sites: np.ndarray) -> list[float]:
    mean = np.mean(sites, axis=0)
    if not np.isfinite(mean).all():
        raise ValueError("the fingerprint is not finite")
    return mean.tolist()


def _matrix(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """Returns a column of equally long lists as rows, NaN where it is null."""
    lists = column.combine_chunks()
    matrix = np.full((len(lists), width), np.nan)
    present = lists.is_valid().to_numpy(zero_copy_only=False)
    matrix[present] = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return matrix
