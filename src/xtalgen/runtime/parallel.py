"""Maps a function over items in worker processes: ordered results, a time limit per item, tolerance of crashes."""

import atexit
import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing import popen_spawn_posix, spawn
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from pebble import ProcessExpired, ProcessPool
from threadpoolctl import threadpool_limits
from tqdm import tqdm

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


CHUNK = 32  # items that go to a process together


@dataclass(frozen=True)
class Failure:
    """The reason why an item has no result. kind: "timeout", "crash" (the process died) or "error" (it raised)."""

    kind: str
    message: str


def map_items(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int,
    timeout: float | None,
    label: str,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
    bar: "tqdm[Any] | None" = None,
) -> Iterator[Any]:
    """Yields one result per item, in order; a Failure where the function raised, timed out or its process died.

    function: a picklable module-level function. timeout: seconds per item, None for no limit. Each worker process runs
    on one thread, which is fastest for small crystals. Shows a progress bar named `label` when standard error is a
    terminal, or moves `bar` on, which belongs to the caller. With one worker and no timeout the work is done in this
    process. Processes without an initializer are kept for the next call, to avoid repeated imports.
    """
    with contextlib.nullcontext(bar) if bar is not None else progress_bar(label, len(items)) as shown:
        if workers == 1 and timeout is None:
            if initializer:
                initializer(*initargs)
            for item in items:
                yield _attempt(function, item)
                shown.update()
            return
        if not items:
            return
        script = _is_in_script(function)
        pool = _kept.pop(workers, None) if initializer is None and not script else None
        if pool is None or not pool.active:  # it fails where its processes could not be started again
            pool = _new_pool(workers, initializer, initargs, script=script)
        finished = False
        _deaths.clear()
        try:
            futures = [pool.schedule(function, args=(item,), timeout=timeout) for item in items]
            for future in futures:
                _await(future)
                yield _outcome(future, timeout)
                shown.update()
            finished = True
        finally:
            if finished and initializer is None and not script and workers not in _kept:
                _kept[workers] = pool
            elif _deaths:
                _abandon(pool)
            else:
                _end(pool)


def map_in_chunks(
    function: Callable[[Any], Any], items: Sequence[Any], *, workers: int, timeout: float | None, bar: "tqdm[Any]"
) -> Iterator[Any]:
    """Yields what `map_items` does, once all is done, with less traffic between processes: for items of milliseconds.

    `CHUNK` items go to a process together, within the time limit of one. Where it runs out or the process dies, they go
    again one by one, so that an item costs itself only. `bar` is moved on.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    how: dict[str, Any] = {"workers": workers, "timeout": timeout, "label": "", "bar": tqdm(disable=True)}
    results = []
    for chunk, result in zip(chunks, map_items(partial(_attempt_each, function), chunks, **how), strict=True):
        results.append(result)
        bar.update(len(chunk))
    for chunk, result in zip(chunks, results, strict=True):
        yield from map_items(function, chunk, **how) if isinstance(result, Failure) else result


def progress_bar(label: str, total: int | None = None) -> "tqdm[Any]":
    """Returns a progress bar of crystals on standard error, shown at once; quiet where that is no terminal."""
    return tqdm(total=total, desc=label, disable=not sys.stderr.isatty(), unit="crystal")


# Idle pools without initializer, by their number of workers.
_kept: dict[int, ProcessPool] = {}


def _new_pool(
    workers: int, initializer: Callable[..., None] | None, initargs: tuple[Any, ...], *, script: bool
) -> ProcessPool:
    threading.excepthook = _note
    context = multiprocessing.get_context("spawn") if script else _Context()
    return ProcessPool(max_workers=workers, context=context, initializer=_start, initargs=(initializer, initargs))


def _is_in_script(function: Any) -> bool:
    """Whether a function, or one that it calls, is defined in the main module, which workers must then import."""
    parts = (function, getattr(function, "func", None), *getattr(function, "args", ()))
    return any(getattr(part, "__module__", None) == "__main__" for part in parts)


class _Popen(popen_spawn_posix.Popen):
    """Starts a process that does not import the main module again.

    A user's script that calls the package would otherwise run once more in every worker.
    """

    method = "spawn"

    def _launch(self, process_obj: Any) -> None:
        with _launching:
            prepare = spawn.get_preparation_data
            spawn.get_preparation_data = lambda name: {
                key: value for key, value in prepare(name).items() if not key.startswith("init_main")
            }
            try:
                super()._launch(process_obj)  # type: ignore[misc]  # not in its stubs
            finally:
                spawn.get_preparation_data = prepare


_launching = threading.Lock()


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name that the standard library calls
        return _Popen(process_obj)


class _Context(SpawnContext):
    Process = _Process


# What killed threads that pass tasks and results between the processes: mostly a lack of memory.
_deaths: list[BaseException] = []
_hook = threading.excepthook
WATCH = 1.0  # seconds between two looks at them


def _note(args: threading.ExceptHookArgs) -> None:
    of_pool = args.thread is not None and args.thread.name.endswith("_loop)")
    if of_pool and args.exc_value is not None:
        _deaths.append(args.exc_value)
    else:
        _hook(args)


def _await(future: Future[Any]) -> None:
    """Waits for a result. Raises what killed the thread that would bring it."""
    while not wait([future], timeout=WATCH).done:
        if _deaths:
            raise _deaths[0]


def _abandon(pool: ProcessPool) -> None:
    """Ends the processes of a pool whose threads cannot do so."""
    threading.Thread(target=pool.stop, daemon=True).start()
    for process in multiprocessing.active_children():
        process.kill()


def _end(pool: ProcessPool) -> None:
    # Leaving the pool's `with` block would start a process for each waiting item.
    pool.stop()
    pool.join()


@atexit.register
def _end_kept() -> None:
    while _kept:
        _end(_kept.popitem()[1])


def available_cores() -> int:
    """Returns the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """Ends this worker process when the one that started it is gone, however it ended: nobody waits for the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _start(initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(THREADS, "1"))  # for libraries that are imported later
    threadpool_limits(1)  # for those that are already loaded
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if initializer:
        initializer(*initargs)


def _attempt(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except Exception as error:  # noqa: BLE001 - a broken crystal is data, whatever it raises
        return Failure("error", f"{type(error).__name__}: {error}")


def _attempt_each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    return [_attempt(function, item) for item in items]


def _outcome(future: Any, timeout: float | None) -> Any:
    try:
        return future.result()
    except (TimeoutError, CancelledError):
        return Failure("timeout", f"no result within {timeout} s")
    except ProcessExpired as error:
        return Failure("crash", f"worker process died (exit code {error.exitcode})")
    except Exception as error:  # noqa: BLE001 - as above
        return Failure("error", f"{type(error).__name__}: {error}")
