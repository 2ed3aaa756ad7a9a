"""Errors for users: one line that names the remedy. Bugs of the package keep their traceback."""

import contextlib
import errno
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from xtalgen.runtime.dates import set_to_now

JOB = "XTALGEN_JOB"  # set by the workflow for its jobs
PACKAGE = Path(__file__).parents[1]
REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space and run again; finished work is kept.",
    errno.EDQUOT: "Your quota is used up: free some space and run again; finished work is kept.",
    errno.EROFS: "It is mounted read-only: have it mounted for writing, or run elsewhere (snakemake --directory).",
    errno.EACCES: "You may not read or write it: change its permissions, or run elsewhere (snakemake --directory).",
    errno.EPERM: "You may not read or write it: change its permissions, or run elsewhere (snakemake --directory).",
    errno.EIO: "The disk cannot be read or written: look at the file system, then run again.",
    errno.EMFILE: "Too many files are open: raise the limit (ulimit -n), or use fewer threads.",
}
# What a job, and what a command, can do about too little memory.
MEMORY_OF_JOB = (
    "Give the job more (`mem_mb` of the rule under set-resources in the profile), or lower its batch size or threads"
)
MEMORY = (
    "Raise the limit (ulimit -v; of a job `mem_mb` of its rule), use fewer processes (--workers of xtalgen score), or "
    "give fewer structures at once"
)
# Libraries that come with an extra of the package, by module or distribution.
EXTRAS = {
    "accelerate": "language",
    "gguf": "language",
    "peft": "language",
    "transformers": "language",
    "chgnet": "relax",
    "e3nn": "relax",
    "mace": "relax",
    "mace-torch": "relax",
    "chemiscope": "explorer",
    "umap": "explorer",
    "matplotlib": "workflow",
    "snakemake": "workflow",
}
# How libraries say it: PyTorch, the C library, the dynamic linker, C++, threads that find no room for their stack.
SIGNS_OF_MEMORY = ("out of memory", "allocate memory", "failed to map segment", "bad_alloc", "can't start new thread")


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Ends the program with a single line `error: …` when the block fails in a way that a user can fix.

    Other exceptions are bugs of the package: their traceback is printed before that line. Inside, the package's log
    goes to standard error. In a job of the workflow, files on the command line that are dated in the future are dated
    now, before and after the block: Snakemake deletes what a job made when an input is newer.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger(PACKAGE.name).setLevel(logging.INFO)
    files = sys.argv[1:] if JOB in os.environ else []
    try:
        set_to_now(files)
        yield
        with contextlib.suppress(OSError):
            set_to_now(files)  # the clock may have been set back meanwhile
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
    if isinstance(error, MemoryError) or any(words in text.lower() for words in SIGNS_OF_MEMORY):
        return _explain_memory(error)
    if isinstance(error, OSError) and error.errno in REMEDIES:
        # Where the file is not known, the text may name it and the operation (pyarrow's does).
        where = (
            f"{error.filename}: {error.strerror}" if error.filename else text.removeprefix(f"[Errno {error.errno}] ")
        )
        return f"{where}. {REMEDIES[error.errno]}"
    if isinstance(error, ImportError) and (extra := EXTRAS.get(str(error.name).partition(".")[0])):
        return f"{error.name} is not installed. Install it with xtalgen's extra: pip install 'xtalgen[{extra}]'."
    ours = type(error).__module__.partition(".")[0] == PACKAGE.name
    if ours or (isinstance(error, ValueError | RuntimeError | TypeError | OSError) and _raised_here(error)):
        return text
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}."
    return None


def _explain_memory(error: Exception) -> str:
    remedy = MEMORY_OF_JOB if JOB in os.environ else MEMORY
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024:,} MB in memory"  # Linux counts kB
    allowed = "" if limit == resource.RLIM_INFINITY else f", of {limit // 1024**2:,} MB that may be addressed"
    why = f"{type(error).__name__}: {str(error).strip() or 'no details'}; this process had {used}{allowed}"
    return f"Out of memory. {remedy}, then run again; finished work is kept. ({why})"


def _raised_here(error: Exception) -> bool:
    """Whether the package raised the exception itself, with a message of its own, rather than a library."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return last is not None and Path(last.filename).is_relative_to(PACKAGE) and "raise" in (last.line or "raise")
