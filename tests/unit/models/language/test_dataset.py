"""Crystals as texts for training: drawn anew in every epoch, whole, with their end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tiny_language import CRYSTALS, data
from xtalgen.models.language.dataset import load_texts
from xtalgen.models.language.prompts import Mixture
from xtalgen.models.language.tokenizer import own_vocabulary


def test_every_epoch_draws_other_texts_of_all_crystals():
    texts = data()
    first, again, other = (list(texts.epoch(4, (0, 0, epoch))) for epoch in (0, 0, 1))
    assert sum(len(batch) for batch in first) == len(texts) == 9
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first, again, strict=True))
    assert sorted(map(str, (row for batch in first for row in batch.ids))) != sorted(
        map(str, (row for batch in other for row in batch.ids))
    )
    rest = list(texts.epoch(4, (0, 0, 0), skip=2))
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(first[2:], rest, strict=True))
    assert len(texts.plan(4)) == len(first)


def test_batches_hold_whole_texts_with_their_end():
    texts = data()
    for batch in texts.batches(4):
        for ids, mask in zip(batch.ids, batch.mask, strict=True):
            assert ids[mask][-1] == texts.vocabulary.end
            assert (ids[~mask] == texts.vocabulary.pad).all()
            assert mask.int().diff().abs().sum() <= 1
    assert texts.sizes().sum() <= texts.padded_sizes().sum()
    assert len(texts.padded_sizes()) == 9


def test_parts_of_a_batch_are_the_same_texts():
    batch = next(data().batches(9))
    part = batch.take(torch.tensor([0, 1]))
    assert part.ids.shape[1] == part.mask.sum(-1).max() < batch.ids.shape[1]
    for row in (0, 1):
        assert torch.equal(part.ids[row][part.mask[row]], batch.ids[row][batch.mask[row]])


def test_long_texts_are_cut():
    assert data(longest=20).sizes().max() == 20


def test_the_digest_knows_properties():
    assert data(band_gap=1.0).digest == data(band_gap=1.0).digest != data(band_gap=2.0).digest


def test_unwritable_crystals_are_counted():
    long = replace(CRYSTALS[0], lattice=np.diag([150.0, 4.0, 4.0]))
    split = load_texts([*CRYSTALS, long], CRYSTALS[:2], own_vocabulary(), Mixture(), longest=99, batch_size=2,
                       device="cpu")  # fmt: skip
    assert split.left_out["train"] == {"bad_lattice": 1}
    with pytest.raises(ValueError, match="val: none of its 1 crystals can be trained on"):
        load_texts(CRYSTALS, [long], own_vocabulary(), Mixture(), longest=99, batch_size=2, device="cpu")
