import pytest

from xtalgen.runtime.parallel import Failure
from xtalgen.runtime.resume import clear, content_key, map_resumably

CALLS = []


def tenth(number):
    CALLS.append(number)
    if number % 50 == 7:
        raise ValueError(f"no {number}")
    return [number / 10, None]


def run(work, items, key="key"):
    CALLS.clear()
    options = {"work": work, "key": key, "workers": 1, "timeout": None, "label": "test"}
    return map_resumably(tenth, items, **options)


def test_killed_work_goes_on_where_it_stopped(tmp_path, caplog):
    caplog.set_level("INFO")
    items = list(range(250))
    whole = run(tmp_path / "whole", items)
    assert whole[7] == Failure("error", "ValueError: no 7")

    class Killed(BaseException):
        pass

    class Kill:
        def __mod__(self, _):
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "work", [*items[:130], Kill(), *items[131:]])
    again = run(tmp_path / "work", items)
    assert again == whole
    assert len(CALLS) == 150
    assert CALLS[0] == 100
    assert "resumes after 100 of 250" in caplog.text


def test_parts_of_another_configuration_are_refused(tmp_path, caplog):
    caplog.set_level("INFO")
    run(tmp_path, list(range(150)), key="one")
    run(tmp_path, list(range(150)), key="two")
    assert len(CALLS) == 150
    assert "another input or configuration" in caplog.text


def test_a_part_that_was_cut_off_is_made_again(tmp_path, caplog):
    caplog.set_level("INFO")
    whole = run(tmp_path, list(range(150)))
    part = tmp_path / "part-00000100.json"
    part.write_bytes(part.read_bytes()[:-9])
    assert run(tmp_path, list(range(150))) == whole
    assert len(CALLS) == 50
    assert "part-00000100.json: damaged; computed again" in caplog.text


def test_clear_leaves_other_files_alone(tmp_path):
    run(tmp_path / "work", [1, 2])
    (tmp_path / "work" / "mine.txt").write_text("x")
    clear(tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["mine.txt"]
    run(tmp_path / "other", [1])
    clear(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    clear(tmp_path / "never")


def test_key_depends_on_contents_and_settings(tmp_path):
    file = tmp_path / "a"
    file.write_text("x")
    first = content_key(file, limit=None)
    assert first == content_key(file, limit=None)
    assert first != content_key(file, limit=1)
    file.write_text("y")
    assert first != content_key(file, limit=None)
