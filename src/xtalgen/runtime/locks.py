"""A work folder belongs to one process at a time: a job whose workflow was killed may still be alive."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class BusyError(RuntimeError):
    """Another process is at work in a folder; the message names it and the remedy."""


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Keeps other processes out of a work folder while the block runs; a killed process lets go by itself.

    Where the file system has no locks the block runs unguarded. Raises BusyError when another process holds the folder.
    """
    work.mkdir(parents=True, exist_ok=True)
    path = work / ".lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise BusyError(
                f"{work}: {owner} is at work here. Wait until it has ended, or end it, then run again."
            ) from None
        except OSError:  # no locks on this file system
            yield
            return
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        work.rmdir()  # when nothing else is in it
