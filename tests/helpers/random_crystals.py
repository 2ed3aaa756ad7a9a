"""Random crystals for tests of networks: no chemistry, but every shape that occurs."""

from typing import Any

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.structure.lattice import lattice_from_parameters
from xtalgen.structure.wyckoff_positions import ELEMENT_RANK


def random_crystals(n: int, seed: int = 0, sizes: tuple[int, ...] = (1, 2, 3, 5, 8, 9)) -> list[Crystal]:
    """Returns n crystals whose atom counts run through `sizes`; cell angles are 70° to 110°, lengths 3 to 7 Å.

    Each is paired with a structure to start from, for models with `needs_base`, and says its Wyckoff positions: all "a"
    of space group 1.
    """
    rng, other = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    crystals = []
    for i in range(n):
        n_atoms = sizes[i % len(sizes)]
        cell = (rng.uniform(3, 7, 3), rng.uniform(70, 110, 3))
        coords, numbers = rng.random((n_atoms, 3)), rng.integers(1, 95, n_atoms).astype(np.uint8)
        crystals.append(
            Crystal(
                id=f"random-{i}",
                lattice=lattice_from_parameters(*cell),
                frac_coords=coords,
                atomic_numbers=numbers,
                info={
                    "wyckoff": _without_symmetry(np.concatenate(cell), coords, numbers),
                    "base_lattice": lattice_from_parameters(other.uniform(3, 7, 3), np.full(3, 90.0)).ravel().tolist(),
                    "base_frac_coords": other.random(3 * n_atoms).tolist(),
                },
            )
        )
    return crystals


def _without_symmetry(cell: np.ndarray, coords: np.ndarray, numbers: np.ndarray) -> dict[str, Any]:
    order = sorted(range(len(numbers)), key=lambda atom: ELEMENT_RANK[int(numbers[atom])])
    return {
        "spg_num": 1,
        "generators": "",
        "cell": cell.tolist(),
        "atomic_numbers": numbers[order].tolist(),
        "letters": "a" * len(order),
        "multiplicities": [1] * len(order),
        "forms": ["x,y,z"] * len(order),
        "free": coords[order].ravel().tolist(),
    }
