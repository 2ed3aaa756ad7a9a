"""Snakemake's progress in one line a job: `snakemake --logger xtalgen`.

A plugin by name and interface of Snakemake (snakemake-interface-logger-plugins), so it cannot lie in the package. Needs
`src` on Python's path (`PYTHONPATH=src`, as `make demo` sets it) or xtalgen installed.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

# What Snakemake tells without an event, and people want to read.
TOLD = ("Nothing to be done",)
ERRORS = (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)


class LogHandler(LogHandlerBase):
    """Prints a line for each finished job, errors in full, and in a terminal what is running.

    Where the environment has CI, a line for each tenth of the jobs. Dry runs look as usual.
    """

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = False  # Snakemake's own: errors with their log look as usual
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Prepares the counts; starts the clock of the status line where a person looks at it."""
        self.stream = sys.stdout if self.common_settings.stdout else sys.stderr
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.sparse = bool(os.environ.get("CI")) and not self.live
        self.begun: float | None = None
        self.jobs: dict[int, tuple[str, float]] = {}  # running: what, since when
        self.finished: list[tuple[str, float]] = []  # not yet told: what, seconds
        self.tenths = 0
        self.text = threading.RLock()
        self.closed = threading.Event()
        if self.live:
            threading.Thread(target=self._tick, daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Prints what a record says, if people want to read it."""
        event = getattr(record, "event", None)
        facts = record.__dict__
        if self.common_settings.dryrun:
            if event is not LogEvent.SHELLCMD or self.common_settings.printshellcmds:
                self._print(self.format(record))
        elif event is LogEvent.JOB_INFO:
            self.begun = self.begun or time.monotonic()
            self.jobs[facts["jobid"]] = (name_of(facts["rule_name"], facts["wildcards"] or {}), time.monotonic())
        elif event is LogEvent.JOB_FINISHED:
            what, since = self.jobs.pop(facts["job_id"], ("", time.monotonic()))
            self.finished.append((what, time.monotonic() - since))
        elif event is LogEvent.PROGRESS:
            self._tell_progress(facts["done"], facts["total"])
        elif event in ERRORS or (event is None and self._wanted(record)):
            self._print(self.format(record))

    def close(self) -> None:
        """Ends the status line."""
        self.closed.set()
        self._clear()
        super().close()

    def _wanted(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or str(record.msg).startswith(TOLD)

    def _tell_progress(self, done: int, total: int) -> None:
        left = remaining(time.monotonic() - (self.begun or time.monotonic()), done, total)
        for place, (what, seconds) in enumerate(self.finished, start=done - len(self.finished) + 1):
            tenth = 10 * place // total
            if not self.sparse or tenth > self.tenths or place == total:
                self._print(f"{place:>4}/{total} {place / total:>4.0%}  {left:<14}  {what:<40} {duration(seconds):>7}")
            self.tenths = tenth
        self.finished.clear()

    def _print(self, text: str) -> None:
        with self.text:
            self._clear()
            if text and text != "None":
                self.stream.write(f"{text}\n")
                self.stream.flush()

    def _clear(self) -> None:
        if self.live:
            self.stream.write("\r\033[K")
            self.stream.flush()

    def _tick(self) -> None:
        """Says every second what is running, in one line that the next one replaces."""
        while not self.closed.wait(1.0):
            now = time.monotonic()
            running = [f"{what} {duration(now - since)}" for what, since in list(self.jobs.values())]
            if running:
                with self.text:
                    line = f"      running: {', '.join(running)}"[: terminal_width() - 1]
                    self.stream.write(f"\r\033[K{line}")
                    self.stream.flush()


def name_of(rule: str, wildcards: Mapping[str, Any]) -> str:
    """Returns a job's stage and what it is about, such as "train flowmm/dng"."""
    about = "/".join(str(value) for value in wildcards.values())
    return f"{rule} {about}".strip()


def remaining(elapsed: float, done: int, total: int) -> str:
    """Returns how long the other jobs will take if they are like the finished ones; elapsed in seconds."""
    return "done" if done >= total else f"{duration(elapsed / max(1, done) * (total - done))} left"


def duration(seconds: float) -> str:
    """Returns a time in words: "9 s", "4 min", "2.5 h"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def terminal_width() -> int:
    """Returns how many characters fit into a line."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
