"""Where files are kept outside the working folder: caches, and data sets."""

import os
from pathlib import Path

VARIABLE = "XTALGEN_DATA"
DOWNLOADS = "downloads"


def user_cache() -> Path:
    """Returns the user's cache folder of xtalgen: in $XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xtalgen"


def data_root(configured: str | Path | None = None) -> Path:
    """Returns the folder of data sets: the configured one, or $XTALGEN_DATA, or `data` in the user's cache.

    A folder in it that is named after a data set holds the user's copy; `downloads` holds what xtalgen fetched.
    """
    return Path(configured or os.environ.get(VARIABLE) or user_cache() / "data").expanduser()
