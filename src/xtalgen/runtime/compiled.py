"""Compilation of loops by Numba, cached on disk so that each function is compiled once, not once per process."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function compiled by Numba when it is first called.

    The machine code is cached beside the source, or in NUMBA_CACHE_DIR or the user's cache folder where that is not
    writable; if no folder is writable, every process compiles again. A change of the function's own file invalidates
    the cache, a change of another file does not: compiled functions use only names that their own file defines. They
    carry `typing.no_type_check` below this decorator, since a type checker's wrapper cannot be compiled.
    """
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # Numba's "no locator available": no writable folder for the machine code
        return numba.njit(function)
