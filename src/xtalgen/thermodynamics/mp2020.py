"""The Materials Project's MP2020 corrections, which make raw PBE(+U) energies comparable with its phase diagram.

Wang et al. 2021, doi:10.1038/s41598-021-94550-5, as pymatgen computes them. Hubbard U values and pseudopotentials are
those of pymatgen's MPRelaxSet.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.runtime.parallel import Failure, map_items


class CorrectionError(ValueError):
    """MP2020 has no correction for a crystal; the message says why."""


def correction(crystal: Crystal) -> float:
    """Returns the MP2020 correction of a crystal's total energy (eV per cell) for a calculation with MP's settings.

    It depends on the elements, on the kind of oxide (found from the structure) and on guessed oxidation states. Raises
    CorrectionError where pymatgen's compatibility scheme refuses the crystal.
    """
    from pymatgen.entries.compatibility import CompatibilityError, MaterialsProject2020Compatibility
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    from xtalgen.structure.pymatgen import to_structure

    structure = to_structure(crystal)
    hubbards, potcars = _settings(structure)
    entry = ComputedStructureEntry(
        structure,
        0.0,
        parameters={
            "run_type": "GGA+U" if hubbards else "GGA",
            "is_hubbard": bool(hubbards),
            "hubbards": hubbards,
            "potcar_symbols": [f"PBE {potcar}" for potcar in potcars],
        },
        entry_id=crystal.id,
    )
    scheme = MaterialsProject2020Compatibility(check_potcar=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about guessed oxidation states
            processed = scheme.process_entry(entry, on_error="raise")
    except (CompatibilityError, ValueError, KeyError) as error:
        raise CorrectionError(f"{type(error).__name__}: {error}") from error
    if processed is None:
        raise CorrectionError("MP2020 does not know these elements or settings")
    return float(processed.correction)


def corrected_for_hull(
    relaxed: Sequence[Crystal], sample: Sequence[Crystal], *, workers: int, timeout: float
) -> list[Crystal]:
    """Returns the relaxed rows with corrected energies in `info` for the hull: `hull_energy` and `hull_e_initial`, eV.

    The first is of the relaxed geometry, the second of the sampled one; null where there is no energy, or no correction
    within `timeout` seconds (oxidation states are guessed, which can take long).
    """
    wanted = [
        (index, name, row, energy)
        for index, (after, before) in enumerate(zip(relaxed, sample, strict=True))
        for name, row in (("energy", after), ("e_initial", before))
        if row.ok and (energy := after.info.get(name)) is not None
    ]
    found = map_items(
        correction, [row for _, _, row, _ in wanted], workers=workers, timeout=timeout, label="MP2020 corrections"
    )
    energies: list[dict[str, float | None]] = [{"hull_energy": None, "hull_e_initial": None} for _ in relaxed]
    for (index, name, _, energy), each in zip(wanted, found, strict=True):
        energies[index][f"hull_{name}"] = None if isinstance(each, Failure) else energy + each
    return [replace(row, info={**row.info, **more}) for row, more in zip(relaxed, energies, strict=True)]


def _settings(structure: Any) -> tuple[dict[str, float], list[str]]:
    """Returns the Hubbard U of each element that has one here, and the pseudopotentials, as MPRelaxSet sets them."""
    from pymatgen.io.vasp.sets import MPRelaxSet

    elements = sorted(structure.composition.elements, key=lambda element: element.X)
    by_anion = MPRelaxSet.CONFIG["INCAR"]["LDAUU"]
    values = by_anion.get(elements[-1].symbol, {})
    hubbards = {element.symbol: float(values[element.symbol]) for element in elements if element.symbol in values}
    potcars = [MPRelaxSet.CONFIG["POTCAR"].get(element.symbol, element.symbol) for element in elements]
    return hubbards, potcars
