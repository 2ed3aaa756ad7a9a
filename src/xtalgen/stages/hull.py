"""Stage `hull`: the competing phases of the convex hull, with energies of the potential that relaxed the samples.

Energies of two potentials differ by more than relevant energies above the hull, so samples and hull need the same
potential. References are relaxed with the same settings as the samples: the energies of unrelaxed references are too
high and would make every sample look stable.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from ase.data import chemical_symbols

from xtalgen import crystals
from xtalgen.crystals import ContractError, Crystal
from xtalgen.potentials import registry
from xtalgen.potentials.types import Identity, PotentialError
from xtalgen.relaxation.in_flight import Outcome, RelaxConfig
from xtalgen.relaxation.runner import energy_metadata, moved, relax_all
from xtalgen.runtime.devices import pick_device
from xtalgen.structure.attributes import E_FORM
from xtalgen.thermodynamics.competing_phases import competition, elements_of
from xtalgen.thermodynamics.elemental_references import (
    PROTOTYPE,
    build_prototypes,
    energy_per_atom,
    lowest,
    missing_elements,
    promising,
)
from xtalgen.thermodynamics.phase_diagram_files import read_phase_diagram, stand_in

log = logging.getLogger(__name__)
MP2020 = "mp2020"
PROTOTYPE_STEPS = 100
COLUMNS = {"source": pa.string(), "energy": pa.float64(), "converged": pa.bool_(), "relax_error": pa.string()}


def write_hull(
    relaxed: Path,
    references: Sequence[Path],
    *,
    potential: str,
    relax_steps: int,
    fmax: float,
    workers: int,
    timeout: float | None,
    cache: Path,
    out: Path,
    device: str = "auto",
    sha256: str | None = None,
    energies: str = "consistent",
    phase_diagram: Path | None = None,
) -> None:
    """Writes the table of all reference crystals that can compete with the relaxed samples, with their `energy` (eV).

    energies: "consistent", every reference by the potential; "dft", the potential's energies of the elements and the
    data set's formation energies above them, so that only elements are computed; or "mp2020", the energies of
    `phase_diagram` (JSON of the Materials Project's entries), so that nothing is computed. A reference competes when
    its elements are a subset of those of a sample. relax_steps: FIRE steps for the references; 0 evaluates the given
    geometry. An element without an elemental reference gets the lowest of a few prototypes. References that failed keep
    their row, a status and a null energy. `cache` keeps every energy and is shared by all sets and runs. Raises
    PotentialError, and ContractError for samples of another potential or an unreadable phase diagram.
    """
    identity, device = registry.identify(potential, sha256), pick_device(device)
    samples = read_samples(relaxed, identity)
    if energies == "mp2020":
        _write_mp2020(samples, identity, phase_diagram, out, device)
        return
    chosen, sources = choose_references(samples, references)
    config = RelaxConfig(fmax, relax_steps, timeout)
    log.info("hull: %s sha256 %s on %s, %d references", identity.name, identity.sha256, device, len(chosen))
    run: dict[str, Any] = {"identity": identity, "workers": workers, "device": device, "store": cache}
    computed = [energies == "consistent" or len(elements_of(row)) == 1 for row in chosen]
    outcomes, n_computed = relax_all(list(compress(chosen, computed)), config=config, label="hull", **run)
    rows = [_row(*row) for row in zip(compress(chosen, computed), outcomes, compress(sources, computed), strict=True)]
    missing = missing_elements(samples, rows)
    terminals, n_more = _prototypes(missing, config, run)
    uncovered = sorted(set(missing) - {int(row.atomic_numbers[0]) for row in terminals})
    counts = {"n_prototype": len(terminals), "n_computed": n_computed + n_more}
    if energies == "dft":
        rows, terminals = _above_elements(chosen, sources, [*rows, *terminals])
    counts |= {"n_dataset": sum(row.ok for row in rows), "n_failed": sum(not row.ok for row in rows)}
    metadata = {"energies": energies, "relax_steps": str(relax_steps)}
    metadata |= {name: str(count) for name, count in counts.items()}
    metadata["missing_terminals"] = " ".join(chemical_symbols[number] for number in uncovered)
    metadata |= energy_metadata(identity, config, device)
    crystals.write_table(crystals.to_table(rows + terminals, COLUMNS), out, **metadata)


def read_samples(relaxed: Path, identity: Identity) -> list[Crystal]:
    """Returns the relaxed crystals that have an energy. Raises ContractError when another potential gave it."""
    table = crystals.read_table(relaxed)
    found = crystals.read_metadata(table).get("potential_sha256")
    if found != identity.sha256:
        raise ContractError(
            f"{relaxed}: energies come from the potential with sha256 {found}, the hull would come from "
            f"{identity.name} with sha256 {identity.sha256}. Relax again with the potential of the hull."
        )
    return [row for row in crystals.from_table(table) if row.ok and row.info.get("energy") is not None]


def choose_references(samples: Sequence[Crystal], references: Sequence[Path]) -> tuple[list[Crystal], list[str]]:
    """Returns the reference crystals whose elements are a subset of those of a sample, and the stem of each one's file.

    Repeated ids get the suffixes "#2", "#3", ….
    """
    competes = competition(samples)
    chosen, sources = [], []
    times: Counter[str] = Counter()
    for file in references:
        for row in crystals.read_crystals(file):
            if row.ok and competes(row):
                times[row.id] += 1
                name = row.id if times[row.id] == 1 else f"{row.id}#{times[row.id]}"
                chosen.append(replace(row, id=name, info={E_FORM: row.info.get(E_FORM)}))
                sources.append(file.stem)
    return chosen, sources


def _write_mp2020(
    samples: Sequence[Crystal], identity: Identity, phase_diagram: Path | None, out: Path, device: str
) -> None:
    """Writes the entries of a phase diagram that compete with the samples; no energy is computed."""
    if phase_diagram is None:
        raise ContractError("hull mp2020 needs a phase diagram: give relax.phase_diagram.")
    if identity.scale is None:
        raise PotentialError(
            f"potential {identity.name!r}: its total energies are not on the Materials Project's scale (those of "
            "CHGNet and of MACE-MP models are) and cannot be compared with that project's hull. Use hull: consistent."
        )
    systems = {frozenset(chemical_symbols[number] for number in elements_of(sample)) for sample in samples}
    entries = [
        entry for entry in read_phase_diagram(phase_diagram) if any(entry.elements <= system for system in systems)
    ]
    rows = [stand_in(entry) for entry in entries]
    rows = [replace(row, info={**row.info, "source": MP2020}) for row in rows]
    metadata = energy_metadata(identity, RelaxConfig(0.0, 0, None), device) | {
        "energies": "mp2020",
        "energy_scale": identity.scale,
        "phase_diagram_sha256": hashlib.sha256(phase_diagram.read_bytes()).hexdigest(),
        "n_dataset": str(len(rows)),
        "missing_terminals": " ".join(chemical_symbols[number] for number in missing_elements(samples, rows)),
    }
    crystals.write_table(crystals.to_table(rows, COLUMNS), out, **metadata)


def _prototypes(numbers: Sequence[int], config: RelaxConfig, run: Mapping[str, Any]) -> tuple[list[Crystal], int]:
    """Returns the lowest-energy prototype of each element, and the number of energies computed.

    All prototypes are evaluated as built; only the most promising ones are relaxed.
    """
    built = [prototype for number in numbers for prototype in build_prototypes(number)]
    static, n_static = relax_all(built, config=replace(config, max_steps=0), label="hull: elements, first", **run)
    kept = promising([_row(*row, PROTOTYPE) for row in zip(built, static, strict=True)])
    chosen = [crystal for crystal in built if crystal.id in kept]
    thorough = replace(config, max_steps=max(config.max_steps, PROTOTYPE_STEPS))
    outcomes, n_thorough = relax_all(chosen, config=thorough, label="hull: elements", **run)
    return lowest([_row(*row, PROTOTYPE) for row in zip(chosen, outcomes, strict=True)]), n_static + n_thorough


def _row(crystal: Crystal, outcome: Outcome, source: str) -> Crystal:
    info = {"source": source} | {name: getattr(outcome, name) for name in ("energy", "converged", "relax_error")}
    return replace(moved(crystal, outcome), info=info)


def _above_elements(
    chosen: Sequence[Crystal], sources: Sequence[str], computed: Sequence[Crystal]
) -> tuple[list[Crystal], list[Crystal]]:
    """Returns all references with energies from their DFT formation energies, and the elemental crystals."""
    grounds = lowest([row for row in computed if len(elements_of(row)) == 1])
    level = {int(row.atomic_numbers[0]): energy_per_atom(row) for row in grounds}
    rows = [_from_dft(row, source, level) for row, source in zip(chosen, sources, strict=True)]
    return rows, [replace(row, id=f"terminal-{chemical_symbols[row.atomic_numbers[0]]}") for row in grounds]


def _from_dft(crystal: Crystal, source: str, level: Mapping[int, float]) -> Crystal:
    """Returns a reference with its energy (eV): formation energy plus the elements' energies `level` (eV/atom)."""
    e_form = crystal.info[E_FORM]
    known = e_form is not None and np.isfinite(e_form) and elements_of(crystal) <= set(level)
    elements = sum(level[int(number)] for number in crystal.atomic_numbers) if known else 0.0
    energy = elements + crystal.n_atoms * e_form if known else None
    info = {"source": source, "energy": energy, "converged": None, "relax_error": None}
    return replace(crystal, status="ok" if known else "no_formation_energy", info=info)
