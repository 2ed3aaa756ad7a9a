"""Random crystals for tests of networks: no chemistry, but every shape that occurs."""

import numpy as np

from xtalgen.crystals import Crystal
from xtalgen.lattice import lattice_from_parameters


def random_crystals(n: int, seed: int = 0, sizes: tuple[int, ...] = (1, 2, 3, 5, 8, 9)) -> list[Crystal]:
    """Returns n crystals whose atom counts run through `sizes`; cell angles are 70° to 110°, lengths 3 to 7 Å.

    Each is paired with a structure to start from, for models with `needs_base`.
    """
    rng, other = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    crystals = []
    for i in range(n):
        n_atoms = sizes[i % len(sizes)]
        crystals.append(
            Crystal(
                id=f"random-{i}",
                lattice=lattice_from_parameters(rng.uniform(3, 7, 3), rng.uniform(70, 110, 3)),
                frac_coords=rng.random((n_atoms, 3)),
                atomic_numbers=rng.integers(1, 95, n_atoms).astype(np.uint8),
                info={
                    "base_lattice": lattice_from_parameters(other.uniform(3, 7, 3), np.full(3, 90.0)).ravel().tolist(),
                    "base_frac_coords": other.random(3 * n_atoms).tolist(),
                },
            )
        )
    return crystals
