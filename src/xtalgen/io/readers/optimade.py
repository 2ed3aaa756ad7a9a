"""Structures in the form of the OPTIMADE API (Andersen et al., Sci. Data 8, 217, 2021; optimade.org, version 1.2)."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.io.checks import atomic_number, check_lattice, check_periodic, make_crystal
from xtalgen.io.entries import CrystalError

NEEDED = ("lattice_vectors", "cartesian_site_positions", "species_at_sites")


def is_optimade(keys: Collection[str]) -> bool:
    """Whether the keys are those of the attributes of an OPTIMADE structure."""
    return all(name in keys for name in NEEDED)


def read_optimade(attributes: Mapping[str, Any]) -> Crystal:
    """Returns the crystal of the attributes of an OPTIMADE structure, atoms in its order. Raises CrystalError.

    `species` says which element a name of `species_at_sites` is; without it the names are symbols of elements. Sites
    with several elements or a vacancy are disordered.
    """
    check_periodic([bool(one) for one in attributes.get("dimension_types") or (1, 1, 1)])
    try:
        lattice = np.array(attributes["lattice_vectors"], dtype=np.float64).reshape(3, 3)
        positions = np.array(attributes["cartesian_site_positions"], dtype=np.float64).reshape(-1, 3)
        species = {one["name"]: one for one in attributes.get("species") or ()}
        symbols = [_symbol(name, species.get(name)) for name in attributes["species_at_sites"]]
    except CrystalError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CrystalError("unparsable", f"not an OPTIMADE structure: {type(error).__name__}: {error}") from error
    check_lattice(lattice)
    return make_crystal(lattice, np.linalg.solve(lattice.T, positions.T).T, [atomic_number(one) for one in symbols])


def _symbol(name: str, species: Mapping[str, Any] | None) -> str:
    """Returns the symbol of the one element at a site."""
    if species is None:
        return name
    symbols, shares = species["chemical_symbols"], species.get("concentration") or [1.0]
    if len(symbols) != 1 or symbols[0] == "vacancy" or abs(shares[0] - 1) > 1e-6:
        raise CrystalError("disordered", f"species {name!r} is {' and '.join(symbols)}; give an ordered structure")
    return str(symbols[0])
