"""What a user reads when a stage fails: one line that names the remedy. Our own mistakes keep their traceback."""

import contextlib
import errno
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space and run again; what is finished is kept.",
    errno.EDQUOT: "Your quota is used up: free some space and run again; what is finished is kept.",
    errno.EROFS: "It is mounted read-only: have it mounted for writing, or run in another folder (--directory).",
    errno.EACCES: "You may not read or write it: change its permissions, or run in another folder (--directory).",
    errno.EPERM: "You may not read or write it: change its permissions, or run in another folder (--directory).",
    errno.EIO: "The disk cannot be read or written: look at the file system, then run again.",
    errno.EMFILE: "Too many files are open: raise the limit (ulimit -n), or use fewer threads.",
}
MEMORY = (
    "Out of memory. Give the job more (`mem_mb` of the rule under set-resources in the profile), or lower its batch "
    "size or threads, then run again; what is finished is kept."
)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Ends the program with `error: …` in one line when the block fails in a way that a user can mend.

    Other exceptions are mistakes of the program: their traceback is printed before that line.
    """
    try:
        yield
    except KeyboardInterrupt:
        # 130, as shells count it: 128 and the number of the signal.
        print("stopped by Ctrl-C; what is finished is kept: run the same command again to go on", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        told = explain(error)
        if told is None:
            traceback.print_exc()
            told = f"{type(error).__name__}: {error}. This is a mistake of xtalgen: please report it with these lines."
        raise SystemExit("error: " + " ".join(told.split())) from error


def explain(error: Exception) -> str | None:
    """Returns what to tell a user about an exception, remedy included; None when it is a mistake of the program."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in ("out of memory", "can't allocate memory")):
        return f"{MEMORY} ({type(error).__name__}: {text.strip() or 'no more is known'})"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        # Where the file is not known the text says, at best, what was done to it (pyarrow's does).
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
    """Whether the package itself raised the exception, with words of its own, rather than a library."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return last is not None and Path(last.filename).is_relative_to(PACKAGE) and "raise" in (last.line or "raise")
