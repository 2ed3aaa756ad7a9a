"""A tiny language model of crystals: its settings, how to train it and to sample from it."""

from dataclasses import replace

from random_crystals import random_crystals
from xtalgen.models import crystal_text_llm
from xtalgen.models.crystal_text_llm import CrystalTextConfig
from xtalgen.models.language.dataset import TextData
from xtalgen.models.language.decoding import TextSampling
from xtalgen.models.language.prompts import Mixture
from xtalgen.models.language.tokenizer import own_vocabulary
from xtalgen.training.job import Job

SMALL = {"hidden": 16, "layers": 2, "heads": 2, "epochs": 2, "batch_size": 4, "warmup_steps": 2, "learning_rate": 1e-2}
SCRATCH = CrystalTextConfig(base="scratch", **SMALL)
CRYSTALS = [replace(crystal, info={}) for crystal in random_crystals(9, seed=5, sizes=(1, 2, 3))]
SIZE = len(own_vocabulary())


def train(folder, crystals=CRYSTALS, **changes):
    config = CrystalTextConfig(**{**SMALL, "base": "scratch", **changes})
    job = Job("dng", 0, folder / "work", folder / "out")
    crystal_text_llm.Model().train(crystals, CRYSTALS[:3], config, job)
    return folder / "out"


def sample(checkpoint, wanted, seed=0, **settings):
    settings = {"max_new_tokens": 120, "max_tries": 1, **settings}
    return list(crystal_text_llm.Model().sample(checkpoint, wanted, TextSampling(**settings), seed, "cpu"))


def data(vocabulary=None, crystals=CRYSTALS, longest=2048, **info):
    crystals = [replace(crystal, info=info) for crystal in crystals]
    return TextData(crystals, vocabulary or own_vocabulary(), Mixture(), longest=longest, batch_size=4, device="cpu")
