"""Converts bond lists from the stage `bonds` to dense graphs."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models.networks.periodic_graph import PeriodicGraph

NUMBERS = 5  # per bond: i, j, a, b, c


def pad_bonds(crystals: Sequence[Crystal], width: int) -> dict[str, np.ndarray]:
    """Returns the bonds in the column `bonds` of each crystal as arrays (crystals, width, slots).

    bond_source: the atom at the other end, -1 in slots without a bond; bond_image: its cell (last axis 3);
    bond_reverse: slot of the same bond at the other end. Raises ValueError naming the crystal when it lacks the column,
    or when its bonds do not fit its atoms.
    """
    edges = [_both_ways(crystal) for crystal in crystals]
    slots = max((int(np.bincount(edge[:, 0], minlength=1).max(initial=0)) for edge in edges), default=0)
    slots = max(slots, 1)
    source = np.full((len(crystals), width, slots), -1, dtype=np.int16)
    image = np.zeros((len(crystals), width, slots, 3), dtype=np.int8)
    reverse = np.zeros((len(crystals), width, slots), dtype=np.int16)
    for row, edge in enumerate(edges):
        target, slot = edge[:, 0], _numbers_within(edge[:, 0])
        source[row, target, slot] = edge[:, 1]
        image[row, target, slot] = edge[:, 2:]
        # Edges come in pairs of bond and reversed bond.
        reverse[row, target, slot] = slot.reshape(-1, 2)[:, ::-1].reshape(-1)
    return {"bond_source": source, "bond_image": image, "bond_reverse": reverse}


def bonded_graph(extra: Mapping[str, Tensor], mask: Tensor) -> PeriodicGraph:
    """Returns the graph of a batch from the tensors that `pad_bonds` made."""
    source = extra["bond_source"].long()
    atoms, slots = source.shape[1:]
    present = source >= 0
    target = torch.arange(atoms, device=mask.device)[:, None]
    own = target * slots + torch.arange(slots, device=mask.device)
    return PeriodicGraph(
        source=source.where(present, target),
        image=extra["bond_image"].float(),
        mask=present,
        reverse=(source * slots + extra["bond_reverse"]).where(present, own).flatten(1),
        needed=present.sum(dim=-1).amax(dim=-1),
    )


def _both_ways(crystal: Crystal) -> Int[np.ndarray, "edges 5"]:
    """Returns each bond as two consecutive rows (target, source, cell of the source)."""
    listed = crystal.info.get("bonds")
    if listed is None:
        raise ValueError(
            f"crystal {crystal.id!r} has no bonds. Give tables of the stage `bonds` (scripts/bonds.py), or set "
            "`bonds: radius` in the run's train settings."
        )
    bonds = np.asarray(listed, dtype=np.int64)
    if (
        len(bonds) % NUMBERS
        or np.any(bonds.reshape(-1, NUMBERS)[:, :2] >= crystal.n_atoms)
        or np.any(bonds.reshape(-1, NUMBERS)[:, :2] < 0)
    ):
        raise ValueError(
            f"crystal {crystal.id!r}: its bonds do not fit its {crystal.n_atoms} atoms. Rerun the stage `bonds`."
        )
    i, j, cell = np.split(bonds.reshape(-1, NUMBERS), [1, 2], axis=1)
    forth, back = np.concatenate([i, j, cell], axis=1), np.concatenate([j, i, -cell], axis=1)
    return np.stack([forth, back], axis=1).reshape(-1, NUMBERS)


def _numbers_within(targets: Int[np.ndarray, "edges"]) -> Int[np.ndarray, "edges"]:
    """Returns for each edge the number of earlier edges with the same target."""
    order = np.argsort(targets, kind="stable")
    first = np.searchsorted(targets[order], targets[order])
    numbers = np.empty(len(targets), dtype=np.int64)
    numbers[order] = np.arange(len(targets)) - first
    return numbers
