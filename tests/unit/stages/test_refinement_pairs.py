"""Pairs of crystals and predictions, and the flow that learns from them."""

from dataclasses import replace

import numpy as np
import pytest

from random_crystals import random_crystals
from xtalgen.crystals import ContractError, Crystal, read_crystals, to_table, write_table
from xtalgen.models.flow_matching.riemannian_flow import RiemannianFlow, fit_constants
from xtalgen.models.flowllm import FlowLLMConfig, FlowLLMSampling, Model
from xtalgen.models.manifolds.lattices import angles_to_logit
from xtalgen.stages.refinement_pairs import match_order, write_refinement_pairs
from xtalgen.training.batches import DeviceData
from xtalgen.training.job import Job

TARGETS = random_crystals(6, seed=4, sizes=(2, 3))


def predictions():
    made = []
    for i, target in enumerate(TARGETS):
        turned = np.arange(target.n_atoms)[::-1]
        made.append(
            Crystal(
                f"made-{i}",
                "ok",
                np.eye(3) * (i + 4),
                target.frac_coords[turned] * 0.9,
                target.atomic_numbers[turned],
                {"target_id": target.id},
            )
        )
    made[1] = Crystal("made-1", "unparsable", info={"target_id": TARGETS[1].id})
    made[2] = replace(made[2], atomic_numbers=made[2].atomic_numbers + np.uint8(1))
    return made


def write(crystals, path):
    import pyarrow as pa

    write_table(to_table(crystals, {"target_id": pa.string()}), path, dataset="random")
    return path


def test_pairs_follow_the_order_of_the_target(tmp_path):
    split, predicted = write(TARGETS, tmp_path / "split.parquet"), write(predictions(), tmp_path / "made.parquet")
    write_refinement_pairs(split, predicted, out=tmp_path / "pairs.parquet")
    rows = read_crystals(tmp_path / "pairs.parquet")
    assert [row.status for row in rows] == ["ok", "unparsable", "wrong_composition", "ok", "ok", "ok"]
    for place in (0, 3, 4, 5):
        target, row = TARGETS[place], rows[place]
        assert row.atomic_numbers.tolist() == target.atomic_numbers.tolist()
        np.testing.assert_array_equal(row.lattice, target.lattice)
        np.testing.assert_allclose(np.reshape(row.info["base_frac_coords"], (-1, 3)), target.frac_coords * 0.9)
        np.testing.assert_allclose(np.reshape(row.info["base_lattice"], (3, 3)), np.eye(3) * (place + 4))


def test_equal_atoms_keep_their_order():
    order = match_order(np.array([8, 26, 8, 26], dtype=np.uint8), np.array([26, 26, 8, 8], dtype=np.uint8))
    assert order.tolist() == [1, 3, 0, 2]
    assert match_order(np.array([8, 8], dtype=np.uint8), np.array([8, 26], dtype=np.uint8)) is None
    assert match_order(np.array([8, 8], dtype=np.uint8), np.array([8], dtype=np.uint8)) is None


def test_a_prediction_for_nothing_is_refused(tmp_path):
    made = [replace(predictions()[0], info={"target_id": "mp-0"})]
    split, predicted = write(TARGETS, tmp_path / "split.parquet"), write(made, tmp_path / "made.parquet")
    with pytest.raises(ContractError, match=r"row 'made-0' has target_id 'mp-0', which is not in .*split"):
        write_refinement_pairs(split, predicted, out=tmp_path / "pairs.parquet")


def test_paths_begin_at_the_base_structures():
    import torch

    from xtalgen.models.flowllm import _starts

    batch = DeviceData(TARGETS, "cpu", _starts).buckets[0]
    flow = RiemannianFlow("csp", fit_constants(TARGETS), hidden=8, layers=1, frequencies=2)
    start = flow.start(batch, torch.Generator().manual_seed(0))
    for row, target in enumerate(TARGETS):
        coords = np.reshape(target.info["base_frac_coords"], (-1, 3))
        np.testing.assert_allclose(start.coords[row, : len(coords)], coords, atol=1e-6)
        lengths = np.linalg.norm(np.reshape(target.info["base_lattice"], (3, 3)), axis=1)
        np.testing.assert_allclose(start.lattice[row, :3], lengths, rtol=1e-5)
    right_angle = angles_to_logit(torch.tensor(90.0)).item()
    assert torch.allclose(start.lattice[:, 3:], torch.tensor(right_angle), atol=1e-4)


def test_crystals_without_a_base_structure_are_counted_not_trained_on(tmp_path):
    crystals = [*TARGETS, replace(TARGETS[0], info={})]
    config = FlowLLMConfig(epochs=1, hidden=8, layers=1, frequencies=2)
    Model().train(crystals, TARGETS, config, Job("dng", 0, tmp_path / "work", tmp_path / "out"))
    assert '"no base structure": 1' in (tmp_path / "out/training.json").read_text()


def test_the_flow_learns_to_mend_its_base(tmp_path):
    """Base structures are the crystals with noise; after ten seconds of training less of it is left."""
    rng = np.random.default_rng(0)
    crystals = random_crystals(1, seed=1, sizes=(4,)) * 32

    def noisy(crystal):
        coords = (crystal.frac_coords + 0.05 * rng.standard_normal((4, 3))) % 1.0
        info = {"base_lattice": (crystal.lattice * 1.1).ravel(), "base_frac_coords": coords.ravel()}
        return replace(crystal, info=info)

    config = FlowLLMConfig(
        epochs=400, batch_size=32, hidden=32, layers=2, frequencies=8, learning_rate=4e-3, val_every=50
    )
    pairs = [noisy(crystal) for crystal in crystals]
    Model().train(pairs, pairs[:8], config, Job("dng", 0, tmp_path / "work", tmp_path / "out"))
    starts = [
        replace(
            start,
            lattice=np.reshape(start.info["base_lattice"], (3, 3)),
            frac_coords=np.reshape(start.info["base_frac_coords"], (4, 3)),
        )
        for start in (noisy(crystal) for crystal in crystals[:8])
    ]
    made = list(Model().sample(tmp_path / "out/checkpoint.safetensors", starts, FlowLLMSampling(steps=20), 0, "cpu"))

    def errors(found):
        # The flow moves atoms relative to each other, not as a whole.
        shifts = [(c.frac_coords - crystals[0].frac_coords + 0.5) % 1.0 - 0.5 for c in found]
        lengths = [np.linalg.norm(c.lattice, axis=1) / np.linalg.norm(crystals[0].lattice, axis=1) for c in found]
        return np.mean([np.abs(s - s.mean(axis=0)).mean() for s in shifts]), np.mean(np.abs(np.array(lengths) - 1))

    before, after = errors(starts), errors(made)
    assert after[0] < 0.6 * before[0]
    assert after[1] < 0.5 * before[1]


def test_numbers_and_compositions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="give those of the base run with --starts"):
        list(Model().sample(tmp_path / "checkpoint", 3, FlowLLMSampling(), 0, "cpu"))
