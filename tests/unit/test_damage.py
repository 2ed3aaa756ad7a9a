"""A flipped bit in a file that passes from stage to stage is never taken for data."""

import numpy as np
import pytest
import torch

from xtalgen.crystals import ContractError, Crystal, read_table, to_table, write_table
from xtalgen.training.checkpoint import CheckpointError, load_checkpoint, load_state, save_checkpoint, save_state

STEP = 23


def damages(path):
    """Yields once for each of many places of a file, with one bit flipped there."""
    whole = path.read_bytes()
    for place in range(0, len(whole), STEP):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        yield
    path.write_bytes(whole)


def test_tables(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "t.parquet"
    rows = [
        Crystal(str(i), "ok", generator.random((3, 3)), generator.random((4, 3)), np.full(4, i % 90 + 1, np.uint8))
        for i in range(50)
    ]
    write_table(to_table(rows), path)
    table, refused = read_table(path), 0
    for _ in damages(path):
        try:
            assert read_table(path).equals(table)
        except ContractError:
            refused += 1
    assert refused > 50
    assert read_table(path).equals(table)


def test_checkpoints(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    weights = {"one": torch.randn(40, 7), "half": torch.randn(11).bfloat16(), "count": torch.tensor(3)}
    save_checkpoint(path, weights, {"model": "toy"})
    refused = 0
    for _ in damages(path):
        try:
            found, facts = load_checkpoint(path, "cpu")
        except CheckpointError:
            refused += 1
        else:
            assert facts == {"contract": "checkpoint/1", "model": "toy"}
            assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert refused > 40
    assert load_checkpoint(path, "cpu")[1] == {"contract": "checkpoint/1", "model": "toy"}


def test_states_of_unfinished_trainings(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, {"weights": torch.arange(300), "epoch": 3})
    refused = 0
    for _ in damages(path):
        try:
            found = load_state(path, torch.device("cpu"))
        except CheckpointError:
            refused += 1
        else:
            assert found["epoch"] == 3
            assert torch.equal(found["weights"], torch.arange(300))
    assert refused > 40


@pytest.mark.parametrize("kept", [0, 1, 100])
def test_files_that_were_cut_off(tmp_path, kept):
    path = tmp_path / "t"
    for write, read, error in (
        (lambda: save_state(path, {"epoch": 3}), lambda: load_state(path, torch.device("cpu")), CheckpointError),
        (
            lambda: save_checkpoint(path, {"one": torch.ones(9)}, {}),
            lambda: load_checkpoint(path, "cpu"),
            CheckpointError,
        ),
        (lambda: write_table(to_table([Crystal("a", "lost")]), path), lambda: read_table(path), ContractError),
    ):
        write()
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(error):
            read()
