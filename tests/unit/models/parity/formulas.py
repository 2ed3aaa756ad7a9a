"""Weights and inputs by formula, for comparisons with other programs that need the same ones: no random numbers.

`exactly` computes a module in float64, so that the comparison sees more than the rounding of float32.
"""

import math

import numpy as np
import torch

from xtalgen.training.batches import Batch, mask_of

SIZES, WIDTH = (2, 3, 1), 4
NUMBERS = ((8, 26), (3, 8, 22), (79,))
LENGTHS = ((4.0, 4.5, 5.25), (3.5, 5.0, 6.75), (2.875, 2.875, 2.875))
ANGLES = ((90.0, 100.0, 110.0), (75.0, 82.5, 97.5), (62.0, 61.0, 60.5))


def wave(*shape, phase=0):
    """Returns sin(phase + 0.7 i) for i = 0, 1, … in the given shape, in float64."""
    return torch.sin(phase + 0.7 * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape)


def inside(*shape, phase=0):
    """Returns numbers in (0, 1)."""
    return 0.5 + 0.49 * wave(*shape, phase=phase)


def fill(module):
    """Sets the parameters, in their order: 1.5 wave / √(inputs), vectors 0.3 wave, on 1 for a norm's scale."""
    with torch.no_grad():
        for phase, (name, value) in enumerate(module.named_parameters()):
            if value.ndim > 1:
                value.copy_(1.5 / value.shape[-1] ** 0.5 * wave(*value.shape, phase=phase))
            else:
                value.copy_((1.0 if name.endswith("norm.weight") else 0.0) + 0.3 * wave(*value.shape, phase=phase))
    return module


def exactly(module):
    """Returns the module in float64, with the constants of its network beyond the precision of float32."""
    module.double()
    if hasattr(module.network, "waves"):
        module.network.waves = 2 * torch.pi * torch.arange(len(module.network.waves), dtype=torch.float64)
    if hasattr(module, "rates"):
        half = len(module.rates)
        module.rates = torch.exp(-np.log(10_000.0) * torch.arange(half, dtype=torch.float64) / (half - 1))
    return module


def crystals():
    """Returns three crystals, of two, three and one atom, padded to four."""
    from xtalgen.models.manifolds.lattices import lattice_from_parameters

    mask = mask_of(torch.tensor(SIZES), WIDTH)
    numbers = torch.zeros(3, WIDTH, dtype=torch.int64)
    for row, known in enumerate(NUMBERS):
        numbers[row, : len(known)] = torch.tensor(known)
    lengths, angles = (torch.tensor(values, dtype=torch.float64) for values in (LENGTHS, ANGLES))
    coords = inside(3, WIDTH, 3, phase=5) * mask.unsqueeze(-1)
    return Batch(coords, numbers, mask, lattice_from_parameters(lengths, angles), lengths, angles)


class Script:
    """Draws by formula in place of random numbers: the k-th draw of a width is wave(shape, phase = 10 width + k)."""

    def __init__(self, make=wave):
        self.make, self.drawn = make, {}

    def __call__(self, *shape, **_):
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        number = self.drawn[shape[-2:]] = self.drawn.get(shape[-2:], -1) + 1
        return self.make(*shape, phase=10 * shape[-1] + number)
