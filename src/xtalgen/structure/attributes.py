"""Attributes of crystals that data sets provide and models can be conditioned on."""

import math
from collections.abc import Sequence
from typing import Any

from xtalgen.crystals import Crystal
from xtalgen.structure.composition import formula

E_FORM = "e_form_per_atom"
# Those that tables hold as columns; the language model is trained on k of them at once.
MEASURED = ("spg_num", "band_gap", E_FORM, "e_above_hull")
ATTRIBUTES = ("formula", "n_atoms", *MEASURED)


def attributes_of(crystal: Crystal) -> dict[str, Any]:
    """Returns the attributes of `MEASURED` that have a finite value in a crystal."""
    found = {name: crystal.info.get(name) for name in MEASURED}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def conditions_of(crystal: Crystal, attributes: Sequence[str]) -> dict[str, Any]:
    """Returns the attributes (names of `ATTRIBUTES`) of a crystal that is ok; those that it lacks are left out.

    Raises ValueError on an unknown attribute.
    """
    unknown = sorted(set(attributes) - set(ATTRIBUTES))
    if unknown:
        raise ValueError(f"no attribute {unknown[0]!r}; there are {', '.join(ATTRIBUTES)}.")
    known = {"formula": formula(crystal.atomic_numbers), "n_atoms": crystal.n_atoms, **attributes_of(crystal)}
    return {name: known[name] for name in attributes if name in known}
