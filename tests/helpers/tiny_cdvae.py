"""A tiny CDVAE for tests, with random weights, and random crystals for it."""

from dataclasses import asdict

import torch

from random_crystals import random_crystals
from xtalgen.models.cdvae import CDVAEConfig, build
from xtalgen.models.diffusion.annealed_langevin import CDVAESampling
from xtalgen.models.diffusion.vae import CrystalVAE, fit_constants
from xtalgen.training.batches import Batch, DeviceData

LATENT = 6
TINY = {"hidden": 8, "triplet": 4, "latent": LATENT, "encoder_blocks": 1, "decoder_blocks": 1, "bonds": "radius"}
CRYSTALS = random_crystals(5, seed=5, sizes=(1, 3, 4))
FAST = CDVAESampling(levels=2, steps=2)


def tiny(task: str = "dng", crystals=CRYSTALS, **changes) -> CrystalVAE:
    """Returns a module of TINY's size; its encoder does not start at 0, as after some training."""
    torch.manual_seed(1)
    config = CDVAEConfig(**{**TINY, **changes})
    made = build(task, fit_constants(crystals, config.property), asdict(config))
    for output in made.encoder.outputs:
        torch.nn.init.normal_(output.last.weight, std=0.1)
    return made


def batch_of(crystals=CRYSTALS, extra=None) -> Batch:
    """Returns crystals as one batch."""
    (batch,) = DeviceData(crystals, "cpu", *([extra] if extra else [])).buckets
    return batch


def generator(seed: int = 0) -> torch.Generator:
    """Returns a generator on the CPU."""
    return torch.Generator().manual_seed(seed)
