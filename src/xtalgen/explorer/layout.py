"""Positions on the map: projected descriptors; crystals without descriptor are placed in rows below."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtalgen.crystals import ContractError
from xtalgen.explorer.crystal_sets import CrystalSet
from xtalgen.explorer.encoding import unit_positions
from xtalgen.explorer.projection import UmapConfig, nearest, project

ROW_GAP = 0.05  # between the map and the rows below it, in units of the map's size


@dataclass(frozen=True)
class Layout:
    """Positions on the map and nearest references, of all crystals of all sets in order.

    positions: (2 n,) uint16, interleaved x, y. nearest: (n,) index of the nearest reference crystal in descriptor
    space, -1 for references and crystals without descriptor. n_parked crystals lie in rows below the map; their top
    left corner is (parked_x, parked_y) in units of the map's size.
    """

    positions: np.ndarray
    nearest: np.ndarray
    n_parked: int
    parked_x: float
    parked_y: float


def layout(sets: Sequence[CrystalSet], umap: UmapConfig, cache: Path | None) -> Layout:
    """Returns the layout of some sets; raises ContractError when their descriptors differ in kind or length."""
    kinds = sorted({crystal_set.embedding for crystal_set in sets if crystal_set.embedding})
    if len(kinds) > 1:
        raise ContractError(
            f"the sets have descriptors of different kinds: {' / '.join(kinds)}. "
            "One map needs one kind: run the stage `embeddings` again with one potential for all of them."
        )
    n = sum(len(crystal_set.rows) for crystal_set in sets)
    descriptors = _stack([crystal_set.descriptors for crystal_set in sets])
    known = np.isfinite(descriptors).all(axis=1) if descriptors.shape[1] else np.zeros(n, dtype=bool)
    points, neighbours = np.zeros((n, 2)), np.full(n, -1, dtype=np.int64)
    if known.any():
        projected, components = project(descriptors[known], umap, cache)
        span = float(np.ptp(projected, axis=0).max()) or 1.0
        points[known] = (projected - projected.min(axis=0)) / span
        reference = np.repeat([item.reference for item in sets], [len(item.rows) for item in sets])
        if (known & reference).any() and (known & ~reference).any():
            indices = nearest(components[~reference[known]], components[reference[known]])
            neighbours[known & ~reference] = np.flatnonzero(known & reference)[indices]
    n_parked = int((~known).sum())
    if n_parked:
        points[~known] = _rows_below(n_parked, width=float(points[known, 0].max(initial=0)) or 1.0)
    positions = unit_positions(points)
    parked = positions.reshape(-1, 2)[~known] / 65535
    corner = (float(parked[:, 0].min()), float(parked[:, 1].max())) if n_parked else (0.0, 0.0)
    return Layout(positions, neighbours, n_parked, *corner)


def _rows_below(count: int, width: float) -> np.ndarray:
    across = max(1, int(np.ceil(np.sqrt(12 * count))))
    step = width / across
    index = np.arange(count)
    return np.column_stack([(index % across + 0.5) * step, -ROW_GAP - (index // across) * step])


def _stack(matrices: Sequence[np.ndarray]) -> np.ndarray:
    width = max((matrix.shape[1] for matrix in matrices), default=0)
    if any(matrix.shape[1] not in (0, width) for matrix in matrices):
        raise ContractError(
            "the sets have descriptors of different lengths. "
            "One map needs one kind: run the stage `embeddings` again with one potential for all of them."
        )
    filled = [matrix if matrix.shape[1] else np.full((len(matrix), width), np.nan) for matrix in matrices]
    return np.concatenate(filled) if filled else np.zeros((0, 0))
