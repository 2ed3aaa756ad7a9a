import os
import subprocess
import sys
import time
from multiprocessing import active_children

import pytest

from xtalgen.runtime.parallel import Failure, _end_kept, available_cores, map_in_chunks, map_items, progress_bar

state = {"offset": 0}


def set_offset(offset):
    state["offset"] = offset


def work(item):
    if item == "crash":
        os._exit(7)
    if item == "hang":
        time.sleep(600)
    if item == "raise":
        raise ValueError("boo")
    if item == "pid":
        return os.getpid()
    if item == "threads":
        return [pool["num_threads"] for pool in threadpools()]
    if isinstance(item, float):
        time.sleep(item)
    return item if isinstance(item, float) else item + state["offset"]


def threadpools():
    import numpy as np  # noqa: F401 - its thread pool is the one asked for
    from threadpoolctl import threadpool_info

    return threadpool_info()


def run(items, *, workers=2, timeout=20.0, **options):
    return list(map_items(work, items, workers=workers, timeout=timeout, label="test", **options))


@pytest.mark.parametrize(("workers", "timeout"), [(1, None), (1, 20.0), (2, None), (2, 20.0)])
def test_results_come_in_order_with_the_initializer_run(workers, timeout):
    try:
        assert run([1, 2, 3], workers=workers, timeout=timeout, initializer=set_offset, initargs=(10,)) == [11, 12, 13]
    finally:
        state["offset"] = 0


def test_slow_items_do_not_overtake():
    assert run([0.4, 0.0, 0.1, 0.0]) == [0.4, 0.0, 0.1, 0.0]


def test_nothing_to_do():
    assert run([]) == []
    assert run([], workers=1, timeout=None) == []


def test_one_worker_without_limit_stays_in_this_process():
    assert run(["pid"], workers=1, timeout=None) == [os.getpid()]
    assert run(["pid"], workers=1) != [os.getpid()]


@pytest.mark.parametrize(("workers", "timeout"), [(1, None), (2, 20.0)])
def test_an_item_that_raises_is_a_failure(workers, timeout):
    assert run([1, "raise", 2], workers=workers, timeout=timeout) == [1, Failure("error", "ValueError: boo"), 2]


def test_an_item_that_kills_its_process_costs_itself_only():
    first, crashed, last = run([1, "crash", 2], workers=1)
    assert (first, last) == (1, 2)
    assert crashed == Failure("crash", "worker process died (exit code 7)")


def test_an_item_that_hangs_costs_itself_only():
    started = time.monotonic()
    first, hung, last = run([1, "hang", 2], workers=1, timeout=3.0)
    assert (first, last) == (1, 2)
    assert hung == Failure("timeout", "no result within 3.0 s")
    assert time.monotonic() - started < 60


def test_the_limit_counts_from_the_start_of_an_item_not_from_its_scheduling():
    assert run([1.0] * 5, workers=1, timeout=3.5) == [1.0] * 5


def test_an_abandoned_iteration_ends_its_workers():
    _end_kept()
    results = map_items(work, [1, *["hang"] * 100], workers=1, timeout=60.0, label="test")
    assert next(results) == 1
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 5
    assert not active_children()


def test_processes_stay_for_the_next_call_and_are_replaced_when_they_die():
    first = {*run(["pid", "pid", 0.3, 0.3, "pid", "pid"], workers=1)} - {0.3}
    assert {*run(["pid"], workers=1)} == first
    run(["crash"], workers=1)
    assert {*run(["pid", 1], workers=1)} - {1} != first
    assert run(["pid"], workers=1, initializer=set_offset, initargs=(1,)) != list(first), "an initializer needs its own"


def test_workers_use_one_thread():
    threads, _ = run(["threads", 1])
    assert set(threads) == {1}


def test_available_cores():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_quiet_when_standard_error_is_no_terminal(capfd):
    assert run([1, 2], workers=1, timeout=None) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_a_lack_of_memory_between_the_processes_is_an_error_and_no_wait_for_ever(monkeypatch):
    def fail(*_):
        raise MemoryError("no more")

    monkeypatch.setattr("pebble.pool.process.PoolManager.process_next_message", fail)
    with pytest.raises(MemoryError, match="no more"):
        list(map_items(abs, [-1, -2], workers=1, timeout=60.0, label="test"))


def _die_at_seven(item):
    if item == 7:
        os._exit(3)
    if item == 9:
        raise ValueError("nine")
    return item


@pytest.mark.slow
def test_an_item_of_a_chunk_costs_itself_only():
    with progress_bar("x", 40) as bar:
        found = list(map_in_chunks(_die_at_seven, range(40), workers=1, timeout=60.0, bar=bar))
    assert [one for one in found if not isinstance(one, Failure)] == [*range(7), 8, *range(10, 40)]
    assert [one.kind for one in found if isinstance(one, Failure)] == ["crash", "error"]


KILLED = """
import os, time
from pathlib import Path
from xtalgen.runtime.parallel import map_items

def work(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(300)

if __name__ == "__main__":
    list(map_items(work, ["PATH"], workers=2, timeout=None, label="work"))
"""


def test_workers_end_with_the_process_that_started_them(root, tmp_path):
    """A killed job would otherwise go on computing beside its successor."""
    (tmp_path / "killed.py").write_text(KILLED.replace("PATH", str(tmp_path / "pid")))
    parent = subprocess.Popen([sys.executable, tmp_path / "killed.py"], env={**os.environ, "PYTHONPATH": f"{root}/src"})
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    worker = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while running(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(worker)


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
