"""Random crystals for tests of networks: no chemistry, but every shape that occurs."""

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.lattice import lattice_from_parameters


def random_crystals(n: int, seed: int = 0, sizes: tuple[int, ...] = (1, 2, 3, 5, 8, 9)) -> list[Crystal]:
    """Returns n crystals whose atom counts run through `sizes`; cell angles are 70° to 110°, lengths 3 to 7 Å."""
    rng = np.random.default_rng(seed)
    crystals = []
    for i in range(n):
        n_atoms = sizes[i % len(sizes)]
        crystals.append(
            Crystal(
                id=f"random-{i}",
                lattice=lattice_from_parameters(rng.uniform(3, 7, 3), rng.uniform(70, 110, 3)),
                frac_coords=rng.random((n_atoms, 3)),
                atomic_numbers=rng.integers(1, 95, n_atoms).astype(np.uint8),
            )
        )
    return crystals
