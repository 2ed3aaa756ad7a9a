"""Locks on work folders: one process at a time, since a job may outlive the workflow that started it."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class BusyError(RuntimeError):
    """Another process uses a work folder; the message names it and the remedy."""


@contextlib.contextmanager
def alone(work: Path) -> Iterator[None]:
    """Locks a work folder while the block runs; the lock is freed when the process dies.

    Where the file system has no locks, the block runs without one. Raises BusyError when another process holds it.
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
                f"{work}: {owner} is using this folder. Wait until it ends, or end it, then run again."
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
        work.rmdir()  # only if it is empty
