"""The undisturbed run, copies of it to disturb, and the one line that is printed for each fault."""

import shutil
import sys
import time
from pathlib import Path

import pytest

from drill import Place, results

LINES: list[str] = []


class Report:
    """Prints one line for each fault: its name, what came of it, and the seconds that it took."""

    def __init__(self) -> None:
        self.since = time.monotonic()

    def __call__(self, fault: str, outcome: str, seconds: float | None = None) -> None:
        passed, self.since = time.monotonic() - self.since, time.monotonic()
        seconds = passed if seconds is None else seconds
        line = f"{len(LINES) + 1:3}. {fault}: {outcome} ({seconds:.1f} s)"
        LINES.append(line)
        print(f"\n{line}" if len(LINES) == 1 else line, file=sys.__stdout__, flush=True)


@pytest.fixture
def report():
    return Report()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Returns the folder of the undisturbed run and its results."""
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    started = time.monotonic()
    place.run()
    print(f"\nundisturbed run: {time.monotonic() - started:.1f} s", file=sys.__stdout__, flush=True)
    return place.folder, results(place.folder)


@pytest.fixture
def copy(undisturbed, tmp_path):
    """Returns a finished experiment that may be disturbed."""
    shutil.copytree(undisturbed[0], tmp_path / "copy", symlinks=True)
    return Place(tmp_path / "copy")


@pytest.fixture
def reference(undisturbed):
    return undisturbed[1]


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{len(LINES)} faults, each survived or refused with one line")


def pytest_collection_modifyitems(items):
    folder = Path(__file__).parent
    for item in items:
        if item.path.parent == folder:
            item.add_marker(pytest.mark.slow)
