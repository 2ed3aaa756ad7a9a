"""Whatever happens to a file of a cache, it is made again with a warning."""

import json
import zipfile

import numpy as np
import pytest

from xtalgen.explorer.projection import UmapConfig, project
from xtalgen.models.language import base_model
from xtalgen.potentials import mace
from xtalgen.relaxation import runner
from xtalgen.relaxation.in_flight import Outcome, RelaxConfig
from xtalgen.runtime.atomic import keep, seal, unseal
from xtalgen.runtime.resume import map_resumably

VALUES = [["key", 0.1, None], {"ä": float("inf"), "n": 3}]


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def emptied(_):
    return b""


@pytest.mark.parametrize("place", range(60))
def test_a_flipped_bit_of_a_line(place):
    line = seal(VALUES)
    assert unseal(line) == VALUES
    damaged = bytearray(line.encode())
    damaged[place % len(damaged)] ^= 4
    with pytest.raises(ValueError, match="checksum"):
        unseal(damaged.decode(errors="replace"))


@pytest.mark.parametrize("harm", [cut, flipped, emptied])
def test_a_damaged_file_is_made_again(tmp_path, caplog, harm):
    path, made = tmp_path / "folder/kept", []

    def make(out):
        made.append(out)
        out.write_bytes(b"a content that takes hours")

    assert keep(path, make) == keep(path, make) == path
    assert len(made) == 1
    path.write_bytes(harm(path.read_bytes()))
    assert keep(path, make).read_bytes() == b"a content that takes hours"
    assert len(made) == 2
    assert f"{path}: damaged, its checksum differs from the stored one; it is made again" in caplog.text
    keep(path, make)
    assert len(made) == 2


def test_a_file_of_another_contract_or_without_checksum(tmp_path, caplog):
    path = tmp_path / "kept"
    keep(path, lambda out: out.write_text("old"))

    def check(found):
        if found.read_text() == "old":
            raise ValueError(f"{found}: contract is 'old'")

    keep(path, lambda out: out.write_text("new"), check)
    assert path.read_text() == "new"
    assert f"{path}: contract is 'old'; it is made again" in caplog.text
    (tmp_path / "kept.sha256").unlink()
    keep(path, lambda out: out.write_text("newer"), check)
    assert path.read_text() == "newer"


def damage(path):
    """Changes one digit of a text, or one bit in the middle of other content."""
    content = bytearray(path.read_bytes())
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()]
    content[digits[-1] if path.suffix.startswith(".json") else len(content) // 2] ^= 1
    path.write_bytes(content)


def test_energies_of_a_damaged_line_are_computed_again(tmp_path, caplog):
    file, outcome = tmp_path / "a.jsonl", Outcome(status="ok", energy=-1.25)
    runner._append(file, "one", outcome)
    runner._append(file, "two", outcome)
    limits = RelaxConfig(0.05, 1, None)
    assert runner._read_store(tmp_path, limits) == {"one": outcome, "two": outcome}
    damage(file)
    assert runner._read_store(tmp_path, limits) == {"one": outcome}
    assert f"{file}: 1 lines are damaged" in caplog.text
    plain = json.dumps(["old", {"status": "ok", "energy": -1.25}])
    (tmp_path / "b.jsonl").write_text(plain + "\n")  # as earlier versions wrote it
    assert set(runner._read_store(tmp_path, limits)) == {"one", "old"}


def test_a_changed_digit_in_a_finished_part_is_noticed(tmp_path, caplog):
    def run():
        options = {"work": tmp_path, "key": "k", "workers": 1, "timeout": None, "label": "test"}
        return map_resumably(abs, [-3.5, 4.25], **options)

    whole = run()
    (part,) = tmp_path.glob("part-*.json")
    damage(part)
    assert run() == whole
    assert f"{part}: damaged; computed again" in caplog.text


@pytest.mark.parametrize(
    "harm", [damage, lambda path: path.write_bytes(cut(path.read_bytes())), lambda path: path.write_bytes(b"")]
)
def test_positions_on_the_map_are_computed_again(tmp_path, caplog, harm):
    descriptors = np.random.default_rng(0).normal(size=(9, 4))
    points, components = project(descriptors, UmapConfig(), tmp_path)
    (kept,) = tmp_path.glob("*.npz")
    harm(kept)
    again, more = project(descriptors, UmapConfig(), tmp_path)
    assert np.array_equal(points, again)
    assert np.array_equal(components, more)
    assert f"{kept}: damaged" in caplog.text


def test_a_damaged_foundation_model_is_noticed(tmp_path):
    file = tmp_path / "mace.model"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data/0", bytes(range(256)) * 40)
    assert mace._is_whole(file)
    damage(file)
    assert not mace._is_whole(file)
    for content in (b"", file.read_bytes()[:100]):
        file.write_bytes(content)
        assert not mace._is_whole(file)


def test_a_damaged_conversion_of_a_base_model_is_removed(tmp_path, caplog):
    out = tmp_path / "base"
    out.mkdir()
    weights = out / "model.safetensors"
    weights.write_bytes(b"weights")
    (out / "done.json").write_text(json.dumps({"file": "x", "sha256": {weights.name: base_model.file_sum(weights)}}))
    assert base_model._is_whole(out)
    weights.write_bytes(b"weighty")
    assert not base_model._is_whole(out)
    assert not out.exists()
    assert f"{out}: damaged; it is converted again" in caplog.text
