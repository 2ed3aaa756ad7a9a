"""Dense padded data on the device: buckets, order, padding, and what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from random_crystals import random_crystals
from xtalgen.training.batches import DeviceData, bucket_ceiling, load_split, mix_seed, select


@pytest.mark.parametrize(("n", "ceiling"), [(1, 4), (4, 4), (5, 8), (20, 20), (21, 28), (28, 28), (29, 36), (52, 52)])
def test_bucket_ceilings(n, ceiling):
    assert bucket_ceiling(n) == ceiling


def test_padding_holds_the_crystals():
    crystals = random_crystals(7)
    data = DeviceData(crystals, "cpu")
    batches = list(data.batches(100))
    assert [batch.mask.shape for batch in batches] == [(4, 3), (2, 8), (1, 9)] or len(batches) == 3
    seen = 0
    for batch in batches:
        for row in range(len(batch)):
            n = int(batch.mask[row].sum())
            numbers = batch.atomic_numbers[row, :n].numpy()
            match = next(crystal for crystal in crystals if np.array_equal(crystal.atomic_numbers, numbers))
            np.testing.assert_allclose(batch.frac_coords[row, :n], match.frac_coords, atol=1e-7)
            np.testing.assert_allclose(batch.lattice[row], match.lattice, rtol=1e-6, atol=1e-6)
            assert not batch.atomic_numbers[row, n:].any()
            assert not batch.frac_coords[row, n:].any()
            seen += 1
    assert seen == 7


def test_a_bucket_is_padded_to_its_largest_crystal_only():
    batch = next(DeviceData(random_crystals(4, sizes=(5,)), "cpu").batches(10))
    assert batch.mask.shape == (4, 5)
    assert batch.mask.all()


@pytest.mark.parametrize("batch_size", [1, 3, 8, 1000])
def test_an_epoch_holds_every_crystal_once(batch_size):
    data = DeviceData(random_crystals(53), "cpu")
    lengths = [float(x) for batch in data.epoch(batch_size, (0, 1)) for x in batch.lengths[:, 0]]
    everything = [float(x) for bucket in data.buckets for x in bucket.lengths[:, 0]]
    assert sorted(lengths) == sorted(everything)
    assert all(len(batch) <= batch_size for batch in data.epoch(batch_size, (0, 1)))


def test_no_batch_is_a_small_rest():
    data = DeviceData(random_crystals(33, sizes=(2,)), "cpu")
    assert sorted(len(batch) for batch in data.epoch(16, (0,))) == [11, 11, 11]


def test_order_depends_on_the_seed_alone_and_can_be_joined_in_the_middle():
    data = DeviceData(random_crystals(40), "cpu")

    def order(*seed, skip=0):
        return [batch.lengths[:, 0].tolist() for batch in data.epoch(4, seed, skip)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2, skip=3) == order(1, 2)[3:]


def test_seeds_are_mixed():
    assert len({mix_seed(a, b) for a in range(20) for b in range(20)}) == 400
    assert 0 <= mix_seed(7) < 2**63
    torch.Generator().manual_seed(mix_seed(7))


def test_unusable_crystals_are_counted_by_reason():
    good = random_crystals(2)
    broken = [
        replace(good[1], status="unparsable", lattice=None, frac_coords=None, atomic_numbers=None),
        replace(good[1], atomic_numbers=np.array([3, 118], dtype=np.uint8)),
        replace(good[1], frac_coords=np.full((2, 3), np.nan)),
        replace(good[1], lattice=np.zeros((3, 3))),
        random_crystals(1, sizes=(101,))[0],
    ]
    kept, left_out = select([*good, *broken], lambda crystal: "single atom" if crystal.n_atoms == 1 else None)
    assert [crystal.id for crystal in kept] == ["random-1"]
    assert left_out == {
        "atomic number outside 1 to 100": 1,
        "cell without volume": 1,
        "geometry not finite": 1,
        "more than 100 atoms": 1,
        "single atom": 1,
        "status unparsable": 1,
    }


def test_a_set_without_usable_crystals_says_why():
    broken = replace(random_crystals(1)[0], status="unparsable")
    with pytest.raises(ValueError, match=r"val: none of its 1 crystals can be trained on \(1 status unparsable\)"):
        load_split(random_crystals(2), [broken], "cpu")


def test_digest_tells_data_sets_apart():
    crystals = random_crystals(5)
    assert DeviceData(crystals, "cpu").digest == DeviceData(crystals, "cpu").digest
    assert DeviceData(crystals, "cpu").digest != DeviceData(crystals[::-1], "cpu").digest
