"""Stage `second_potential`: energies above a second potential's hull, as an uncertainty of the best candidates."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from xtalgen import crystals
from xtalgen.crystals import ContractError
from xtalgen.metrics.candidates import choose
from xtalgen.potentials import registry
from xtalgen.potentials.types import Identity, PotentialError
from xtalgen.relaxation.in_flight import RelaxConfig
from xtalgen.relaxation.runner import energy_metadata, relax_all
from xtalgen.runtime.devices import pick_device
from xtalgen.thermodynamics.competing_phases import competition
from xtalgen.thermodynamics.energy_above_hull import energies_above_hull, phase_of

log = logging.getLogger(__name__)
COLUMNS = {"second_e_above_hull": pa.float64(), "second_status": pa.string()}


def apply_second_potential(
    evaluated: Path,
    hull: Path,
    *,
    potential: str,
    count: int,
    workers: int,
    timeout: float | None,
    cache: Path,
    out: Path,
    device: str = "auto",
    sha256: str | None = None,
) -> None:
    """Writes the candidates of an evaluated set with their energies above a second potential's own hull, in eV/atom.

    The second potential evaluates candidates and competing phases at the geometries of the first one, without
    relaxation, so its hull is self-consistent. second_status: "ok", or why there is no value. `cache` keeps every
    energy. Raises ContractError unless a potential computed all energies of the hull, and PotentialError when both
    potentials are the same.
    """
    identity, device = registry.identify(potential, sha256), pick_device(device)
    table = crystals.read_table(hull)
    _check(hull, crystals.read_metadata(table), identity)
    chosen = choose(crystals.read_crystals(evaluated), count)
    with_energy = (row for row in crystals.from_table(table) if row.ok and row.info.get("energy") is not None)
    rows = [*chosen, *filter(competition(chosen), with_energy)]
    facts = (identity.name, identity.sha256, device, len(chosen))
    log.info("second_potential: %s sha256 %s on %s, %d candidates", *facts)
    config = RelaxConfig(0.0, 0, timeout)
    run: dict[str, Any] = {"identity": identity, "workers": workers, "device": device, "store": cache}
    outcomes, _ = relax_all(rows, config=config, label="second", **run)
    phases = [phase_of(row, outcome.energy) for row, outcome in zip(rows, outcomes, strict=True)]
    references = [phase for phase in phases[len(chosen) :] if phase is not None]
    above = energies_above_hull(phases[: len(chosen)], references, workers=workers)
    judged = [
        replace(row, info={"second_e_above_hull": one.value, "second_status": one.status})
        for row, one in zip(chosen, above, strict=True)
    ]
    crystals.write_table(crystals.to_table(judged, COLUMNS), out, **energy_metadata(identity, config, device))


def _check(hull: Path, metadata: Mapping[str, str], identity: Identity) -> None:
    """Raises ContractError or PotentialError when the potential cannot be the second one for this hull."""
    if metadata.get("energies") != "consistent":
        raise ContractError(
            f"{hull}: a second potential needs the crystals of the hull, but this file holds the energies of a "
            f"{metadata.get('energies')!r} hull. Use relax.hull: consistent."
        )
    if metadata.get("potential_sha256") == identity.sha256:
        raise PotentialError(f"potential {identity.name!r}: it relaxed the crystals; choose another one as the second.")
