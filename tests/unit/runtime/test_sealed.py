"""Whatever happens to a file of a cache, it is made again with a warning."""

import pytest

from xtalgen.runtime.sealed import keep, seal, unseal

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
