"""Rock salt, and crystals without a description by Wyckoff positions."""

from dataclasses import replace

import numpy as np

from xtalgen.crystals import Crystal

BROKEN = Crystal("broken", "unparsable")
SALT = Crystal("salt", "ok", 2.8 * (1.0 - np.eye(3)), np.array([[0.0] * 3, [0.5] * 3]), np.array([11, 17], np.uint8))


def doubled(given):
    """Returns the supercell of two cells along a."""
    coords = np.concatenate([given.frac_coords, given.frac_coords + np.eye(3)[0]]) / [2.0, 1.0, 1.0]
    numbers = np.tile(given.atomic_numbers, 2)
    return replace(given, lattice=given.lattice * [[2], [1], [1]], frac_coords=coords, atomic_numbers=numbers)


NOT_DESCRIBED = {
    "overlap": replace(SALT, id="overlap", frac_coords=np.zeros((2, 3))),
    "doubled": replace(doubled(SALT), id="doubled"),
}
