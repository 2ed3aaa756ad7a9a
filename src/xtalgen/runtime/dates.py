"""Files that are dated in the future: copied from another machine, or written before a clock was set back."""

import contextlib
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)


class DateError(OSError):
    """A file is dated in the future and its date cannot be changed; the message names it and the remedy."""


def set_to_now(words: Iterable[str]) -> None:
    """Sets the dates of those words of a command line that are files dated in the future to now; logs each.

    Raises DateError where that is not permitted.
    """
    for path in map(Path, words):
        found = False
        with contextlib.suppress(OSError, ValueError):  # a word that is no path
            found = path.is_file() and max(path.stat().st_mtime, path.lstat().st_mtime) > time.time()
        if found:
            _renew(path)


def _renew(path: Path) -> None:
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(path.stat().st_mtime, path.lstat().st_mtime)))
    try:
        os.utime(path)
        if path.is_symlink():
            os.utime(path, follow_symlinks=False)
    except OSError as error:
        raise DateError(
            f"{path}: dated in the future ({date}), and its date cannot be changed ({error.strerror}). Snakemake would "
            "delete what is made from it. Give a copy of your own (cp), and look at the clock of this machine."
        ) from error
    log.warning("%s: was dated in the future (%s); its date is now", path, date)
