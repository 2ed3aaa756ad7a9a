"""Stage `refinement_pairs`: pairs the crystals of a split with another model's predictions for their compositions.

Models that refine another model's crystals (FlowLLM) are trained on such pairs.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen.crystals import ContractError, Crystal, read_crystals, read_metadata, read_table, to_table, write_table

log = logging.getLogger(__name__)
COLUMNS = {"base_lattice": pa.list_(pa.float64()), "base_frac_coords": pa.list_(pa.float64()), "target_id": pa.string()}


def write_refinement_pairs(split: Path, predicted: Path, *, out: Path) -> None:
    """Writes one row per prediction: its target's crystal, with the prediction as `base_lattice`, `base_frac_coords`.

    split: crystal table of a data set; predicted: the samples of another run for its compositions, with `target_id`.
    Atoms of the prediction are reordered to match the target: the k-th atom of an element goes where the target has its
    k-th. A failed prediction gives a row without geometry that keeps its status; one with other atoms gets
    "wrong_composition". Raises ContractError when the target of a prediction is not in the split.
    """
    table = read_table(split)
    targets = {crystal.id: crystal for crystal in read_crystals(split)}
    rows = []
    for made in read_crystals(predicted):
        target = targets.get(made.info.get("target_id", ""))
        if target is None:
            raise ContractError(
                f"{predicted}: row {made.id!r} has target_id {made.info.get('target_id')!r}, which is not in {split}: "
                "sample again for it."
            )
        rows.append(_paired(target, made))
    failed = sum(not row.ok for row in rows)
    if failed:
        log.warning("%s: %d of %d predictions failed and are not paired", predicted, failed, len(rows))
    write_table(to_table(rows, COLUMNS), out, **{**read_metadata(table), "pairs_failed": str(failed)})


def _paired(target: Crystal, made: Crystal) -> Crystal:
    info: dict[str, Any] = {"target_id": target.id}
    if not (made.ok and target.ok):
        return Crystal(made.id, made.status if target.ok else target.status, info=info)
    order = match_order(made.atomic_numbers, target.atomic_numbers)
    if order is None:
        return Crystal(made.id, "wrong_composition", info=info)
    info |= {"base_lattice": made.lattice.ravel(), "base_frac_coords": made.frac_coords[order].ravel()}
    return Crystal(made.id, "ok", target.lattice, target.frac_coords, target.atomic_numbers, info)


def match_order(atomic_numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """Returns the stable permutation of atoms to the wanted order; None when the compositions differ."""
    if sorted(atomic_numbers) != sorted(wanted):
        return None
    order = np.empty(len(wanted), dtype=np.int64)
    order[np.argsort(wanted, kind="stable")] = np.argsort(atomic_numbers, kind="stable")
    return order
