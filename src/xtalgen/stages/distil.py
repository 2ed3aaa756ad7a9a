"""Stage `distil`, first half: what a teacher potential says of crystals of a data set and of their distortions.

A label is the energy, the forces and the stress that the teacher gives. What a small potential learns from these stands
in `distil_training`, how it did in `distil_card`.
"""

import sys
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

METHOD = "labels/1"
GIVEN, RELAXING, PRESSED = "given", "relaxing", "pressed"
PER_TASK = 8  # crystals that a process labels at once
# What is drawn for one distorted configuration: most are near the minima where the potential will be used.
SHARES = {"rattled": 0.32, "strained": 0.25, "shaken": 0.27, PRESSED: 0.12, RELAXING: 0.04}
KEPT_STEPS = (0, 2, 4, 6)  # of a relaxation that starts from a shaken crystal
STRONGEST = 30.0  # eV/Å; stronger forces are of no use to the student and would rule its training

COLUMNS = {
    "parent": pa.string(),
    "kind": pa.string(),
    "energy": pa.float64(),
    "forces": pa.list_(pa.float64()),
    "stress": pa.list_(pa.float64()),
}


@dataclass(frozen=True)
class LabelConfig:
    """Which configurations to make: of how many crystals, how many distorted ones of each on average, and the seed."""

    n_crystals: int
    distorted: float
    seed: int


def label(
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

    tables: crystals of the data set, of which a seeded choice is taken. part: (k, n) labels the k-th of n shares, k
    from 1. Each crystal stands there as given and with its distortions (`kind`; `parent` is the crystal's id). A
    configuration without a label keeps its row: status "potential_failure", "too_strong" (forces above 30 eV/Å), or
    "attractive" (pressed together, it lies lower than before: a hole of the teacher that none should learn). `work`
    keeps finished parts, so that a killed run goes on. Raises PotentialError and ContractError.
    """
    identity, device = registry.identify(teacher, sha256), pick_device(device)
    chosen = choose(tables, config)[part[0] - 1 :: part[1]]
    tasks = [(chosen[first : first + PER_TASK], config, identity, device) for first in range(0, len(chosen), PER_TASK)]
    key = content_key(*tables, method=METHOD, config=repr(config), part=part, teacher=identity.sha256)
    print(
        f"distil: {identity.name} labels {len(chosen)} crystals, {config.distorted} distortions each", file=sys.stderr
    )
    results = map_resumably(
        _label_task,
        tasks,
        work=work,
        key=key,
        workers=workers if device == "cpu" else 1,
        timeout=None,
        label=f"labels (by {PER_TASK})",
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
    """Returns a seeded choice of the usable crystals of all tables, without their other columns.

    Crystals of one element come first: every formation energy hangs on some of them.
    """
    found = [Crystal(row.id, "ok", row.lattice, row.frac_coords, row.atomic_numbers)
             for table in tables for row in crystals.read_crystals(table) if row.ok]  # fmt: skip
    order = np.random.default_rng(config.seed).permutation(len(found))
    shuffled = sorted((found[place] for place in order), key=lambda row: len(set(row.atomic_numbers.tolist())) > 1)
    return shuffled[: config.n_crystals]


def label_crystals(rows: Sequence[Crystal], config: LabelConfig, potential: Potential) -> list[Crystal]:
    """Returns the crystals and their distortions with the potential's labels, or a status that says why there is none.

    The distortions of a crystal depend on the seed and its id only.
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
    hopeless = [refused(row, potential) for row in rows]
    found = iter(evaluate([row for row, why in zip(rows, hopeless, strict=True) if why is None], potential))
    return [
        replace(row, status="potential_failure") if why is not None else _with_label(*next(found))
        for row, why in zip(rows, hopeless, strict=True)
    ]


def _relaxing(start: Crystal, potential: Potential) -> list[Crystal]:
    """Returns some of the first steps of a relaxation, each with its label; none where the start has none."""
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
        answer = evaluate_alone(here, potential)
        if step in KEPT_STEPS or isinstance(answer, str):
            found.append(_with_label(here, answer))
        if isinstance(answer, str):
            break
        motion.step(answer)
    return found


def _with_label(row: Crystal, answer: Prediction | str) -> Crystal:
    if isinstance(answer, str):
        return replace(row, status="potential_failure")
    numbers = np.concatenate([answer.energy, answer.forces.ravel(), answer.stress.ravel()])
    if not np.isfinite(numbers).all():
        return replace(row, status="potential_failure")
    strong = np.linalg.norm(answer.forces, axis=1).max() > STRONGEST
    info = {"energy": float(answer.energy[0]), "forces": answer.forces.ravel().tolist()}
    info |= {"stress": answer.stress[0].ravel().tolist()}
    return replace(row, status="too_strong" if strong else "ok", info={**row.info, **info})


def _judged(row: Crystal, given: Crystal) -> Crystal:
    """Returns a configuration, marked when it was pressed together and yet lies lower than the crystal as given."""
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
