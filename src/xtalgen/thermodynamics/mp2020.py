"""The Materials Project's MP2020 corrections, which make raw PBE(+U) energies comparable with its phase diagram.

Wang et al. 2021, doi:10.1038/s41598-021-94550-5, as pymatgen computes them. Hubbard U values and pseudopotentials are
those of pymatgen's MPRelaxSet.
"""

import warnings
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal


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
            warnings.simplefilter("ignore")  # warnings about guessed oxidation states
            processed = scheme.process_entry(entry, on_error="raise")
    except (CompatibilityError, ValueError, KeyError) as error:
        raise CorrectionError(f"{type(error).__name__}: {error}") from error
    if processed is None:
        raise CorrectionError("MP2020 does not know these elements or settings")
    return float(processed.correction)


def warm_up() -> None:
    """Imports in a new worker process what would else count into its first crystal's time."""
    magnesia = Crystal("", "ok", np.eye(3) * 3.0, np.array([[0.0] * 3, [0.5] * 3]), np.array([12, 8], dtype=np.uint8))
    correction(magnesia)


def _settings(structure: Any) -> tuple[dict[str, float], list[str]]:
    """Returns the Hubbard U values and pseudopotentials set by MPRelaxSet for this structure."""
    from pymatgen.io.vasp.sets import MPRelaxSet

    elements = sorted(structure.composition.elements, key=lambda element: element.X)
    by_anion = MPRelaxSet.CONFIG["INCAR"]["LDAUU"]
    values = by_anion.get(elements[-1].symbol, {})
    hubbards = {element.symbol: float(values[element.symbol]) for element in elements if element.symbol in values}
    potcars = [MPRelaxSet.CONFIG["POTCAR"].get(element.symbol, element.symbol) for element in elements]
    return hubbards, potcars
