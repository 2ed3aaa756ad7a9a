"""Assigns the structures of a user's file to test crystals, by name or by order in the file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from xtalgen.crystals import Crystal, read_crystals, to_table, write_table
from xtalgen.stages.import_structures import COLUMNS

NOT_PREDICTED = "not_predicted"  # status of the row of a target without a prediction
LISTED = 10


@dataclass(frozen=True)
class Pairing:
    """The id of each structure's target. by_name: whether names were used rather than the order of the file."""

    targets: Sequence[str]
    by_name: bool

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Returns the ids of the test crystals that have no prediction."""
        predicted = set(self.targets)
        return [target for target in ids if target not in predicted]


def write_with_targets(sample: Path, test: Path, out: Path, *, partial: bool = False) -> list[str]:
    """Writes the sample with the id of each structure's target; returns notes for the user.

    Each test crystal without a prediction gets a row of status "not_predicted", so that it counts as missed; with
    `partial` it is left out of every denominator. Raises ValueError where the targets cannot be determined.
    """
    crystals, ids = read_crystals(sample), [crystal.id for crystal in read_crystals(test)]
    pairing = pair([crystal.info.get("source_name") for crystal in crystals], ids)
    rows = [
        Crystal(
            crystal.id,
            crystal.status,
            crystal.lattice,
            crystal.frac_coords,
            crystal.atomic_numbers,
            {**crystal.info, "target_id": target},
        )
        for crystal, target in zip(crystals, pairing.targets, strict=True)
    ]
    missing = pairing.missing(ids)
    if not partial:
        rows += [Crystal(f"{NOT_PREDICTED}:{target}", NOT_PREDICTED, info={"target_id": target}) for target in missing]
    write_table(to_table(rows, COLUMNS | {"target_id": pa.string()}), out)
    notes = [f"targets: matched by {'name' if pairing.by_name else 'the order of the file, as no name is a test id'}"]
    if missing:
        reading = "are left out (--partial)" if partial else "count as missed (--partial leaves them out)"
        notes.append(f"targets: {len(missing):,} of {len(ids):,} test crystals have no prediction and {reading}")
    return notes


def pair(names: Sequence[str | None], ids: Sequence[str]) -> Pairing:
    """Returns the target of each structure: by names when all of them are test ids, by order when none is.

    Raises ValueError when only some names are test ids, listing the others, or when no name is and the number of
    structures is not a multiple of the number of test crystals.
    """
    known = set(ids)
    found = [next((name for name in possible_ids(given) if name in known), None) for given in names]
    others = [str(given) for given, target in zip(names, found, strict=True) if target is None]
    if found and not others:
        return Pairing([target for target in found if target is not None], by_name=True)
    if len(others) < len(found):
        listed = ", ".join(map(repr, others[:LISTED])) + (", …" if len(others) > LISTED else "")
        raise ValueError(
            f"{len(others):,} of {len(found):,} names are not test ids: {listed}. Give every structure the "
            "id of its target as its name, or none of them."
        )
    if not ids or len(found) % len(ids):
        raise ValueError(
            f"{len(found)} structures, {len(ids)} test crystals: give each structure the id of its target "
            "as its name, or the same number of structures for every target, in order."
        )
    several = len(found) // len(ids)
    return Pairing([target for target in ids for _ in range(several)], by_name=False)


def possible_ids(name: str | None) -> list[str]:
    """Returns possible ids of the target in a structure's name, the most literal first.

    Structures are named after their file or entry: `ID`, a member of a zip `preds/ID.cif` or `preds/ID/1.cif`, a block
    of a CIF `mine.cif:ID`. The number of a prediction may follow the id: `ID_2.cif`, `ID-2.cif`, `ID#2.cif`.
    """
    if not name:
        return []
    whole, _, label = name.rpartition(":")
    parts = [part for part in (label, *reversed(re.split(r"[\\/]", whole or label))) if part]
    stems = [re.sub(r"\.(cif|vasp|poscar|json|xyz|extxyz)$", "", part, flags=re.IGNORECASE) for part in parts]
    numbered = [re.sub(r"[_#.-]\d+$", "", stem) for stem in stems]
    return list(dict.fromkeys([name, *parts, *stems, *numbered]))
