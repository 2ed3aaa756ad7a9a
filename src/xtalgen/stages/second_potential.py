"""Stage `second_potential`: energies above a second potential's hull, for an uncertainty of the best candidates."""

import sys
from pathlib import Path

import pyarrow as pa

from xtalgen import crystals
from xtalgen.crystals import ContractError, Crystal
from xtalgen.metrics.candidates import choose
from xtalgen.potentials import registry
from xtalgen.potentials.types import PotentialError
from xtalgen.relaxation.in_flight import RelaxConfig
from xtalgen.relaxation.runner import describe, relax_all
from xtalgen.runtime.devices import pick_device
from xtalgen.thermodynamics.energy_above_hull import energies_above_hull, phase_of

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

    Candidates and competing phases keep the geometries that the first potential gave them, and the second potential
    evaluates both without relaxing them, so that its hull is consistent as well. second_status: "ok", or why there is
    no value. `cache` keeps every energy. Raises ContractError for a hull of other energies than a potential's, and
    PotentialError when both potentials are the same.
    """
    identity, device = registry.identify(potential, sha256), pick_device(device)
    table = crystals.read_table(hull)
    metadata = crystals.read_metadata(table)
    if metadata.get("energies") != "consistent":
        raise ContractError(
            f"{hull}: a second potential needs the crystals of the hull, and this one holds the energies of a "
            f"{metadata.get('energies')!r} hull. Use relax.hull: consistent."
        )
    if metadata.get("potential_sha256") == identity.sha256:
        raise PotentialError(f"potential {potential!r}: it relaxed the crystals; choose another one as the second.")
    chosen = choose(crystals.read_crystals(evaluated), count)
    systems = {frozenset(row.atomic_numbers.tolist()) for row in chosen}
    competing = [row for row in crystals.from_table(table) if row.ok and row.info.get("energy") is not None]
    competing = [row for row in competing if any(set(row.atomic_numbers.tolist()) <= system for system in systems)]
    print(
        f"second_potential: {identity.name} sha256 {identity.sha256} on {device}, {len(chosen)} candidates",
        file=sys.stderr,
    )
    config = RelaxConfig(0.0, 0, timeout)
    rows = [*chosen, *competing]
    found, _ = relax_all(
        rows,
        identity=identity,
        config=config,
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
    crystals.write_table(crystals.to_table(judged, COLUMNS), out, **describe(identity, config, device))
