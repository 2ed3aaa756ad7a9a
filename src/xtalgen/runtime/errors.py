"""Errors for users: one line that names the remedy. Bugs of the package keep their traceback."""

import contextlib
import errno
import logging
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space and run again; finished work is kept.",
    errno.EDQUOT: "Your quota is used up: free some space and run again; finished work is kept.",
    errno.EROFS: "It is mounted read-only: have it mounted for writing, or run in another folder (--directory).",
    errno.EACCES: "You may not read or write it: change its permissions, or run in another folder (--directory).",
    errno.EPERM: "You may not read or write it: change its permissions, or run in another folder (--directory).",
    errno.EIO: "The disk cannot be read or written: look at the file system, then run again.",
    errno.EMFILE: "Too many files are open: raise the limit (ulimit -n), or use fewer threads.",
}
MEMORY = (
    "Out of memory. Give the job more (`mem_mb` of the rule under set-resources in the profile), or lower its batch "
    "size or threads, then run again; finished work is kept."
)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Ends the program with a single line `error: …` when the block fails in a way that a user can fix.

    Other exceptions are bugs of the package: their traceback is printed before that line. Inside, the package's log
    goes to standard error.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger(PACKAGE.name).setLevel(logging.INFO)
    try:
        yield
    except KeyboardInterrupt:
        # 130 by the convention of shells: 128 plus the number of the signal.
        print("stopped by Ctrl-C; finished work is kept: run the same command again to resume", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        message = explain(error)
        if message is None:
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}. This is a bug of xtalgen: please report it with these lines."
        raise SystemExit("error: " + " ".join(message.split())) from error


def explain(error: Exception) -> str | None:
    """Returns the message for the user, remedy included; None when the exception is a bug of the package."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in ("out of memory", "can't allocate memory")):
        return f"{MEMORY} ({type(error).__name__}: {text.strip() or 'no details'})"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        # Where the file is not known, the text may name it and the operation (pyarrow's does).
        where = (
            f"{error.filename}: {error.strerror}" if error.filename else text.removeprefix(f"[Errno {error.errno}] ")
        )
        return f"{where}. {REMEDIES[error.errno]}"
    ours = type(error).__module__.partition(".")[0] == PACKAGE.name
    if ours or (isinstance(error, ValueError | RuntimeError | TypeError | OSError) and _raised_here(error)):
        return text
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    return None


def _raised_here(error: Exception) -> bool:
    """Whether the package raised the exception itself, with a message of its own, rather than a library."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return last is not None and Path(last.filename).is_relative_to(PACKAGE) and "raise" in (last.line or "raise")
