"""The one way to compile a loop: Numba, kept on disk so that no process compiles again what another has compiled."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function compiled by Numba when it is first called.

    The machine code is kept beside the source, or in NUMBA_CACHE_DIR or the user's cache folder where that cannot be
    written; where nothing can be written every process compiles anew. What is kept is compiled again when the
    function's own file changes, but not when another does: compiled functions use only what their own file defines.
    Their definitions carry `typing.no_type_check` below this decorator: a type checker's wrapper cannot be compiled.
    """
    try:
        return numba.njit(cache=True)(function)
    except RuntimeError:  # Numba's "no locator available": no folder for the machine code
        return numba.njit(function)
