"""Arrays of generated crystals in .npz files: read, broken rows kept, wrong files refused."""

import io

import numpy as np
import pytest

from xtalgen.io.readers.npz import read_arrays
from xtalgen.stages.import_structures import read_structures

GOOD = {
    "frac_coords": np.array([[0, 0, 0], [0.5, 0.5, 0.5], [1.25, -0.25, 0]], dtype=np.float32),
    "atom_types": np.array([11, 17, 29]),
    "num_atoms": np.array([2, 1]),
    "lengths": np.array([[4.0, 4, 4], [2.5, 2.5, 2.5]], dtype=np.float32),
    "angles": np.array([[90.0, 90, 90], [60, 60, 60]], dtype=np.float32),
}


def save(path, **changes):
    np.savez(path, **{key: value for key, value in (GOOD | changes).items() if value is not None})
    return path


def test_crystals_are_read(tmp_path):
    salt, copper = read_structures(save(tmp_path / "mine.npz"), 1)
    assert (salt.id, salt.status, salt.info["source_name"]) == ("mine-000000", "ok", "crystal 0")
    np.testing.assert_allclose(salt.lattice, np.eye(3) * 4, atol=1e-6)
    assert salt.atomic_numbers.tolist() == [11, 17]
    np.testing.assert_allclose(copper.frac_coords, [[0.25, 0.75, 0]])
    assert abs(np.linalg.det(copper.lattice)) == pytest.approx(2.5**3 / np.sqrt(2), rel=1e-6)


def test_axis_of_evaluations(tmp_path):
    single = read_structures(save(tmp_path / "one.npz", **{key: value[None] for key, value in GOOD.items()}), 1)
    assert [crystal.info["source_name"] for crystal in single] == ["crystal 0", "crystal 1"]
    twice = {key: np.stack([value, value]) for key, value in GOOD.items()}
    twice["lengths"][1] *= 2
    found = read_structures(save(tmp_path / "two.npz", **twice), 1)
    # Target by target, as predictions are paired.
    assert [crystal.n_atoms for crystal in found] == [2, 2, 1, 1]
    assert [round(float(crystal.lattice[2, 2]), 3) for crystal in found] == [4.0, 8.0, 2.5, 5.0]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"lengths": np.array([[np.nan, 4, 4], [2.5, 2.5, 2.5]])}, "bad_lattice"),
        ({"lengths": np.array([[-4.0, 4, 4], [2.5, 2.5, 2.5]])}, "bad_lattice"),
        ({"lengths": np.array([[0.005, 4, 4], [2.5, 2.5, 2.5]])}, "bad_lattice"),
        ({"angles": np.array([[10.0, 90, 150], [60, 60, 60]])}, "bad_lattice"),
        ({"frac_coords": np.array([[np.inf, 0, 0], [0.5, 0.5, 0.5], [0, 0, 0]])}, "unparsable"),
        ({"atom_types": np.array([0, 17, 29])}, "unknown_element"),
        ({"atom_types": np.array([300, 17, 29])}, "unknown_element"),
        ({"atom_types": np.array([11.5, 17, 29])}, "unknown_element"),
        ({"num_atoms": np.array([0, 3])}, "unparsable"),
    ],
)
def test_broken_crystals_keep_their_row(tmp_path, changes, status):
    found = read_structures(save(tmp_path / "mine.npz", **changes), 1)
    assert [crystal.status for crystal in found] == [status, "ok"]
    assert found[0].info["error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"angles": None}, "no array 'angles'; there are frac_coords"),
        ({"num_atoms": np.array([2, 2])}, "frac_coords has 3 atoms, num_atoms adds up to \\[4\\]"),
        ({"num_atoms": np.array([-1, 4])}, "no counts"),
        ({"lengths": np.ones((3, 3))}, "lengths has 3 crystals, num_atoms 2"),
        ({"atom_types": np.zeros((3, 100))}, "atom_types has 100 atoms"),
        ({"atom_types": np.array([{}, {}, {}])}, "pickled objects, which can run code"),
        ({key: value[:0] for key, value in GOOD.items()}, "no crystal found"),
        ({"atom_types": np.zeros((3, 2, 2))}, "atom_types has shape"),
    ],
)
def test_wrong_files_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"mine\.npz.*{message}"):
        read_structures(save(tmp_path / "mine.npz", **changes), 1)


def test_other_content_is_refused(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, **GOOD)
    for content, message in ((b"PK nonsense", "not a readable"), (b"\x93NUMPY", "not a .npz"), (b"", "is empty")):
        (tmp_path / "mine.npz").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_structures(tmp_path / "mine.npz", 1)
    with pytest.raises(ValueError, match="not a readable"):
        list(read_arrays(buffer.getvalue()[:-40], "cut.npz"))


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".npy"])
def test_pickles_are_refused_with_the_reason(tmp_path, suffix):
    (tmp_path / f"mine{suffix}").write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match=r"can run code when it is read.*numpy\.savez"):
        read_structures(tmp_path / f"mine{suffix}", 1)


def test_cells_may_be_given_as_lattices(tmp_path):
    vectors = np.array([np.eye(3) * 4.0, [[0, 2, 2], [2, 0, 2], [2, 2, 0.0]]])
    without = {"lengths": None, "angles": None}
    salt, copper = read_structures(save(tmp_path / "mine.npz", lattice=vectors, **without), 1)
    np.testing.assert_array_equal(copper.lattice, vectors[1])
    assert salt.atomic_numbers.tolist() == [11, 17]
    with pytest.raises(ValueError, match=r"lattice has shape \(2, 3\) of float64, expected \(n, 3, 3\) numbers"):
        read_structures(save(tmp_path / "flat.npz", lattice=vectors[:, 0], **without), 1)
