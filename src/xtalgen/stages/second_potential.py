"""Stage `second_potential`: what a second potential says of the best candidates, from which an uncertainty follows."""

import sys
from pathlib import Path

import pyarrow as pa

from xtalgen import crystals
from xtalgen.crystals import ContractError, Crystal
from xtalgen.metrics.candidates import choose
from xtalgen.metrics.dng import phase_of
from xtalgen.potentials import registry as potentials
from xtalgen.relaxation.in_flight import Settings
from xtalgen.relaxation.runner import describe, relax_all
from xtalgen.runtime.devices import pick_device
from xtalgen.thermodynamics.energy_above_hull import energies_above_hull

COLUMNS = {"second_e_above_hull": pa.float64(), "second_status": pa.string()}


def second_potential(
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
    """Writes the candidates of an evaluated set with their energy above a second potential's own hull, in eV/atom.

    Candidates and competing phases stay where the first potential relaxed them: the second only evaluates them, so that
    its hull is as consistent as the first one's. second_status: "ok", or why there is no value. `cache` keeps every
    energy. Raises ContractError for a hull whose energies are not a potential's, and PotentialError where both
    potentials are one.
    """
    identity, device = potentials.identify(potential, sha256), pick_device(device)
    table = crystals.read_table(hull)
    said = crystals.read_metadata(table)
    if said.get("energies") != "consistent":
        raise ContractError(
            f"{hull}: a second potential needs the crystals of the hull, and this one holds the energies of a "
            f"{said.get('energies')!r} hull. Use relax.hull: consistent."
        )
    if said.get("potential_sha256") == identity.sha256:
        raise potentials.PotentialError(
            f"potential {potential!r}: relaxed the crystals itself; name another as second."
        )
    chosen = choose(crystals.read_crystals(evaluated), count)
    systems = {frozenset(row.atomic_numbers.tolist()) for row in chosen}
    competing = [row for row in crystals.from_table(table) if row.ok and row.info.get("energy") is not None]
    competing = [row for row in competing if any(set(row.atomic_numbers.tolist()) <= system for system in systems)]
    print(
        f"second_potential: {identity.name} sha256 {identity.sha256} on {device}, {len(chosen)} candidates",
        file=sys.stderr,
    )
    settings = Settings(0.0, 0, timeout)
    rows = [*chosen, *competing]
    found, _ = relax_all(
        rows,
        identity=identity,
        settings=settings,
        workers=workers,
        device=device,
        store=cache,
        label="second",
    )
    phases = [phase_of(row, outcome.energy) for row, outcome in zip(rows, found, strict=True)]
    references = [phase for phase in phases[len(chosen) :] if phase is not None]
    above = energies_above_hull(phases[: len(chosen)], references, workers=workers)
    judged = [
        Crystal(row.id, row.status, row.lattice, row.frac_coords, row.atomic_numbers,
                {"second_e_above_hull": one.value, "second_status": one.status})
        for row, one in zip(chosen, above, strict=True)
    ]  # fmt: skip
    crystals.write_table(crystals.to_table(judged, COLUMNS), out, **describe(identity, settings, device))
