"""Crystals as steps for training: each once in an epoch, little padding, what cannot be written counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from real_crystals import described
from xtalgen.crystals import Crystal
from xtalgen.models.orbits.dataset import OrbitData, load_orbits
from xtalgen.models.orbits.steps import Groups

CRYSTALS = described(30)
GROUPS = Groups.seen([crystal.info["wyckoff"] for crystal in CRYSTALS])
DATA = OrbitData(CRYSTALS, GROUPS, "cpu")


def volumes(batches):
    """The first number of each crystal's cell, which identifies the crystal."""
    return sorted(
        float(row[(kind == 2)][0]) for batch in batches for row, kind in zip(batch.value, batch.kind, strict=True)
    )


def test_every_epoch_has_every_crystal_once_in_another_order():
    first, again, other = (list(DATA.epoch(4, (0, epoch))) for epoch in (0, 0, 1))
    assert sum(map(len, first)) == len(DATA) == len(CRYSTALS)
    assert volumes(first) == volumes(other) == volumes(DATA.batches(4))
    assert all(torch.equal(a.value, b.value) for a, b in zip(first, again, strict=True))
    assert not all(
        a.value.shape == b.value.shape and torch.equal(a.value, b.value) for a, b in zip(first, other, strict=True)
    )
    rest = list(DATA.epoch(4, (0, 0), skip=2))
    assert all(torch.equal(a.value, b.value) for a, b in zip(first[2:], rest, strict=True))
    assert len(DATA.plan(4)) == len(first)
    assert max(map(len, first)) <= 4


def test_sizes_count_steps_and_elements():
    assert DATA.sizes().sum() == sum(int(b.mask.sum() + (b.counts > 0).sum()) for b in DATA.buckets)
    padded = DATA.padded_sizes()
    assert len(padded) == len(DATA)
    assert DATA.sizes().sum() <= padded.sum() < 1.6 * DATA.sizes().sum()


def test_the_digest_knows_the_description():
    changed = {**CRYSTALS[0].info["wyckoff"]}
    changed["cell"] = [*changed["cell"][:-1], changed["cell"][-1] + 1.0]
    other = [replace(CRYSTALS[0], info={"wyckoff": changed}), *CRYSTALS[1:]]
    assert OrbitData(CRYSTALS, GROUPS, "cpu").digest == DATA.digest
    assert OrbitData(other, GROUPS, "cpu").digest != DATA.digest


def test_what_cannot_be_written_is_counted():
    described_not = replace(CRYSTALS[0], info={"wyckoff": None})
    broken = Crystal("broken", "unparsable")
    numbers = {crystal.info["wyckoff"]["spg_num"] for crystal in CRYSTALS[:3]}
    unknown = next(crystal for crystal in CRYSTALS if crystal.info["wyckoff"]["spg_num"] not in numbers)
    split, groups = load_orbits([*CRYSTALS[:3], described_not, broken], [CRYSTALS[0], unknown], "cpu")
    assert split.left_out == {
        "train": {"no Wyckoff positions": 1, "status unparsable": 1},
        "val": {"Wyckoff position that the training set lacks": 1},
    }
    assert len(split.train), len(split.val) == (3, 1)
    assert {group.spg_num for group in groups} == numbers


def test_a_set_without_descriptions_is_refused():
    with pytest.raises(ValueError, match="none of its 1 crystals can be trained on"):
        load_orbits([replace(CRYSTALS[0], info={})], CRYSTALS[:1], "cpu")


def test_long_crystals_do_not_pad_short_ones():
    lengths = [bucket.kind.shape[1] for bucket in DATA.buckets]
    assert lengths == sorted(lengths)
    for bucket in DATA.buckets:
        assert bucket.kind.shape[1] - int(bucket.mask.sum(dim=1).min()) < 8
        assert np.all(bucket.mask.sum(dim=1).numpy() >= 1)
