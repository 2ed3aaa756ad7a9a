"""Stage `distil`: labels crystals of a data set and their distortions with a teacher potential.

A label is the teacher's energy, forces and stress. The stage `distil_training` trains a small potential on the labels,
`distil_card` tests it.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import Identity, Potential, PotentialError, Prediction
from xtalgen.relaxation.fire import Motion
from xtalgen.relaxation.in_flight import refused
from xtalgen.relaxation.single_points import evaluate, evaluate_alone
from xtalgen.runtime.devices import pick_device
from xtalgen.runtime.parallel import Failure
from xtalgen.runtime.resume import clear, content_key, map_resumably
from xtalgen.structure.distortions import KINDS

log = logging.getLogger(__name__)
METHOD = "labels/1"
GIVEN, RELAXING, PRESSED = "given", "relaxing", "pressed"
PER_TASK = 8  # crystals labelled in one task of a worker
# Probability of each kind of distortion. Most lie near the minima, where the student will be used.
SHARES = {"rattled": 0.32, "strained": 0.25, "shaken": 0.27, PRESSED: 0.12, RELAXING: 0.04}
KEPT_STEPS = (0, 2, 4, 6)  # steps of a relaxation from a shaken crystal that are kept as configurations
MAX_FORCE = 30.0  # eV/Å; larger forces would dominate the student's loss without improving it

COLUMNS = {
    "parent": pa.string(),
    "kind": pa.string(),
    "energy": pa.float64(),
    "forces": pa.list_(pa.float64()),
    "stress": pa.list_(pa.float64()),
}


@dataclass(frozen=True)
class LabelConfig:
    """Which configurations to label: how many crystals, the mean number of distortions of each, and the seed."""

    n_crystals: int
    distorted: float
    seed: int


def distil(
    tables: Sequence[Path],
    *,
    config: LabelConfig,
    part: tuple[int, int],
    teacher: str,
    out: Path,
    work: Path,
    workers: int = 1,
    device: str = "auto",
    sha256: str | None = None,
) -> None:
    """Writes a table of configurations with the teacher's `energy` (eV), `forces` (eV/Å) and `stress` (eV/Å³).

    tables: crystals of the data set, of which a seeded subset is labelled. part: (k, n) labels the k-th of n shares, k
    from 1. The table holds each crystal as given and its distortions (`kind`; `parent` is the crystal's id). A
    configuration without a usable label keeps its row: status "potential_failure", "too_strong" (forces above 30 eV/Å),
    or "attractive" (pressing two atoms together lowered the energy, an artefact of the teacher). `work` keeps finished
    chunks, so that a killed run resumes. Raises PotentialError and ContractError.
    """
    identity, device = registry.identify(teacher, sha256), pick_device(device)
    chosen = choose(tables, config)[part[0] - 1 :: part[1]]
    tasks = [(chosen[first : first + PER_TASK], config, identity, device) for first in range(0, len(chosen), PER_TASK)]
    key = content_key(*tables, method=METHOD, config=repr(config), part=part, teacher=identity.sha256)
    log.info("distil: %s labels %d crystals, %d distortions each", identity.name, len(chosen), config.distorted)
    results = map_resumably(
        _label_task,
        tasks,
        work=work,
        key=key,
        workers=workers if device == "cpu" else 1,
        timeout=None,
        label=f"labels ({PER_TASK} crystals each)",
    )
    broken = next((result for result in results if isinstance(result, Failure)), None)
    if broken is not None:
        raise PotentialError(f"teacher {teacher!r}: {broken.message}")
    rows = [_decoded(values) for result in results for values in result]
    counts = Counter(row.status for row in rows)
    metadata = {"teacher": identity.name, "teacher_sha256": identity.sha256, "teacher_version": identity.version}
    metadata |= {"statuses": " ".join(f"{name} {count}" for name, count in sorted(counts.items()))}
    crystals.write_table(crystals.to_table(rows, COLUMNS), out, **metadata, seed=str(config.seed))
    clear(work)


def choose(tables: Sequence[Path], config: LabelConfig) -> list[Crystal]:
    """Returns a seeded selection of the usable crystals of all tables, without further columns.

    Elemental crystals come first, since every formation energy depends on some of them.
    """
    found = [
        Crystal(row.id, "ok", row.lattice, row.frac_coords, row.atomic_numbers)
        for table in tables
        for row in crystals.read_crystals(table)
        if row.ok
    ]
    order = np.random.default_rng(config.seed).permutation(len(found))
    shuffled = sorted((found[index] for index in order), key=lambda row: len(set(row.atomic_numbers.tolist())) > 1)
    return shuffled[: config.n_crystals]


def label_crystals(rows: Sequence[Crystal], config: LabelConfig, potential: Potential) -> list[Crystal]:
    """Returns the crystals and their distortions with the potential's labels.

    The status of a row without label says why. The distortions of a crystal depend only on the seed and its id.
    """
    found: list[Crystal] = []
    for row in rows:
        generator = np.random.default_rng([config.seed, *row.id.encode()])
        start = _label([_named(row, row.id, GIVEN, 0)], potential)
        found += start
        for number in range(1, int(config.distorted + generator.random()) + 1):
            kind = str(generator.choice(list(SHARES), p=list(SHARES.values())))
            changed = KINDS.get(kind, KINDS["shaken"])(row, generator)
            if kind == RELAXING:
                found += _relaxing(_named(changed, row.id, kind, number), potential)
            else:
                (made,) = _label([_named(changed, row.id, kind, number)], potential)
                found.append(_judged(made, start[0]))
    return found


def _label(rows: Sequence[Crystal], potential: Potential) -> list[Crystal]:
    refusals = [refused(row, potential) for row in rows]
    found = iter(evaluate([row for row, why in zip(rows, refusals, strict=True) if why is None], potential))
    return [
        replace(row, status="potential_failure") if why is not None else _with_label(*next(found))
        for row, why in zip(rows, refusals, strict=True)
    ]


def _relaxing(start: Crystal, potential: Potential) -> list[Crystal]:
    """Returns early steps of a relaxation, each with its label, up to the first step that cannot be labelled."""
    if refused(start, potential) is not None:
        return [replace(start, status="potential_failure")]
    motion, found = Motion.of([start]), []
    for step in range(KEPT_STEPS[-1] + 1):
        geometry = motion.geometry()
        here = replace(
            start,
            id=f"{start.id}:{step}",
            lattice=geometry.lattices[0],
            frac_coords=geometry.positions @ np.linalg.inv(geometry.lattices[0]),
        )
        prediction = evaluate_alone(here, potential)
        if step in KEPT_STEPS or isinstance(prediction, str):
            found.append(_with_label(here, prediction))
        if isinstance(prediction, str):
            break
        motion.step(prediction)
    return found


def _with_label(row: Crystal, prediction: Prediction | str) -> Crystal:
    if isinstance(prediction, str):
        return replace(row, status="potential_failure")
    numbers = np.concatenate([prediction.energy, prediction.forces.ravel(), prediction.stress.ravel()])
    if not np.isfinite(numbers).all():
        return replace(row, status="potential_failure")
    strong = np.linalg.norm(prediction.forces, axis=1).max() > MAX_FORCE
    info = {"energy": float(prediction.energy[0]), "forces": prediction.forces.ravel().tolist()}
    info |= {"stress": prediction.stress[0].ravel().tolist()}
    return replace(row, status="too_strong" if strong else "ok", info={**row.info, **info})


def _judged(row: Crystal, given: Crystal) -> Crystal:
    """Returns the configuration; status "attractive" where pressing atoms together lowered the crystal's energy."""
    if not row.ok or not given.ok or row.info["kind"] != PRESSED or row.info["energy"] > given.info["energy"]:
        return row
    return replace(row, status="attractive")


def _named(row: Crystal, parent: str, kind: str, number: int) -> Crystal:
    return replace(row, id=f"{parent}:{kind}-{number}", info={"parent": parent, "kind": kind})


_loaded: dict[tuple[str, str], Potential] = {}


def _label_task(task: tuple[list[Crystal], LabelConfig, Identity, str]) -> list[dict[str, Any]]:
    rows, config, identity, device = task
    if (identity.sha256, device) not in _loaded:
        _loaded[identity.sha256, device] = registry.load_identified(identity, device)
    return [_encoded(row) for row in label_crystals(rows, config, _loaded[identity.sha256, device])]


def _encoded(row: Crystal) -> dict[str, Any]:
    arrays = {name: getattr(row, name).ravel().tolist() for name in ("lattice", "frac_coords", "atomic_numbers")}
    return {"id": row.id, "status": row.status, **arrays, "info": dict(row.info)}


def _decoded(values: dict[str, Any]) -> Crystal:
    return Crystal(
        values["id"],
        values["status"],
        np.array(values["lattice"]).reshape(3, 3),
        np.array(values["frac_coords"]).reshape(-1, 3),
        np.array(values["atomic_numbers"], dtype=np.uint8),
        values["info"],
    )
