"""Tensors of generated crystals in .pt files: read as data, refused where they hold anything else."""

import argparse
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from xtalgen.io.readers.tensors import read_tensors
from xtalgen.stages.import_structures import read_structures

GOOD = {
    "frac_coords": np.array([[0, 0, 0], [0.5, 0.5, 0.5], [1.25, -0.25, 0]], dtype=np.float32),
    "atom_types": np.array([11, 17, 29]),
    "num_atoms": np.array([2, 1]),
    "lengths": np.array([[4.0, 4, 4], [2.5, 2.5, 2.5]], dtype=np.float32),
    "angles": np.array([[90.0, 90, 90], [60, 60, 60]], dtype=np.float32),
}
TENSORS = {name: torch.from_numpy(array) for name, array in GOOD.items()}


class Evil:
    """A pickle of it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def save(path, content, **how):
    torch.save(content, path, **how)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_crystals_are_those_of_the_same_arrays(tmp_path, legacy):
    # As DiffCSP's script writes it, with its options.
    content = TENSORS | {"eval_setting": argparse.Namespace(model_path="x"), "time": 1.5}
    file = save(tmp_path / "mine.pt", content, _use_new_zipfile_serialization=not legacy)
    np.savez(tmp_path / "mine.npz", **GOOD)
    for one, other in zip(read_structures(file, 1), read_structures(tmp_path / "mine.npz", 1), strict=True):
        assert (one.id, one.status, one.info) == (other.id, other.status, other.info)
        np.testing.assert_array_equal(one.lattice, other.lattice)
        np.testing.assert_array_equal(one.frac_coords, other.frac_coords)
        np.testing.assert_array_equal(one.atomic_numbers, other.atomic_numbers)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_no_code_of_a_file_is_run(tmp_path, how):
    marker = tmp_path / "marker"
    file = tmp_path / "mine.pt"
    if how == "pickle":
        file.write_bytes(pickle.dumps(Evil(marker)))
    else:
        save(file, TENSORS | {"evil": Evil(marker)}, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ValueError, match=r"mine\.pt: such a file can run code .*numpy\.savez"):
        read_structures(file, 1)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists(), "the file of this test could do nothing"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no array 'frac_coords'; there are none"),
        ({"frac_coords": TENSORS["frac_coords"]}, "no array 'atom_types'; there are frac_coords"),
        (TENSORS | {"num_atoms": torch.tensor([2, 2])}, "frac_coords has 3 atoms, num_atoms adds up to"),
        (TENSORS | {"lengths": "long"}, "no array 'lengths'"),
    ],
)
def test_wrong_content_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_structures(save(tmp_path / "mine.pt", content), 1)


def test_damaged_files_are_refused():
    buffer = io.BytesIO()
    torch.save(TENSORS, buffer)
    for raw in (buffer.getvalue()[:-40], b"PK nonsense", buffer.getvalue()[:50]):
        with pytest.raises(ValueError, match=r"not a readable \.pt|can run code"):
            list(read_tensors(raw, "cut.pt"))
