"""Files that are no files of crystals: each is told in one line, fast and without being loaded whole."""

import gzip
import time
import tracemalloc

import numpy as np
import pytest

from xtalgen.io.folders import check_structure_file
from xtalgen.io.structure_files import FORMATS, find_suffix, iterate_entries, parse_entry

LOREM = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.\n"
BY_LINE = sorted(suffix for suffix, form in FORMATS.items() if not form.binary and form.limit is None)
WHOLE = sorted(suffix for suffix, form in FORMATS.items() if form.limit is not None)
TEXTS = sorted(suffix for suffix, form in FORMATS.items() if not form.binary)


def rows(path):
    """Returns the statuses of a file's rows; ValueError of a file that is wrong as a whole passes."""
    return [parse_entry(entry).status for entry in iterate_entries(path)]


def outcome(path):
    """Returns the statuses of a file's rows, and the message where the file is refused."""
    found = []
    try:
        found.extend(parse_entry(entry).status for entry in iterate_entries(path))
    except ValueError as error:
        return found, str(error)
    return found, None


def test_every_suffix_is_found_and_none_of_these_files_is_there(tmp_path):
    for suffix in FORMATS:
        assert find_suffix(tmp_path / f"mine{suffix}") == suffix
        with pytest.raises(FileNotFoundError, match="there is no such file"):
            check_structure_file(tmp_path / f"mine{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_empty_files(tmp_path, suffix, content):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    message = "is empty" if not content or suffix in TEXTS else f"mine{suffix}: "
    with pytest.raises(ValueError, match=message) as caught:
        rows(path)
    assert "weights_only" not in str(caught.value)  # torch's advice to run the file's code


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("n_bytes", [1, 1000, 200_000])
def test_binary_rubbish(tmp_path, suffix, n_bytes):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(np.random.default_rng(n_bytes).bytes(n_bytes))
    found, refused = outcome(path)
    assert "ok" not in found
    assert refused is None or (f"mine{suffix}" in refused and len(refused) < 500)


@pytest.mark.parametrize("suffix", TEXTS)
def test_packed_binary_rubbish(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}.gz"
    path.write_bytes(gzip.compress(bytes(10_000) + np.random.default_rng(0).bytes(10_000)))
    with pytest.raises(ValueError, match="holds NUL bytes, so it is no text"):
        rows(path)


def peak_of(path):
    """Returns the largest memory (bytes) and the seconds until a file is refused."""
    tracemalloc.start()
    started = time.perf_counter()
    found, refused = outcome(path)
    memory, seconds = tracemalloc.get_traced_memory()[1], time.perf_counter() - started
    tracemalloc.stop()
    assert "ok" not in found
    assert path.name in refused
    assert len(refused) < 500
    return memory, seconds


@pytest.mark.parametrize("suffix", BY_LINE)
def test_a_large_text_is_refused_by_its_beginning(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    path.write_text(LOREM * 400_000)  # 40 MB, 2 MB of which are looked at
    memory, seconds = peak_of(path)
    assert memory < 16_000_000
    assert seconds < 20  # one on an idle machine


@pytest.mark.parametrize("suffix", WHOLE)
def test_what_is_read_as_a_whole_has_a_limit(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    with path.open("wb") as file:
        file.truncate(FORMATS[suffix].limit + 1)  # takes no room on the disk
    memory, seconds = peak_of(path)
    assert memory < 1_000_000
    assert seconds < 5


@pytest.mark.parametrize("suffix", BY_LINE)
def test_a_line_without_an_end(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr("xtalgen.io.streams.MAX_LINE", 5_000_000)
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(b"x" * 60_000_000)
    memory, _ = peak_of(path)
    assert memory < 32_000_000


def test_the_longest_line_that_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("xtalgen.io.streams.MAX_LINE", 1000)
    monkeypatch.setattr("xtalgen.io.streams.PIECE", 300)
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{'a' * 800}\n" * 5)
    assert rows(path) == ["unparsable"] * 5
    path.write_text(f"b\n{'a' * 1700}\nb\n")
    with pytest.raises(ValueError, match=r"mine\.jsonl: has a line of more than 1000 bytes"):
        rows(path)


def test_lines_that_are_no_json_are_rows_where_some_line_is(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("{}\n" + LOREM * 1200)
    assert rows(path) == ["unparsable"] * 1201
    path.write_text(LOREM * 1200)
    with pytest.raises(ValueError, match="none of its first 1,000 lines is JSON"):
        rows(path)
