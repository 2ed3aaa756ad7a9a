"""Stage `relax`: relaxes every crystal of a table with a potential. Failures become a status; no row is dropped."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from xtalgen import crystals
from xtalgen.crystals import Crystal
from xtalgen.potentials import registry
from xtalgen.relaxation.in_flight import Outcome, RelaxConfig
from xtalgen.relaxation.runner import energy_metadata, moved, relax_all
from xtalgen.runtime.devices import pick_device

log = logging.getLogger(__name__)
COLUMNS = {
    "relax_asked": pa.bool_(),
    "initial_status": pa.string(),
    "energy": pa.float64(),
    "e_initial": pa.float64(),
    "max_force": pa.float64(),
    "converged": pa.bool_(),
    "n_steps": pa.int64(),
    "seconds": pa.float64(),
    "rmsd": pa.float64(),
    "volume_ratio": pa.float64(),
    "relax_error": pa.string(),
}


def relax(
    crystals_file: Path,
    *,
    potential: str,
    fmax: float,
    max_steps: int,
    workers: int,
    timeout: float | None,
    work: Path,
    out: Path,
    device: str = "auto",
    sha256: str | None = None,
    max_crystals: int | None = None,
) -> None:
    """Writes the table of relaxed crystals: same ids and order, the columns of the input and `COLUMNS`.

    max_crystals: relax only the first crystals of the set, by the number at the end of their ids, independent of
    shards; the others stay as they are, with relax_asked = false.

    A crystal that is not "ok", or whose relaxation fails, keeps its geometry; `status` says what failed, `relax_error`
    gives details. One that has not converged after `max_steps` stays "ok" with converged = false. `work` keeps every
    finished crystal, so that a killed run resumes where it stopped. Raises PotentialError and ContractError.
    """
    table = crystals.read_table(crystals_file)
    rows = crystals.from_table(table)
    identity, device = registry.identify(potential, sha256), pick_device(device)
    config = RelaxConfig(fmax, max_steps, timeout)
    log.info("relax: %s (%s) sha256 %s on %s", identity.name, identity.version, identity.sha256, device)
    asked = [max_crystals is None or _number(row.id) < max_crystals for row in rows]
    usable = [row for row, chosen in zip(rows, asked, strict=True) if chosen and row.ok]
    found, n_computed = relax_all(
        usable, identity=identity, config=config, workers=workers, device=device, store=work, label="relax"
    )
    outcomes = dict(zip([row.id for row in usable], found, strict=True))
    relaxed = [_relaxed(row, outcomes.get(row.id), chosen) for row, chosen in zip(rows, asked, strict=True)]
    metadata = crystals.read_facts(table)
    metadata |= energy_metadata(identity, config, device)
    # Equal crystals share one outcome, which is counted once.
    seconds = sum({id(outcome): outcome.seconds or 0.0 for outcome in found}.values())
    metadata |= {"n_computed": str(n_computed), "seconds": f"{seconds:.3f}"}
    kept = {field.name: field.type for field in table.schema if field.name not in crystals.GEOMETRY.names}
    crystals.write_table(crystals.to_table(relaxed, kept | COLUMNS), out, **metadata)


def _number(identifier: str) -> int:
    """Returns the position of a crystal in its set, from its id. Raises ContractError for an id without a number."""
    number = identifier.rpartition("-")[2]
    if not number.isdecimal():
        raise crystals.ContractError(
            f"{identifier!r} is not of the form NAME-000000, so the first crystals are unknown. Relax all of them."
        )
    return int(number)


def _relaxed(row: Crystal, outcome: Outcome | None, asked: bool) -> Crystal:
    info: dict[str, Any] = {**row.info, **dict.fromkeys(COLUMNS), "relax_asked": asked, "initial_status": row.status}
    if outcome is None:
        return replace(row, info=info | {"converged": False})
    info |= {name: value for name, value in asdict(outcome).items() if name in COLUMNS}
    return replace(moved(row, outcome), info=info)
