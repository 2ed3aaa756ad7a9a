"""The state of a batch of crystals between noise and data."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Crystals between noise and data; or their velocity, noise or score.

    types: elements, without columns in crystal structure prediction; coords: fractional, in [0, 1); lattice: six
    numbers or three row vectors, depending on the model.
    """

    types: Float[Tensor, "batch atoms types"]
    coords: Float[Tensor, "batch atoms 3"]
    lattice: Float[Tensor, "batch *lattice"]
