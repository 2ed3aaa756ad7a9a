"""A tiny language model of crystals, and a tiny Llama as a base for adapters that needs no download."""

from dataclasses import replace

import torch

from random_crystals import random_crystals
from xtalgen.models import crystal_text_llm
from xtalgen.models.crystal_text_llm import CrystalTextConfig
from xtalgen.models.language.dataset import TextData
from xtalgen.models.language.decoding import TextSampling
from xtalgen.models.language.prompts import Mixture
from xtalgen.models.language.tokenizer import END, UNKNOWN, own_vocabulary
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


def save_base(folder, seed=0, pad=None):
    """Writes a tiny Llama with a tokenizer, as the Hugging Face hub keeps them."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = own_vocabulary()
    torch.manual_seed(seed)
    shape = LlamaConfig(vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False,
                        bos_token_id=None, eos_token_id=vocabulary.end)  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary.tokenizer, eos_token=END, unk_token=UNKNOWN, pad_token=pad,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return str(folder)
